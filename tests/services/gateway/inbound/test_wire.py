"""Attacks below HTTP semantics, with raw sockets against the real server."""

import asyncio
import json

import pytest

from services.gateway.inbound import http_protocol
from tests.services.gateway.conftest import Gateway
from tests.services.gateway.doubles import Services
from tests.services.gateway.wire import RawAnswer
from tests.support.polling import eventually

_SMUGGLED = b"GET /v1/webhooks HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _SMUGGLED,
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + _SMUGGLED,
        b"Content-Length: 0\r\nContent-Length: 43\r\n\r\n" + _SMUGGLED,
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + _SMUGGLED,
        b"Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n" + _SMUGGLED,
        b"Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n" + _SMUGGLED,
        b"X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n" + _SMUGGLED,
        b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 0x5\r\n\r\nabcde",
        b"Transfer-Encoding: chunked\r\n\r\n5;a=\nb\r\nabcde\r\n0\r\n\r\n" + _SMUGGLED,
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    ],
)
async def test_a_request_with_two_readings_goes_nowhere(gateway: Gateway, services: Services, framing: bytes) -> None:
    headers, _ = services.identity.new_key()
    wire = await gateway.wire()
    start = f"POST /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n".encode()
    await wire.send(start + framing)
    answer = await wire.answer()
    assert answer.status >= 400
    wire.close()
    assert not services.notifier.seen
    assert all(seen.body == b"" for seen in services.projects.seen)


async def test_a_pipelined_request_is_not_taken_and_the_first_is_answered(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    request = f"GET /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n".encode()
    wire = await gateway.wire()
    await wire.send(request * 3)
    answer = await wire.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await wire.ended() == b""
    assert len(services.projects.seen) == 1


async def test_one_connection_serves_one_request_after_another(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    request = f"GET /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n".encode()
    wire = await gateway.wire()
    for _ in range(3):
        await wire.send(request)
        assert (await wire.answer()).status == 200
    wire.close()


async def test_headers_without_end_are_cut_off(gateway: Gateway) -> None:
    wire = await gateway.wire()
    await wire.send(b"GET /v1/projects HTTP/1.1\r\nHost: x\r\nX-Big: ")
    with pytest.raises(ConnectionError):
        for _ in range(200):
            await wire.send(b"a" * 16_384)
            await asyncio.sleep(0)
            if wire.reader.at_eof():
                raise ConnectionError
    wire.close()


async def test_headers_that_are_too_large_are_431(gateway: Gateway) -> None:
    wire = await gateway.wire()
    await wire.send(b"GET /v1/projects HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 40_000 + b"\r\n\r\n")
    answer = await wire.answer()
    assert answer.status == 431
    assert b"headers_too_large" in answer.body
    wire = await gateway.wire()
    await wire.send(b"GET /v1/projects HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 80_000)
    cut = await wire.answer()
    assert_is_a_problem(cut, 431, "headers_too_large")
    assert await wire.ended() == b""


async def test_what_is_no_request_is_told_as_every_error_is(gateway: Gateway) -> None:
    wire = await gateway.wire()
    await wire.send(b"nothing of the kind\r\n\r\n")
    assert_is_a_problem(await wire.answer(), 400, "invalid_request")
    assert await wire.ended() == b""


@pytest.mark.parametrize("length", [9_000, 60_000, 80_000])
async def test_an_address_that_is_too_long_is_told_as_every_error_is(gateway: Gateway, length: int) -> None:
    wire = await gateway.wire()
    await wire.send(b"GET /v1/projects?" + b"a" * length + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert_is_a_problem(await wire.answer(), 414, "address_too_long")
    assert await wire.ended() == b""


def assert_is_a_problem(answer: RawAnswer, status: int, code: str) -> None:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = json.loads(answer.body)
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == answer.headers["x-request-id"]


async def test_headers_that_do_not_come_are_not_waited_for(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEADER_SECONDS", 0.2)
    for beginning in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"):
        wire = await gateway.wire()
        await wire.send(beginning)
        assert await wire.ended() == b""


async def test_trailers_do_not_become_headers(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    wire = await gateway.wire()
    await wire.send(
        b"POST /v1/projects HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Authorization: " + headers["Authorization"].encode() + b"\r\n\r\n"
        b"3\r\nabc\r\n0\r\nIf-Match: trailed\r\n\r\n"
    )
    assert (await wire.answer()).status == 200
    wire.close()
    assert services.projects.last.body == b"abc"
    assert services.projects.last.header("if-match") is None


async def test_an_upgrade_is_answered_as_a_plain_request(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    for protocol in (b"websocket", b"h2c"):
        wire = await gateway.wire()
        await wire.send(
            b"GET /v1/projects HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
            + protocol
            + b"\r\n"
            b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nAuthorization: "
            + headers["Authorization"].encode()
            + b"\r\n\r\n"
        )
        assert (await wire.answer()).status == 200
        wire.close()
        assert services.projects.last.header("upgrade") is None


async def test_garbage_is_400_and_the_server_lives(gateway: Gateway) -> None:
    wire = await gateway.wire()
    await wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert (await wire.answer()).status == 400
    assert await wire.ended() == b""

    async def alive() -> bool:
        async with gateway.client.get("/healthz") as answer:
            return answer.status == 200

    await eventually(alive)
