"""What a client gets when a service is away, slow or makes no sense: an answer, soon, and never a stack trace."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Send

from services.gateway.proxy import body
from shared.circuit_breaker import State
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Seen, ServiceDouble, Services, reply
from tests.support.polling import eventually
from tests.support.serving import serve

DOCUMENTS = "/v1/projects/1/documents"


@pytest.fixture
def dead_url() -> str:
    """An address where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def _status(gateway: Gateway, headers: dict[str, str], path: str = "/v1/projects") -> int:
    async with gateway.client.get(path, headers=headers) as answer:
        await answer.read()
        return answer.status


async def test_a_service_that_is_away_is_503_with_retry_after_and_opens_the_breaker(
    start_gateway: StartGateway, services: Services, dead_url: str
) -> None:
    gateway = await start_gateway(projects_url=dead_url, retry_seconds=0)
    headers, _ = services.identity.new_key()
    for _ in range(6):
        async with gateway.client.get("/v1/projects", headers=headers) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            problem = await answer.json()
            assert (answer.content_type, problem["code"]) == ("application/problem+json", "unavailable")
            assert dead_url.removeprefix("http://") not in str(problem)
    assert gateway.breaker("projects").state is State.OPEN
    assert await _status(gateway, headers, "/v1/webhooks") == 200  # the others are not affected


async def test_a_service_that_comes_back_is_used_again(
    start_gateway: StartGateway, services: Services, dead_url: str
) -> None:
    gateway = await start_gateway(projects_url=dead_url, retry_seconds=0)
    headers, _ = services.identity.new_key()
    for _ in range(6):
        assert await _status(gateway, headers) == 503
    async with serve(ServiceDouble("projects"), int(dead_url.rpartition(":")[2])):

        async def works() -> bool:
            return await _status(gateway, headers) == 200

        await eventually(works, within=10)
        assert gateway.breaker("projects").state is State.CLOSED


async def test_one_probe_is_sent_to_a_service_that_hangs(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(deadline_seconds=0.3, retry_seconds=0)
    headers, _ = services.identity.new_key()
    arrived = 0

    async def hang(_seen: Seen, receive: Receive, _send: Send) -> None:
        nonlocal arrived
        arrived += 1
        while (await receive())["type"] != "http.disconnect":
            pass

    services.projects.answers["/v1/projects"] = hang
    statuses = await asyncio.gather(*(_status(gateway, headers) for _ in range(5)))
    assert statuses == [504] * 5
    breaker = gateway.breaker("projects")
    assert breaker.state is State.OPEN

    async def half_open() -> bool:
        return breaker.state is State.HALF_OPEN

    await eventually(half_open)
    statuses = await asyncio.gather(*(_status(gateway, headers) for _ in range(20)))
    assert sorted(statuses) == [503] * 19 + [504]
    assert arrived == 6


async def test_a_service_that_does_not_answer_in_time_is_504(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(deadline_seconds=0.2, idle_seconds=0.2)
    headers, _ = services.identity.new_key()

    async def hang(_seen: Seen, receive: Receive, _send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    for path in ("/v1/projects", "/v1/projects/1/documents/2/content", "/v1/projects/1/events"):
        service = services.notifier if path.endswith("events") else services.projects
        service.answers[path] = hang
        async with gateway.client.get(path, headers=headers) as answer:
            assert answer.status == 504
            assert (await answer.json())["code"] == "upstream_timeout"


async def test_a_transfer_that_stops_midway_is_cut(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(idle_seconds=0.2)
    headers, _ = services.identity.new_key()
    path = "/v1/projects/1/documents/2/content"

    async def stop(_seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    services.projects.answers[path] = stop
    wire = await gateway.wire()
    await wire.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n".encode())
    assert (await wire.head()).status == 200
    assert await wire.ended() == b"1\r\na\r\n"

    async def idle() -> bool:
        return services.projects.running == 0

    await eventually(idle)


async def test_a_body_that_stops_coming_is_408(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(idle_seconds=0.3, deadline_seconds=0.3)
    headers, _ = services.identity.new_key()
    for path in (DOCUMENTS, "/v1/projects"):
        wire = await gateway.wire()
        await wire.send(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n"
            "Content-Length: 10\r\n\r\nabc".encode()
        )
        answer = await wire.answer()
        assert answer.status == 408
        assert b"request_timeout" in answer.body


async def test_an_upload_by_the_byte_is_not_waited_for(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(idle_seconds=0.5, slowest_bytes_per_second=1000)
    headers, _ = services.identity.new_key()

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"a"
            await asyncio.sleep(0.05)

    async with gateway.client.post(DOCUMENTS, data=drip(), headers=headers) as answer:
        assert answer.status == 408


async def test_a_slow_upload_above_the_least_rate_passes(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(idle_seconds=0.5, slowest_bytes_per_second=10)
    headers, _ = services.identity.new_key()

    async def flow() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"a" * 100
            await asyncio.sleep(0.05)

    async with gateway.client.post(DOCUMENTS, data=flow(), headers=headers) as answer:
        assert answer.status == 200
    assert len(services.projects.last.body) == 2000


async def test_bodies_over_the_limit_are_413(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(max_body_bytes=1000, max_upload_bytes=100_000)
    headers, _ = services.identity.new_key()

    async def chunked(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 1000):
            yield b"a" * 1000

    for path, small, large in (("/v1/projects", 1000, 2000), (DOCUMENTS, 100_000, 200_000)):
        async with gateway.client.post(path, data=b"a" * small, headers=headers) as answer:
            assert answer.status == 200
        async with gateway.client.post(path, data=b"a" * large, headers=headers) as answer:
            assert answer.status == 413
            assert (await answer.json())["code"] == "too_large"
        async with gateway.client.post(path, data=chunked(large), headers=headers) as answer:
            assert answer.status == 413
    assert gateway.breaker("projects").state is State.CLOSED


async def test_a_safe_request_is_repeated_once_and_an_unsafe_one_never(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    arrived: list[str] = []

    async def break_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append((await reader.readline()).split()[0].decode())
        await reader.readuntil(b"\r\n\r\n")
        if len(arrived) == 2:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(break_once, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        gateway.move("projects", f"http://127.0.0.1:{port}")
        assert await _status(gateway, headers) == 200
        assert arrived == ["GET", "GET"]
        for method in ("POST", "DELETE", "PUT", "PATCH"):
            arrived.clear()
            async with gateway.client.request(method, "/v1/projects", headers=headers) as answer:
                assert answer.status == 503
            assert arrived == [method]


async def test_a_piece_of_an_upload_is_never_sent_twice(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    arrived: list[bytes] = []

    async def take_and_die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.readuntil(b"piece"))
        writer.close()

    server = await asyncio.start_server(take_and_die, "127.0.0.1", 0)
    async with server:
        gateway.move("projects", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        path = "/v1/projects/x/uploads/y"
        async with gateway.client.patch(path, data=b"piece", headers=headers) as answer:
            assert answer.status == 503
    assert len(arrived) == 1


async def test_a_request_that_never_left_is_repeated_whatever_its_method(
    start_gateway: StartGateway, services: Services, dead_url: str
) -> None:
    gateway = await start_gateway(projects_url=dead_url)
    headers, _ = services.identity.new_key()
    upload = asyncio.create_task(gateway.client.post(DOCUMENTS, data=b"abc", headers=headers))

    async def waits() -> bool:
        return gateway.resources.upstreams["projects"].waiting == 1

    await eventually(waits)
    bodies = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        bodies.append(await reader.readexactly(3))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", int(dead_url.rpartition(":")[2]))
    async with server, await upload as answer:
        assert answer.status == 200
    assert bodies == [b"abc"]


@pytest.mark.parametrize(
    "answer_bytes",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_an_answer_that_makes_no_sense_is_502(gateway: Gateway, services: Services, answer_bytes: bytes) -> None:
    headers, _ = services.identity.new_key()

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer_bytes)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    async with server:
        gateway.move("projects", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with gateway.client.get("/v1/projects", headers=headers) as answer:
            assert answer.status == 502
            assert (await answer.json())["code"] == "bad_upstream_answer"


async def test_errors_of_a_service_pass_as_they_are(gateway: Gateway, services: Services) -> None:
    headers, _ = services.identity.new_key()

    async def fails(_seen: Seen, _receive: Receive, send: Send) -> None:
        await reply(send, {"code": "x"}, status=500)

    services.projects.answers["/v1/projects"] = fails
    for _ in range(10):
        assert await _status(gateway, headers) == 500
    assert gateway.breaker("projects").state is State.CLOSED


async def test_more_than_a_service_can_take_is_refused_early(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(in_flight=2, transfers_per_tenant=1)
    headers, _ = services.identity.new_key()
    release = asyncio.Event()

    async def wait(_seen: Seen, _receive: Receive, send: Send) -> None:
        await release.wait()
        await reply(send, {})

    services.projects.answers["/v1/projects/1/documents/2/content"] = wait
    services.projects.answers["/v1/projects"] = wait
    transfer = asyncio.create_task(_status(gateway, headers, "/v1/projects/1/documents/2/content"))

    async def one() -> bool:
        return len(services.projects.seen) == 1

    await eventually(one)
    async with gateway.client.get("/v1/projects/1/documents/2/content", headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (429, "too_many_transfers")
    short = asyncio.create_task(_status(gateway, headers))

    async def both() -> bool:
        return len(services.projects.seen) == 2

    await eventually(both)
    assert await _status(gateway, headers) == 503
    assert await _status(gateway, headers, "/v1/webhooks") == 200
    release.set()
    assert (await transfer, await short) == (200, 200)
    assert await _status(gateway, headers, "/v1/projects/1/documents/2/content") == 200


async def test_a_defect_of_the_gateway_is_a_bare_500(
    gateway: Gateway, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers, _ = services.identity.new_key()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(body.RequestBody, "__init__", broken)
    async with gateway.client.get("/v1/projects", headers=headers) as answer:
        assert answer.status == 500
        assert answer.headers["X-Request-ID"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        text = await answer.text()
    assert "internal_error" in text
    assert "secret detail" not in text


async def test_a_websocket_is_refused(gateway: Gateway) -> None:
    sent = []

    async def send(message: object) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    await gateway.app({"type": "websocket", "path": "/v1/events", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
