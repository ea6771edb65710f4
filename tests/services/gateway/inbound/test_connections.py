"""No connection lives for ever, and no client has all of them."""

import asyncio
from ipaddress import ip_network

import pytest
from starlette.types import Receive, Send

from services.gateway.inbound import connections, http_protocol
from services.gateway.inbound.connections import Connections
from services.gateway.inbound.http_protocol import GuardedProtocol
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Seen, Services
from tests.services.gateway.wire import Wire
from tests.support.polling import eventually

_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class _Held:
    """A connection that notes when it is closed."""

    closed = False

    def close_unused(self) -> None:
        self.closed = True


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADER_SECONDS", "IDLE_SECONDS", "DRAIN_SECONDS"):
        monkeypatch.setattr(http_protocol, name, 0.4)


async def _ended_although(wire: Wire, trickle: bytes) -> None:
    """The server closes the connection although the client goes on sending."""
    end = asyncio.create_task(wire.ended())
    async with asyncio.timeout(5):
        while not end.done():
            try:
                await wire.send(trickle)
            except ConnectionError:
                break
            await asyncio.sleep(0.05)
        await end


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("trickle", [b"\r\n", b"\n"])
async def test_line_ends_do_not_keep_a_connection(gateway: Gateway, trickle: bytes) -> None:
    wire = await gateway.wire()
    await wire.send(_HEALTH)
    assert (await wire.answer()).status == 200
    await _ended_although(wire, trickle)
    await _ended_although(await gateway.wire(), trickle)


async def test_an_unused_connection_is_kept_longer_than_clients_keep_theirs(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http_protocol.IDLE_SECONDS > 60
    accept = GuardedProtocol.connection_made

    def with_a_short_deadline_of_uvicorns(self: GuardedProtocol, transport: asyncio.Transport) -> None:
        self.timeout_keep_alive = 0
        accept(self, transport)

    monkeypatch.setattr(GuardedProtocol, "connection_made", with_a_short_deadline_of_uvicorns)
    wire = await gateway.wire()
    for _ in range(2):
        await wire.send(_HEALTH)
        assert (await wire.answer()).status == 200
        await asyncio.sleep(0.05)


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize(
    "beginning",
    [
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n",
        b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
    ],
)
async def test_the_rest_of_a_body_that_was_answered_does_not_keep_a_connection(
    gateway: Gateway, beginning: bytes
) -> None:
    wire = await gateway.wire()
    await wire.send(beginning)
    assert (await wire.head()).status in (200, 404)
    await _ended_although(wire, b"a")


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("beginning", [b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "])
async def test_headers_by_the_byte_do_not_keep_a_connection(gateway: Gateway, beginning: bytes) -> None:
    wire = await gateway.wire()
    await wire.send(_HEALTH)
    assert (await wire.answer()).status == 200
    await wire.send(beginning)
    await _ended_although(wire, b"a")


async def test_a_body_answered_before_its_end_leaves_the_connection_usable(gateway: Gateway) -> None:
    wire = await gateway.wire()
    await wire.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    assert (await wire.answer()).status == 404
    await wire.send(b"defghij" + _HEALTH)
    assert (await wire.answer()).status == 200


@pytest.mark.parametrize(
    "around",
    [
        b"1;" + b"e" * 60_000 + b"\r\na\r\n",
        b"1\r\na\r\n0\r\nTrailer: " + b"t" * 60_000,
        b"1\r\na\r\n0\r\n" + b"T: t\r\n" * 10_000,
    ],
)
async def test_what_surrounds_a_body_is_bounded_by_the_body(
    gateway: Gateway, services: Services, around: bytes
) -> None:
    headers, _ = services.identity.new_key()
    wire = await gateway.wire()
    await wire.send(
        f"POST /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    refused = asyncio.create_task(wire.answer())
    for start in range(0, len(around), 4096):
        await wire.send(around[start : start + 4096])
        await asyncio.wait([refused], timeout=0.05)
        if refused.done():
            break
    assert (await refused).status == 400
    assert all(seen.body == b"" for seen in services.projects.seen)


async def test_a_client_that_does_not_read_keeps_nothing(
    start_gateway: StartGateway, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 0.3)
    gateway = await start_gateway(idle_seconds=0.3)
    headers, _ = services.identity.new_key()

    async def pour(_seen: Seen, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"a" * 65_536, "more_body": True})
        await send({"type": "http.response.body"})

    path = "/v1/projects/1/documents/2/content"
    services.projects.answers[path] = pour
    wire = await gateway.wire()
    await wire.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n".encode())
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def gone() -> bool:
        return len(gateway.resources.connections) == 0

    await eventually(gone)


async def test_an_address_has_so_many_waiting_connections_and_the_oldest_goes(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(waiting_per_address=3)
    wires = [await gateway.wire() for _ in range(6)]
    assert await wires[0].ended() == b""
    await wires[5].send(_HEALTH)
    assert (await wires[5].answer()).status == 200
    assert gateway.resources.connections.waiting_of("127.0.0.1") == 3
    assert gateway.resources.connections.closed == 3


async def test_a_crowd_has_less_time_for_its_headers(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SHARE", 2)
    monkeypatch.setattr(http_protocol, "CROWDED_SECONDS", 0.2)
    gateway = await start_gateway()
    wires = [await gateway.wire() for _ in range(5)]
    for wire in wires[2:]:
        assert await wire.ended() == b""
    await wires[0].send(_HEALTH)
    assert (await wires[0].answer()).status == 200


async def test_past_the_limit_in_all_the_longest_waiting_goes_and_else_the_new_one(
    start_gateway: StartGateway, services: Services
) -> None:
    gateway = await start_gateway(client_connections=2)
    headers, _ = services.identity.new_key()
    release = asyncio.Event()

    async def wait(_seen: Seen, _receive: Receive, send: Send) -> None:
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    services.projects.answers["/v1/projects"] = wait
    request = f"GET /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n".encode()
    busy, waiting, new = [await gateway.wire() for _ in range(2)] + [await gateway.wire()]
    # The first two have waited longer than the new one; one of them went.
    assert await busy.ended() == b""
    for wire in (waiting, new):
        await wire.send(request)

    async def both() -> bool:
        return len(services.projects.seen) == 2

    await eventually(both)
    refused = await gateway.wire()
    answer = await refused.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    release.set()
    for wire in (waiting, new):
        assert (await wire.answer()).status == 200


def test_one_clients_connections_are_counted_by_its_address() -> None:
    held = Connections(most=100, most_waiting=2, trusted_proxies=(ip_network("10.0.0.0/8"),))
    of_one = [_Held() for _ in range(4)]
    for number, connection in enumerate(of_one):
        assert held.admit(connection, f"2001:db8:0:1::{number}")
    assert [connection.closed for connection in of_one] == [True, True, False, False]
    other, *proxied = [_Held() for _ in range(6)]
    assert held.admit(other, "2001:db8:0:2::1")
    for connection in proxied:
        assert held.admit(connection, "::ffff:10.0.0.1")
    assert not any(connection.closed for connection in (other, *proxied)), "a trusted proxy has no share of its own"
    for connection in (*of_one, other, *proxied):
        held.leave(connection)
    assert (len(held), held.waiting_of("2001:db8:0:1::1")) == (0, 0)
    assert not held._by_client
    assert not held._waiting
