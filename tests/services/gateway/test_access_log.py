"""What a client can make the gateway write is bounded, whatever it sends and however often."""

import logging
import time
import uuid
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from starlette.types import Receive, Send
from structlog.testing import capture_logs

from services.gateway.access_log_limits import BURST, OF_ALL_PER_SECOND, PER_SECOND, AccessLogBudget
from shared.request_context import note_failure
from shared.telemetry import MOST_LOGGED
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Seen, Services
from tests.support.polling import eventually


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _scope(client: str, tenant_id: uuid.UUID | None = None) -> dict[str, Any]:
    principal = SimpleNamespace(tenant_id=tenant_id, user_id=None) if tenant_id else None
    return {"client": (client, 1), "state": {"principal": principal}}


def test_a_stranger_has_so_many_lines_a_second() -> None:
    clock = _Clock()
    shares = AccessLogBudget(clock=clock)
    assert sum(shares.is_logged(_scope("192.0.2.1"), 404) for _ in range(1000)) == BURST
    clock.now += 2
    assert sum(shares.is_logged(_scope("192.0.2.1"), 200) for _ in range(1000)) == PER_SECOND * 2
    assert shares.is_logged(_scope("192.0.2.2"), 404), "another address has a share of its own"


def test_all_strangers_together_have_a_share() -> None:
    shares = AccessLogBudget(clock=_Clock())
    lines = sum(shares.is_logged(_scope(f"10.0.{number // 250}.{number % 250}"), 404) for number in range(5000))
    assert lines == OF_ALL_PER_SECOND


def test_a_verified_request_is_always_logged_and_a_refused_one_by_its_tenants_share() -> None:
    shares, tenant_id = AccessLogBudget(clock=_Clock()), uuid.uuid4()
    assert all(shares.is_logged(_scope("192.0.2.1", tenant_id), 200) for _ in range(1000))
    assert sum(shares.is_logged(_scope(f"192.0.2.{n % 200}", tenant_id), 429) for n in range(1000)) == BURST
    assert shares.is_logged(_scope("192.0.2.1", tenant_id), 404)


def test_what_has_no_line_is_counted() -> None:
    clock = _Clock()
    shares = AccessLogBudget(clock=clock)
    for _ in range(int(BURST) + 28):
        shares.is_logged(_scope("192.0.2.1"), 404)
    for _ in range(2):
        failed = _scope("192.0.2.1")
        note_failure(failed, "unavailable", "nobody is there")
        shares.is_logged(failed, 503)
    clock.now += 1
    with capture_logs() as lines:
        assert shares.is_logged(_scope("192.0.2.1"), 404)
    told = {"event": "requests_not_logged", "client": "192.0.2.1", "number": 30, "failed": 2, "log_level": "info"}
    assert lines == [told]


async def _cut_short(_seen: Seen, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000")]})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    raise RuntimeError("no more of it")


async def test_a_thousand_failures_of_an_address_write_a_bounded_number_of_lines(
    start_gateway: StartGateway, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers cut, and credentials that identity cannot check; nobody knows whose either are."""
    gateway = await start_gateway(retry_seconds=0, busy_seconds=0, anonymous_per_minute=10_000)
    services.identity.answers["/auth/providers"] = _cut_short
    services.identity.broken = 500
    caplog.set_level(logging.INFO)
    began, before = time.monotonic(), len(caplog.records)
    statuses: Counter[str] = Counter()
    for number in range(500):
        async with gateway.client.get("/v1/projects", headers={"Authorization": f"Bearer qk_{number}"}) as answer:
            statuses[str(answer.status)] += 1
        with pytest.raises(aiohttp.ClientPayloadError):
            async with gateway.client.get("/auth/providers") as answer:
                await answer.read()
        statuses["cut"] += 1
    assert statuses == {"503": 500, "cut": 500}
    told = [record.msg for record in caplog.records[before:] if isinstance(record.msg, dict)]
    lines = [line for line in told if line["event"] == "request"]
    assert len(lines) <= BURST + PER_SECOND * (time.monotonic() - began) + 1
    assert len(told) <= 2 * len(lines), "each preceded by one about those that have none, at most"
    assert {(line["level"], line["error"], line["reason"]) for line in lines} == {
        ("warning", "unavailable", "identity answered 500, not understood: ValueError"),
        ("warning", "answer_cut", "identity broke off: ClientPayloadError"),
    }


async def test_long_paths_of_strangers_write_little(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for length in (8_000, 60_000):
        for _ in range(150):
            wire = await gateway.wire()
            await wire.send(
                b"GET /" + b"a" * length + b" HTTP/1.1\r\nHost: x\r\nUser-Agent: " + b"b" * 900 + b"\r\n\r\n"
            )
            assert (await wire.answer()).status in (404, 414)
            wire.close()
    logged = sum(len(str(record.msg)) for record in caplog.records)
    assert logged < 40_000, "of two and a half million bytes sent"


async def test_garbage_writes_nothing(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    before = len(caplog.records)
    for _ in range(20):
        wire = await gateway.wire()
        await wire.send(b"\x16\x03\x01 nothing of the kind\r\n\r\n")
        assert (await wire.answer()).status == 400
        wire.close()
    assert len([r for r in caplog.records[before:] if r.levelno >= logging.INFO]) == 0


async def test_an_upgrade_that_is_not_offered_writes_no_warning(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wire = await gateway.wire()
    await wire.send(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await wire.answer()).status == 404

    async def told() -> bool:
        return any(isinstance(r.msg, dict) and r.msg.get("path") == "/x" for r in caplog.records)

    await eventually(told)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_no_value_of_a_line_is_long(gateway: Gateway) -> None:
    (handler,) = [handler for handler in logging.getLogger().handlers if getattr(handler, "quarry", False)]
    plain = logging.LogRecord("foreign", logging.WARNING, "x.py", 1, "%s", ("w" * 100_000,), None)
    event = {"event": "e", "value": "v" * 100_000, "number": 7}
    structured = logging.LogRecord("services.gateway", logging.WARNING, "x.py", 1, cast("str", event), (), None)
    structured._logger, structured._name = logging.getLogger(), "warning"
    for record in (plain, structured):
        assert len(handler.format(record)) < MOST_LOGGED * 2
