"""One tenant, and one address, has its share of whatever requests hold, and no more."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from starlette.types import Receive, Send

from services.gateway.admission.concurrency_limits import Bounds, ConcurrencyLimit, Memory, TooManyAtOnce, TooMuchAtOnce
from shared.errors import Unavailable
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Seen, Services, reply
from tests.support.polling import eventually


async def _until(count: int, shares: ConcurrencyLimit) -> None:
    async def reached() -> bool:
        return shares.waiting == count

    await eventually(reached)


async def _hold(shares: ConcurrencyLimit, holder: str, order: list[str], release: asyncio.Event) -> None:
    async with shares.take(holder):
        order.append(holder)
        await release.wait()


async def test_a_holder_has_its_share_and_another_does_not_wait_for_it() -> None:
    shares = ConcurrencyLimit(Bounds(most=4, share=2), "It is")
    async with AsyncExitStack() as stack:
        for holder in ("a", "a", "b"):
            await stack.enter_async_context(shares.take(holder))
        with pytest.raises(TooManyAtOnce):
            async with shares.take("a"):
                pass
        await stack.enter_async_context(shares.take("c"))
        with pytest.raises(Unavailable):
            async with shares.take("d"):
                pass
    assert (shares.taken, shares.waiting, shares._held) == (0, 0, {})


async def test_those_who_wait_take_turns() -> None:
    shares = ConcurrencyLimit(Bounds(most=2, share=2, waiting=8, waiting_in_all=16, seconds=60), "It is")
    release = asyncio.Event()
    order: list[str] = []
    first = asyncio.Event()
    holding = [asyncio.create_task(_hold(shares, "a", order, first)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(_hold(shares, "a", order, release)) for _ in range(6)]
    await _until(6, shares)
    waiting.append(asyncio.create_task(_hold(shares, "b", order, release)))
    await _until(7, shares)
    first.set()
    await asyncio.gather(*holding)
    release.set()
    await asyncio.gather(*waiting)
    assert sorted(order[2:4]) == ["a", "b"], "not behind the six of the other"
    assert (shares.taken, shares.waiting, shares._held, len(shares._queues)) == (0, 0, {}, 0)


async def test_waiting_is_bounded_in_number_and_time() -> None:
    shares = ConcurrencyLimit(Bounds(most=1, share=1, waiting=2, waiting_in_all=3, seconds=0.2), "It is")
    release = asyncio.Event()
    holding = asyncio.create_task(_hold(shares, "a", [], release))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(_hold(shares, holder, [], release)) for holder in "aab"]
    await _until(3, shares)
    for holder, refusal in (("a", TooManyAtOnce), ("c", Unavailable)):
        with pytest.raises(refusal):
            async with shares.take(holder):
                pass
    given_up = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in given_up] == [TooManyAtOnce, TooManyAtOnce, Unavailable]
    assert all(getattr(error, "retry_after", None) for error in given_up)
    release.set()
    await holding
    assert (shares.taken, shares.waiting, len(shares._queues)) == (0, 0, 0)


async def test_who_leaves_while_it_waits_leaves_nothing_behind() -> None:
    shares = ConcurrencyLimit(Bounds(most=1, share=1, waiting=4, waiting_in_all=4, seconds=60), "It is")
    release = asyncio.Event()
    order: list[str] = []
    holding = asyncio.create_task(_hold(shares, "a", order, release))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(_hold(shares, "b", order, release)) for _ in range(3)]
    await _until(3, shares)
    waiting[0].cancel()
    release.set()
    await holding
    waiting[1].cancel()  # its turn may have come in this moment
    await asyncio.wait(waiting)
    assert order[-1] == "b"
    assert (shares.taken, shares.waiting, shares._held, len(shares._queues)) == (0, 0, {}, 0)


def test_memory_is_shared_and_given_back() -> None:
    memory = Memory(most=100, share=40)
    with memory.kept("a") as keep, memory.kept("b") as keep_other, memory.kept("c") as keep_third:
        keep(40)
        with pytest.raises(TooMuchAtOnce):
            keep(1)
        keep_other(40)
        with pytest.raises(Unavailable):
            keep_third(21)
    assert (memory.taken, memory._held) == (0, {})


# --- through the gateway ---------------------------------------------------------------------------------------------


async def _status(gateway: Gateway, headers: dict[str, str], path: str = "/v1/projects", method: str = "GET") -> int:
    async with gateway.client.request(method, path, headers=headers) as answer:
        await answer.read()
        return answer.status


async def test_bodies_that_do_not_come_take_no_connection_to_a_service(gateway: Gateway, services: Services) -> None:
    """Two hundred and eighty sockets of one key, a byte of a hundred on each."""
    headers, _ = services.identity.new_key()
    for path in ("/v1/projects", "/v1/me"):
        for _ in range(140):
            wire = await gateway.wire()
            await wire.send(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n"
                "Content-Length: 100\r\n\r\na".encode()
            )
    bodies = gateway.resources.load_shedder.bodies

    async def all_there() -> bool:
        return bodies.taken + bodies.waiting == 280

    await eventually(all_there)
    assert bodies.taken == gateway.resources.settings.bodies_per_tenant
    assert not services.projects.seen
    assert all(upstream.in_flight == 0 for upstream in gateway.resources.upstreams.values())
    neighbour, _ = services.identity.new_key()  # whose exchange needs identity
    for path in ("/v1/projects", "/v1/me"):
        assert await _status(gateway, neighbour, path) == 200
        async with gateway.client.post(path, headers=neighbour, json={}) as answer:
            assert answer.status == 200
    for wire in gateway.wires:
        wire.close()

    async def quiet() -> bool:
        return bodies.taken == bodies.waiting == gateway.resources.load_shedder.memory.taken == 0

    await eventually(quiet)


async def test_a_body_by_the_byte_is_not_waited_for(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(body_seconds=0.4, slowest_bytes_per_second=1000)
    headers, _ = services.identity.new_key()
    for path in ("/v1/projects", "/v1/projects/1/ask"):
        wire = await gateway.wire()
        await wire.send(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        answer = asyncio.create_task(wire.answer())
        async with asyncio.timeout(10):
            while not answer.done():
                await wire.send(b"1\r\na\r\n")
                await asyncio.wait([answer], timeout=0.05)
        assert (await answer).status == 408
    assert not services.projects.seen
    assert not services.indexing.seen


async def test_a_tenant_has_its_share_of_a_service_and_its_neighbour_gets_in(
    start_gateway: StartGateway, services: Services
) -> None:
    gateway = await start_gateway(short_per_tenant=2, waiting_per_tenant=3)
    headers, account = services.identity.new_key()
    another, _ = services.identity.new_key(tenant_id=account.tenant_id)
    release = asyncio.Event()

    async def wait(_seen: Seen, _receive: Receive, send: Send) -> None:
        await release.wait()
        await reply(send, {})

    services.projects.answers["/v1/projects"] = wait
    requests = [asyncio.create_task(_status(gateway, item)) for item in [headers] * 3 + [another] * 2]
    shares = gateway.resources.load_shedder._services["projects"].short
    await _until(3, shares)
    assert len(services.projects.seen) == 2
    async with gateway.client.get("/v1/projects", headers=another) as answer:
        assert (answer.status, (await answer.json())["code"]) == (429, "too_many_at_once")
        assert answer.headers["Retry-After"] == "1"
    neighbour, _ = services.identity.new_key()
    assert await _status(gateway, neighbour, "/v1/projects/7") == 200
    requests[0].cancel()
    requests[4].cancel()
    release.set()
    results = await asyncio.gather(*requests, return_exceptions=True)
    assert results[1:4] == [200] * 3

    async def quiet() -> bool:
        return shares.taken == shares.waiting == 0

    await eventually(quiet)


async def test_bodies_have_a_share_of_the_memory(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(body_memory_bytes=400_000)
    headers, _ = services.identity.new_key()
    async with gateway.client.post("/v1/projects", data=b"a" * 90_000, headers=headers) as answer:
        assert answer.status == 200
    async with gateway.client.post("/v1/projects", data=b"a" * 110_000, headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (429, "too_much_at_once")
    assert gateway.resources.load_shedder.memory.taken == 0


async def test_bodies_of_strangers_leave_places_and_memory_to_tenants(
    start_gateway: StartGateway, services: Services
) -> None:
    """Strangers at forty addresses, each with a fortieth of what there is, send all of it but a byte."""
    gateway = await start_gateway(bodies=40, body_memory_bytes=1_600_000, trusted_proxies="127.0.0.0/8")
    places = gateway.resources.load_shedder
    for number in range(40):
        wire = await gateway.wire()
        await wire.send(
            f"POST /auth/logout HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.{number}\r\n"
            "Content-Length: 40001\r\n\r\n".encode()
            + b"a" * 40_000
        )

    async def all_there() -> bool:
        return sum(kind.taken + kind.waiting for kind in (places.bodies, places.anonymous_bodies)) == 40

    await eventually(all_there)
    headers, _ = services.identity.new_key()
    async with gateway.client.post("/v1/projects", data=b"a" * 390_000, headers=headers) as answer:
        assert answer.status == 200
    assert (places.anonymous_bodies.taken, places.anonymous_memory.taken) == (5, 200_000)
    assert not services.identity.seen
    for wire in gateway.wires:
        wire.close()

    async def quiet() -> bool:
        return places.anonymous_bodies.taken == places.anonymous_memory.taken == places.memory.taken == 0

    await eventually(quiet)


async def test_streams_have_a_share_for_each_tenant(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(streams_per_tenant=1)
    headers, _ = services.identity.new_key()
    opened = asyncio.Event()

    async def stream(_seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b": hi\n\n", "more_body": True})
        opened.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    services.notifier.answers["/v1/events"] = stream
    async with gateway.client.get("/v1/events", headers=headers) as first:
        assert first.status == 200
        await opened.wait()
        async with gateway.client.get("/v1/events", headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (429, "too_many_streams")
        neighbour, _ = services.identity.new_key()
        async with gateway.client.get("/v1/events", headers=neighbour) as answer:
            assert answer.status == 200


# --- strangers and those who are known -------------------------------------------------------------------------------


async def test_what_strangers_do_from_an_address_refuses_no_valid_credential_there(
    start_gateway: StartGateway, services: Services
) -> None:
    gateway = await start_gateway(anonymous_per_minute=3)
    headers, _ = services.identity.new_key()
    assert [await _status(gateway, {}, "/x") for _ in range(6)] == [404] * 3 + [429] * 3
    assert await _status(gateway, headers) == 200, "although it is seen for the first time"
    session, _ = services.identity.new_session()
    assert await _status(gateway, session) == 200


async def test_who_guesses_at_an_address_locks_out_no_credential_that_has_counted_before(
    start_gateway: StartGateway, services: Services
) -> None:
    gateway = await start_gateway(guesses_per_minute=3)
    headers, account = services.identity.new_key()
    assert await _status(gateway, headers) == 200
    guesses = [await _status(gateway, {"Authorization": f"Bearer qk_{number}"}) for number in range(8)]
    assert guesses == [401] * 3 + [429] * 5
    asked = len(services.identity.exchanges)
    gateway.resources.cache.clear()  # as after a minute
    assert await _status(gateway, headers) == 200
    unseen, _ = services.identity.new_key()
    assert await _status(gateway, unseen) == 429
    assert len(services.identity.exchanges) == asked + 1
    del services.identity.accounts["api_key", headers["Authorization"].removeprefix("Bearer ")]
    gateway.resources.cache.revoke(account.credential_id)
    assert await _status(gateway, headers) in (401, 429), "known is not valid"
    assert await _status(gateway, headers) == 429


async def test_an_address_has_a_share_of_the_questions_to_identity(
    start_gateway: StartGateway, services: Services
) -> None:
    gateway = await start_gateway(waiting_per_tenant=4)
    headers, _ = services.identity.new_key()
    assert await _status(gateway, headers) == 200
    gateway.resources.cache.clear()
    services.identity.available.clear()
    guesses = [asyncio.create_task(_status(gateway, {"Authorization": f"Bearer qk_{n}"})) for n in range(40)]

    async def most_refused() -> bool:
        return sum(guess.done() for guess in guesses) == 20 and len(services.identity.exchanges) == 17

    await eventually(most_refused)
    known = asyncio.create_task(_status(gateway, headers))

    async def asked() -> bool:
        return len(services.identity.exchanges) == 18

    await eventually(asked)
    services.identity.available.set()
    assert await known == 200
    assert sorted(await asyncio.gather(*guesses)) == [401] * 20 + [429] * 20
