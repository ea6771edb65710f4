"""Bytes flow through the gateway: at once, in constant memory, and only as long as both ends are there."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from starlette.types import Receive, Send

from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Answer, Seen, ServiceDouble, Services, reply
from tests.support.polling import eventually

PROJECT = "/v1/projects/0198c0de-0000-7000-8000-000000000001"
DOCUMENTS = f"{PROJECT}/documents"
CONTENT = f"{DOCUMENTS}/x/content"
EVENTS = f"{PROJECT}/events"
MEBIBYTE = bytes(range(256)) * 4096


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _mebibytes(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield MEBIBYTE


def _connections_in_use(gateway: Gateway) -> int:
    connectors = [
        session.connector
        for upstream in gateway.resources.upstreams.values()
        for session in (upstream.short, upstream.transfers, upstream.streams)
    ]
    return sum(len(connector._acquired) for connector in connectors if connector is not None)


async def _quiet(gateway: Gateway, service: ServiceDouble) -> None:
    """Wait until nothing is under way: no request at the service, no connection held, no place taken."""

    async def quiet() -> bool:
        taken = sum(upstream.in_flight for upstream in gateway.resources.upstreams.values())
        return not (service.running or taken or _connections_in_use(gateway))

    await eventually(quiet)


async def test_a_large_upload_passes_whole_and_in_constant_memory(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    peak = _resident()

    async def store(_seen: Seen, receive: Receive, send: Send) -> None:
        nonlocal peak
        digest, size, more = hashlib.sha256(), 0, True
        while more:
            message = await receive()
            digest.update(message.get("body", b""))
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            peak = max(peak, _resident())
        await reply(send, {"size": size, "sha256": digest.hexdigest()}, status=201)

    services.projects.answers[DOCUMENTS] = store
    async with gateway.client.post(DOCUMENTS, data=_mebibytes(4), headers=headers) as answer:
        assert answer.status == 201
    before = peak = _resident()
    async with gateway.client.post(DOCUMENTS, data=_mebibytes(200), headers=headers) as answer:
        assert answer.status == 201
        stored = await answer.json()
    digest = hashlib.sha256()
    for _ in range(200):
        digest.update(MEBIBYTE)
    assert stored == {"size": 200 * len(MEBIBYTE), "sha256": digest.hexdigest()}
    assert peak - before < 24 * 1024**2


async def test_a_service_that_does_not_read_stops_the_client(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    go_on = asyncio.Event()
    produced = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(64):
            produced += 1
            yield MEBIBYTE

    async def patient(_seen: Seen, receive: Receive, send: Send) -> None:
        await go_on.wait()
        while (await receive()).get("more_body", False):
            pass
        await reply(send, {})

    services.projects.answers[DOCUMENTS] = patient
    upload = asyncio.create_task(_status(gateway, "POST", DOCUMENTS, headers, counted()))
    await _still(lambda: produced)
    assert 0 < produced < 32
    go_on.set()
    assert await upload == 200
    assert produced == 64


async def test_a_client_that_does_not_read_stops_the_service(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    produced = 0

    async def flood(_seen: Seen, _receive: Receive, send: Send) -> None:
        nonlocal produced
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(64):
            await send({"type": "http.response.body", "body": MEBIBYTE, "more_body": True})
            produced += 1
        await send({"type": "http.response.body"})

    services.projects.answers[CONTENT] = flood
    async with gateway.client.get(CONTENT, headers=headers) as answer:
        await _still(lambda: produced)
        assert produced < 32
        assert len(await answer.read()) == 64 * len(MEBIBYTE)
    await _quiet(gateway, services.projects)


async def test_an_event_arrives_when_it_is_sent(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    go_on: asyncio.Queue[bytes] = asyncio.Queue()
    services.notifier.answers[EVENTS] = _event_stream(go_on)
    async with gateway.client.get(EVENTS, headers={**headers, "Accept-Encoding": "gzip"}) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        for number in range(5):
            await go_on.put(b"id: %d\ndata: {}\n\n" % number)
            async with asyncio.timeout(5):
                assert await answer.content.readuntil(b"\n\n") == b"id: %d\ndata: {}\n\n" % number
        await go_on.put(b"")
        assert await answer.content.read() == b""
    assert services.notifier.last.header("accept-encoding") is None
    await _quiet(gateway, services.notifier)


async def test_an_event_stream_may_be_silent_past_every_deadline(
    start_gateway: StartGateway, services: Services
) -> None:
    gateway = await start_gateway(deadline_seconds=0.2, idle_seconds=0.2)
    headers, _ = services.identity.new_key()
    go_on: asyncio.Queue[bytes] = asyncio.Queue()
    services.notifier.answers[EVENTS] = _event_stream(go_on)
    async with gateway.client.get(EVENTS, headers=headers) as answer:
        line = asyncio.create_task(answer.content.readline())
        done, _ = await asyncio.wait([line], timeout=1)
        assert not done
        await go_on.put(b"data: late\n\n")
        assert await line == b"data: late\n"


async def test_a_client_that_leaves_ends_its_event_stream_at_once(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    services.notifier.answers[EVENTS] = _event_stream(asyncio.Queue())
    answers = await asyncio.gather(*(gateway.client.get(EVENTS, headers=headers) for _ in range(50)))
    assert services.notifier.running == 50
    for answer in answers:
        answer.close()
    await _quiet(gateway, services.notifier)


async def test_a_client_that_pipelines_behind_a_stream_cannot_leave_it_open(
    gateway: Gateway, services: Services
) -> None:
    headers, _ = services.identity.new_key()
    services.notifier.answers[EVENTS] = _event_stream(asyncio.Queue())
    wire = await gateway.wire()
    request = f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n".encode()
    await wire.send(request)
    assert (await wire.head()).status == 200
    await wire.send(request)
    wire.close()
    await _quiet(gateway, services.notifier)


async def test_stopping_the_gateway_completes_open_event_streams(
    start_gateway: StartGateway, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start_gateway()
    headers, _ = services.identity.new_key()
    services.notifier.answers[EVENTS] = _event_stream(asyncio.Queue())
    async with gateway.client.get(EVENTS, headers=headers) as answer:
        gateway.server.should_exit = True
        assert await answer.content.read() == b""  # the end of the body, not a broken connection
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("path", [PROJECT, DOCUMENTS, CONTENT, f"{PROJECT}/search"])
async def test_clients_that_abort_leave_nothing_behind(gateway: Gateway, services: Services, path: str) -> None:
    headers, _ = services.identity.new_key()
    service = services.indexing if path.endswith("search") else services.projects
    arrived = 0

    async def never(_seen: Seen, receive: Receive, _send: Send) -> None:
        nonlocal arrived
        arrived += 1
        while (await receive())["type"] != "http.disconnect":
            pass

    service.answers[path] = never
    authorization = headers["Authorization"]
    body = "Content-Length: 100000\r\n\r\nabc" if path != CONTENT else "\r\n"
    method = "GET" if path == CONTENT else "POST"
    for _ in range(40):
        wire = await gateway.wire()
        await wire.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n{body}".encode())

    async def all_there() -> bool:
        # A body that is no upload reaches no service before it is whole.
        return arrived + gateway.resources.load_shedder.bodies.taken == 40

    await eventually(all_there)
    for wire in gateway.wires:
        wire.close()
    await _quiet(gateway, service)
    assert gateway.breaker("projects").state == "closed"
    del service.answers[path]
    assert await _status(gateway, "GET", "/v1/projects", headers) == 200


async def test_a_body_that_breaks_off_does_not_pass_for_a_whole_one(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    ends: list[str] = []

    async def record(_seen: Seen, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                ends.append("cut")
                return
            if not message.get("more_body", False):
                ends.append("whole")
                await reply(send, {})
                return

    services.projects.answers[DOCUMENTS] = record
    wire = await gateway.wire()
    await wire.send(
        f"POST {DOCUMENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".encode()
    )

    async def begun() -> bool:
        return bool(services.projects.seen)

    await eventually(begun)
    wire.close()
    await _quiet(gateway, services.projects)
    assert ends == ["cut"]


@pytest.mark.parametrize("length", [b"100000", b""])
async def test_an_answer_that_breaks_off_does_not_pass_for_a_whole_one(
    gateway: Gateway, services: Services, length: bytes
) -> None:
    headers, _ = services.identity.new_key()

    async def breaks(_seen: Seen, _receive: Receive, send: Send) -> None:
        headers = [(b"content-length", length)] if length else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})

    services.projects.answers[CONTENT] = breaks
    with pytest.raises(aiohttp.ClientPayloadError):
        async with gateway.client.get(CONTENT, headers=headers) as answer:
            assert answer.status == 200
            await answer.read()
    await _quiet(gateway, services.projects)


async def test_a_short_answer_that_breaks_off_is_502(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()

    async def breaks(_seen: Seen, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})

    for path in ("/v1/projects", CONTENT):
        services.projects.answers[path] = breaks
        async with gateway.client.get(path, headers=headers) as answer:
            assert answer.status == 502
            assert (await answer.json())["code"] == "bad_upstream_answer"


async def test_an_early_answer_ends_an_upload(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()

    async def refuse(_seen: Seen, _receive: Receive, send: Send) -> None:
        await reply(send, {"code": "too_large"}, status=413)

    services.projects.answers[DOCUMENTS] = refuse
    wire = await gateway.wire()
    await wire.send(
        f"POST {DOCUMENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n"
        "Content-Length: 1000000\r\n\r\nabc".encode()
    )
    assert (await wire.answer()).status == 413
    await _quiet(gateway, services.projects)


async def test_a_client_that_waits_for_continue_is_told_to_only_when_admitted(
    gateway: Gateway, services: Services
) -> None:
    headers, _ = services.identity.new_key()
    wire = await gateway.wire()
    start = f"POST {DOCUMENTS} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
    await wire.send(f"{start}Authorization: {headers['Authorization']}\r\n\r\n".encode())
    assert (await wire.head()).status == 100
    await wire.send(b"abc")
    assert (await wire.answer()).status == 200
    assert services.projects.last.body == b"abc"
    wire = await gateway.wire()
    await wire.send(f"{start}\r\n".encode())
    assert (await wire.answer()).status == 401


def _event_stream(events: "asyncio.Queue[bytes]") -> Answer:
    """Sends what is put into `events`, until an empty chunk or until the client leaves."""

    async def stream(_seen: Seen, receive: Receive, send: Send) -> None:
        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        gone = asyncio.create_task(until_gone())
        more = True
        while more:
            event = asyncio.create_task(events.get())
            await asyncio.wait([gone, event], return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                event.cancel()
                return
            more = bool(event.result())
            await send({"type": "http.response.body", "body": event.result(), "more_body": more})
        gone.cancel()

    return stream


async def _status(
    gateway: Gateway, method: str, path: str, headers: dict[str, str], data: AsyncIterator[bytes] | None = None
) -> int:
    async with gateway.client.request(method, path, headers=headers, data=data) as answer:
        return answer.status


async def _still(count: Callable[[], int]) -> None:
    """Wait until `count()` has not moved for a while."""
    last, since = count(), asyncio.get_running_loop().time()

    async def still() -> bool:
        nonlocal last, since
        now = asyncio.get_running_loop().time()
        if count() != last:
            last, since = count(), now
        return bool(last) and now - since > 0.5

    await eventually(still, within=20)
