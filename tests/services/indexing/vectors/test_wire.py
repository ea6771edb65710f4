import pytest

from services.indexing.vectors.embedded import wire


def test_frames_come_out_whole_however_they_arrive() -> None:
    requests = [wire.Request(id=number, op="count", args={"text": "ü" * number}) for number in range(20)]
    stream = b"".join(map(wire.encode, requests))

    for step in (1, 3, 7, len(stream)):
        buffer = wire.FrameBuffer()
        pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
        assert [request for piece in pieces for request in buffer.feed(piece)] == requests


def test_a_frame_that_is_too_large_is_refused_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME", 100)
    with pytest.raises(wire.FrameTooLarge):
        wire.encode({"id": 1, "op": "x" * 200, "args": {}})
    with pytest.raises(wire.FrameTooLarge):
        list(wire.FrameBuffer().feed(b"\x00\x00\x01\x00"))
