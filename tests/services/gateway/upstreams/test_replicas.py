"""Several processes of one service behind one name: clients do not notice which of them are there."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from services.gateway.admission import token_exchange
from services.gateway.routes import Flow
from services.gateway.upstreams import replicas as replicas_module
from services.gateway.upstreams import retries
from services.gateway.upstreams.replicas import Replica, Replicas, by_dns
from shared.circuit_breaker import State
from tests.faults.proxy import Connect, FaultProxy, tcp
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Services
from tests.services.gateway.machines import Machine, Town
from tests.support.polling import eventually

EVENTS = "/v1/projects/1/events"
STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def town() -> Town:
    return Town("quarry.test")


async def _get(gateway: Gateway, headers: dict[str, str], path: str = "/v1/projects") -> tuple[int, str]:
    """Status, and which machine answered."""
    async with gateway.client.get(path, headers=headers) as answer:
        return answer.status, str((await answer.json()).get("address", ""))


async def _many(gateway: Gateway, headers: dict[str, str], count: int) -> Counter[str]:
    """Who answered so many requests, eight at a time, all of them well."""
    found: Counter[str] = Counter()
    for _ in range(0, count, 8):
        for status, address in await asyncio.gather(*(_get(gateway, headers) for _ in range(8))):
            assert status == 200
            found[address] += 1
    return found


def _replica(gateway: Gateway, machine: Machine) -> Replica:
    (found,) = (item for item in gateway.resources.upstreams["projects"].replicas.known if machine.address in item.url)
    return found


# --- which -----------------------------------------------------------------------------------------------------------


async def test_requests_are_spread_and_name_the_service_not_its_address(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(3) as machines:
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)
        found = await _many(gateway, headers, 96)
        assert set(found) == {machine.address for machine in machines}
        assert min(found.values()) >= 16
        assert {host for machine in machines for host in machine.hosts} == {f"{town.host}:{town.port}"}
        one_by_one = Counter([(await _get(gateway, headers))[1] for _ in range(9)])
        assert set(one_by_one.values()) == {3}


async def test_a_slow_replica_gets_fewer(start_gateway: StartGateway, services: Services, town: Town) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(2) as (slow, quick):
        slow.delay = 0.3
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)

        async def client() -> None:
            for _ in range(10):
                assert (await _get(gateway, headers))[0] == 200

        await asyncio.gather(client(), client(), client(), client())
        assert len(slow.asked) < len(quick.asked) / 2


async def test_a_replica_is_found_when_it_appears_and_forgotten_when_it_goes(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(2) as (first, second):
        town.addresses = [first.address]
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)
        assert set(await _many(gateway, headers, 16)) == {first.address}
        town.addresses = [first.address, second.address]

        async def both() -> bool:
            return len(await _many(gateway, headers, 8)) == 2

        await eventually(both)
        town.addresses = [second.address]

        async def one() -> bool:
            return set(await _many(gateway, headers, 8)) == {second.address}

        await eventually(one)
        asked = len(first.asked)
        assert set(await _many(gateway, headers, 32)) == {second.address}
        assert len(first.asked) == asked

        async def closed() -> bool:
            return not first.open

        await eventually(closed)


async def test_what_dns_said_last_counts_while_it_says_nothing(
    start_gateway: StartGateway, services: Services, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas_module, "LOOKUP_SECONDS", 0.05)
    headers, _ = services.identity.new_key()
    async with town.machines(2):
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)
        assert len(await _many(gateway, headers, 32)) == 2
        silence: tuple[list[str] | None, ...] = (None, [])
        for nothing in silence:
            town.addresses = nothing
            await asyncio.sleep(0.1)
            assert len(await _many(gateway, headers, 32)) == 2


async def test_an_unknown_name_is_waited_for(start_gateway: StartGateway, services: Services, town: Town) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(1) as (machine,):
        town.addresses = None
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)
        request = asyncio.create_task(_get(gateway, headers))
        await eventually(lambda: _waiting(gateway, 1))
        town.addresses = [machine.address]
        assert await request == (200, machine.address)


async def test_of_a_host_with_both_kinds_of_address_one_kind_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await by_dns("127.0.0.1", 80) == ["127.0.0.1"]
    six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 80, 0, 0))
    four = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))
    for found, counts in (([six, four, four], ["10.0.0.1"]), ([six], ["::1"])):

        async def resolve(*_args: object, found: object = found, **_options: object) -> object:
            return found

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        assert await by_dns("localhost", 80) == counts


async def test_an_address_is_a_service_with_one_replica() -> None:
    for url, place in (("http://127.0.0.1:81", "http://127.0.0.1:81"), ("https://[::1]", "https://[::1]:443")):
        replicas = Replicas("projects", url, _no_lookup)
        await replicas.refresh(1)
        (only,) = replicas.known
        assert (only.url, replicas.server_name) == (place, None)
        assert replicas.choose(Flow.SHORT, tried=(), repeatable=True) is only
        assert replicas.choose(Flow.SHORT, tried={only}, repeatable=True) is None
        await replicas.close()
    assert Replicas("projects", "https://quarry.test", _no_lookup).server_name == "quarry.test"


async def test_a_lookup_that_takes_long_does_not_outlive_the_gateway(town: Town) -> None:
    async def never(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    replicas = Replicas("projects", "http://quarry.test", never)
    await replicas.refresh(0.01)
    assert replicas.known == ()
    await replicas.close()


async def _no_lookup(_host: str, _port: int) -> list[str]:
    raise AssertionError("an address is not looked up")


async def _waiting(gateway: Gateway, count: int, service: str = "projects") -> bool:
    return any(item.waiting == count for name, item in gateway.resources.upstreams.items() if name == service)


# --- and if it is not there ------------------------------------------------------------------------------------------


async def test_no_safe_request_fails_while_replicas_die_hang_leave_and_come_back(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(3) as (first, second, third):
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url, attempt_seconds=0.3)
        assert len(await _many(gateway, headers, 40)) == 3
        await first.die()
        assert set(await _many(gateway, headers, 40)) == {second.address, third.address}
        second.hangs = True
        assert set(await _many(gateway, headers, 40)) == {third.address}
        town.addresses = [third.address]
        assert set(await _many(gateway, headers, 40)) == {third.address}
        await first.start()
        second.hangs = False
        town.addresses = [first.address, second.address, third.address]
        third.resets = True

        async def others() -> bool:
            return set(await _many(gateway, headers, 40)) == {first.address, second.address}

        await eventually(others)
        third.resets = False

        async def all_of_them() -> bool:
            return len(await _many(gateway, headers, 40)) == 3

        await eventually(all_of_them)


async def test_the_only_replica_may_be_away_for_a_while(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(1) as (machine,):
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url, short_per_tenant=64)
        machine.hangs = True
        requests = [asyncio.create_task(_get(gateway, headers)) for _ in range(4)]
        await eventually(lambda: _asked(machine, 4))
        await machine.die()
        upload = asyncio.create_task(gateway.client.post("/v1/projects/1/documents", data=b"abc", headers=headers))
        requests += [asyncio.create_task(_get(gateway, headers)) for _ in range(30)]
        await eventually(lambda: _waiting(gateway, 35))
        machine.hangs = False
        # Long enough for its breaker to open.
        await eventually(lambda: _opened(gateway, machine))
        await machine.start()
        assert await asyncio.gather(*requests) == [(200, machine.address)] * 34
        async with await upload as answer:
            assert answer.status == 200  # nothing of it had left
        assert machine.asked.count("POST") == 1


async def test_a_hanging_replica_is_tried_again_by_safe_requests_alone(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(2) as (hanging, working):
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url, attempt_seconds=0.2)
        hanging.hangs = True
        assert set(await _many(gateway, headers, 16)) == {working.address}
        assert len(hanging.asked) <= 5  # those under way when the first was given up, and perhaps a probe
        breaker = _replica(gateway, hanging).breaker
        await eventually(lambda: _value(breaker.state is State.HALF_OPEN))
        asked = len(hanging.asked)
        for _ in range(10):
            async with gateway.client.post("/v1/projects", headers=headers) as answer:
                assert answer.status == 200
        assert len(hanging.asked) == asked
        assert set(await _many(gateway, headers, 16)) == {working.address}
        assert len(hanging.asked) == asked + 1
        hanging.hangs = False

        async def back() -> bool:
            return len(await _many(gateway, headers, 16)) == 2

        await eventually(back)


async def test_an_unsafe_request_goes_elsewhere_only_when_it_never_left(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(2) as (first, second):
        await first.die()
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)
        for _ in range(6):
            async with gateway.client.post("/v1/projects", data=b"{}", headers=headers) as answer:
                assert answer.status == 200
        second.resets = True
        async with gateway.client.post("/v1/projects", data=b"{}", headers=headers) as answer:
            assert answer.status == 503
        assert (first.asked, second.asked) == ([], ["POST"] * 7)


async def test_what_ends_every_replica_is_sent_to_three(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(3) as machines:
        for machine in machines:
            machine.resets = True
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)
        assert (await _get(gateway, headers))[0] == 503
        assert sum(len(machine.asked) for machine in machines) == 3


async def test_when_all_are_silent_the_last_has_the_whole_deadline(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(2) as machines:
        for machine in machines:
            machine.hangs = True
        gateway = await start_gateway(
            lookup=town.lookup, projects_url=town.url, attempt_seconds=0.2, deadline_seconds=1.0
        )
        request = asyncio.create_task(_get(gateway, headers))
        await eventually(lambda: _value(all(machine.asked for machine in machines)))
        for machine in machines:
            machine.delay = 0.4
            machine.hangs = False
        assert (await request)[0] == 200
        for machine in machines:
            machine.hangs = True
        assert (await _get(gateway, headers))[0] == 504


async def test_not_more_than_so_many_wait(start_gateway: StartGateway, services: Services, town: Town) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(1) as (machine,):
        await machine.die()
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url, most_waiting=3)
        await _get(gateway, headers, "/v1/webhooks")  # the credential is known
        requests = [asyncio.create_task(_get(gateway, headers)) for _ in range(10)]

        async def refused() -> bool:
            return sum(request.done() for request in requests) == 7

        await eventually(refused)
        await machine.start()
        statuses = [status for status, _ in await asyncio.gather(*requests)]
        assert Counter(statuses) == {200: 3, 503: 7}


async def test_a_client_that_leaves_does_not_wait_on(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(1) as (machine,):
        await machine.die()
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)
        request = asyncio.create_task(_get(gateway, headers))
        await eventually(lambda: _waiting(gateway, 1))
        request.cancel()
        upstream = gateway.resources.upstreams["projects"]
        await eventually(lambda: _value(not upstream.waiting and not upstream.in_flight))


# --- 503 -------------------------------------------------------------------------------------------------------------


async def test_a_503_is_asked_of_another_replica(start_gateway: StartGateway, services: Services, town: Town) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(2) as (first, second):
        first.status = 503
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)
        assert set(await _many(gateway, headers, 16)) == {second.address}
        assert first.asked
        async with gateway.client.get("/v1/projects/1/documents/2/content", headers=headers) as answer:
            assert answer.status == 200
        statuses = []
        for _ in range(4):
            async with gateway.client.post("/v1/projects", headers=headers) as answer:
                statuses.append(answer.status)
        assert Counter(statuses) == {200: 2, 503: 2}
        assert first.asked.count("POST") + second.asked.count("POST") == 4


async def test_a_503_of_all_is_passed_on_within_three_seconds(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    loop = asyncio.get_running_loop()
    async with town.machines(1) as (machine,):
        machine.status = 503
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)
        began = loop.time()
        async with gateway.client.get("/v1/projects", headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, f"of {machine.address}")
        assert loop.time() - began < 3
        assert len(machine.asked) > 1
        request = asyncio.create_task(_get(gateway, headers))
        await eventually(lambda: _waiting(gateway, 1))
        machine.status = 200
        assert await request == (200, machine.address)
        assert gateway.breaker("projects").state is State.CLOSED


async def test_a_503_stands_when_nothing_better_comes_of_asking_again(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(2) as machines:
        gateway = await start_gateway(lookup=town.lookup, projects_url=town.url)
        for then in ("hangs", "resets"):
            for machine in machines:
                machine.status = 503
            request = asyncio.create_task(_get(gateway, headers))
            await eventually(lambda: _waiting(gateway, 1))
            for machine in machines:
                setattr(machine, then, True)
            assert (await request)[0] == 503
            if then == "hangs":  # had less time than is fair
                assert all(_replica(gateway, machine).breaker.state is State.CLOSED for machine in machines)
            for machine in machines:
                setattr(machine, then, False)


# --- event streams ---------------------------------------------------------------------------------------------------


async def test_a_stream_begins_at_another_replica_when_the_first_is_silent(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(2) as (hanging, working):
        hanging.hangs = True
        gateway = await start_gateway(lookup=town.lookup, notifier_url=town.url, attempt_seconds=0.2)
        for _ in range(4):
            async with _stream(gateway, headers) as (line, _):
                assert await line() == f"data: {working.address}\n".encode()


async def test_a_stream_without_heartbeats_is_cut_and_resumed_elsewhere(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(2) as (first, second):
        gateway = await start_gateway(lookup=town.lookup, notifier_url=town.url, stream_idle_seconds=0.6)
        async with _stream(gateway, headers) as (line, _):
            at = await line()
            (machine,) = (item for item in (first, second) if item.address.encode() in at)
            assert await line() == b"\n"
            for _ in range(4):
                await asyncio.sleep(0.3)
                machine.say(":\n\n")
                assert [await line(), await line()] == [b":\n", b"\n"]
            with pytest.raises(aiohttp.ClientPayloadError):
                await line()
        await machine.die()
        async with _stream(gateway, headers) as (line, _):
            assert await line() != at


async def test_a_stream_goes_on_at_a_replica_that_dns_has_forgotten(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    headers, _ = services.identity.new_key()
    async with town.machines(2) as (first, second):
        town.addresses = [first.address]
        gateway = await start_gateway(lookup=town.lookup, notifier_url=town.url)
        async with _stream(gateway, headers) as (line, _):
            assert first.address.encode() in await line()
            town.addresses = [second.address]

            async def elsewhere() -> bool:
                async with _stream(gateway, headers) as (other, _):
                    return second.address.encode() in await other()

            await eventually(elsewhere)
            first.say("data: still here\n\n")
            assert [await line(), await line()] == [b"\n", b"data: still here\n"]


@asynccontextmanager
async def _stream(
    gateway: Gateway, headers: dict[str, str]
) -> AsyncIterator[tuple[Callable[[], Awaitable[bytes]], aiohttp.ClientResponse]]:
    async with gateway.client.get(EVENTS, headers={**headers, **STREAM}) as answer:
        assert answer.status == 200

        async def line() -> bytes:
            async with asyncio.timeout(10):
                return await answer.content.readline()

        yield line, answer


# --- identity --------------------------------------------------------------------------------------------------------


async def test_identity_may_be_away_for_a_while(start_gateway: StartGateway, services: Services) -> None:
    headers, _ = services.identity.new_key()
    async with FaultProxy(_at(services.identity.url)) as proxy:
        gateway = await start_gateway(identity_url=f"http://127.0.0.1:{proxy.port}")
        await proxy.refuse()
        request = asyncio.create_task(_get(gateway, headers))
        await eventually(lambda: _waiting(gateway, 1, "identity"))
        await proxy.heal()
        assert (await request)[0] == 200
    assert len(services.identity.exchanges) == 1


async def test_identity_is_asked_elsewhere_when_a_replica_says_nothing(
    start_gateway: StartGateway, services: Services, town: Town
) -> None:
    async with FaultProxy(_at(services.identity.url)) as proxy:
        silent, town.port, town.addresses = Machine("127.0.0.2", proxy.port), proxy.port, ["127.0.0.2", "127.0.0.1"]
        await silent.start()
        silent.hangs = True
        gateway = await start_gateway(lookup=town.lookup, identity_url=town.url, attempt_seconds=0.2)
        for _ in range(6):
            headers, _account = services.identity.new_key()
            assert (await _get(gateway, headers))[0] == 200
        assert silent.asked
        assert len(services.identity.exchanges) == 6
        await silent.die()


async def test_identity_that_is_silent_for_good_is_503(
    start_gateway: StartGateway, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_exchange, "ASK_SECONDS", 0.2)
    headers, _ = services.identity.new_key()
    services.identity.available.clear()
    gateway = await start_gateway()
    assert (await _get(gateway, headers))[0] == 503
    # Not always as many: on a busy machine an attempt may end before its question is on the way.
    assert 1 <= len(services.identity.exchanges) <= retries.MOST_SENT
    services.identity.available.set()


def _at(url: str) -> Connect:
    return tcp("127.0.0.1", int(url.rpartition(":")[2]))


async def _asked(machine: Machine, count: int) -> bool:
    return len(machine.asked) == count


async def _opened(gateway: Gateway, machine: Machine) -> bool:
    return _replica(gateway, machine).breaker.state is not State.CLOSED


async def _value(value: Any) -> Any:
    return value
