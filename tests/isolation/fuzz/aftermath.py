"""What a run has left behind: no word and no secret where it does not belong, and every invariant of `tests.faults`.

Looked through: the log of all processes, what they tell Prometheus, every row of every table (outboxes and dead letters
among them), every key in Redis, and what `tests.faults.invariants` compares once nothing moves any more.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from shared.redis_clients import command_client
from tests.faults.invariants import QUIET_SECONDS, Stores, checker
from tests.isolation import evidence
from tests.isolation.canaries import canary, found_in
from tests.isolation.fuzz.planted import Planted
from tests.isolation.fuzz.tally import Tally
from tests.support.system import System

# Whoever signs in has a tenant besides, named after the person: those words may be in two tenants.
_OF_ONE_TENANT: Final = ("tenant", "project", "document", "content", "key")
_CRASH: Final = re.compile(r"request_crashed|Traceback \(most recent call last\)|PANIC")
_MOST_LINES: Final = 5


async def inspect(system: System, tenants: Sequence[Planted], log: Path, tally: Tally) -> None:
    """Note everything that is wrong in `tally`."""
    secrets = frozenset(secret for tenant in tenants for secret in tenant.secrets if len(secret) >= 16)
    for check, lines in log_lines(log.read_text(encoding="utf-8"), secrets).items():
        tally.failed(check, "system.log", f"{len(lines)} lines: {lines[:_MOST_LINES]}", "the log of the system")
    for service, text in (await evidence.metrics(system.stack)).items():
        if found_in(text) or any(secret in text for secret in secrets):
            tally.failed("words in metrics", service, str(found_in(text)), "GET /metrics")
    for tenant in tenants:
        words = [canary(f"{tenant.letter}{kind}") for kind in _OF_ONE_TENANT]
        if elsewhere := await evidence.tables_with(system.stack, words, but_of=tenant.tenant_id):
            tally.failed("words in rows of others", tenant.letter, str(elsewhere), "tables_with")
        if not await evidence.tables_with(system.stack, words):
            tally.failed("words are gone", tenant.letter, "nothing was left that could have leaked", "tables_with")
    if kept := await evidence.tables_with(system.stack, secrets):
        tally.failed("secrets in rows", "tables", str(kept), "tables_with")
    await _redis(system, tenants, secrets, tally)
    async with checker(Stores.of(system.stack)) as invariants:
        report = await invariants.after(within=QUIET_SECONDS * 2)
    tally.done["seconds until nothing moved"] = round(report.seconds_to_quiet)
    for violation in report.violations:
        tally.failed(violation.invariant, "stores", str(violation), "tests.faults.invariants", kind=violation.what)


def log_lines(text: str, secrets: frozenset[str]) -> dict[str, list[str]]:
    """Lines that should not be in a log, by what is wrong with them."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if found_in(line):
            found.setdefault("words in the log", []).append(line[:500])
        if _CRASH.search(line):
            found.setdefault("crash in the log", []).append(line[:2000])
        if any(secret in line for secret in secrets):
            found.setdefault("secret in the log", []).append("(not shown)")
    return found


async def _redis(system: System, tenants: Sequence[Planted], secrets: frozenset[str], tally: Tally) -> None:
    client = command_client(system.stack.redis.url())
    owners = {f"{tenant.letter}{kind}": tenant.tenant_id for tenant in tenants for kind in _OF_ONE_TENANT}
    try:
        async for key, content in evidence.redis_contents(client):
            for kind in found_in(key + content) & owners.keys():
                if not key.startswith("events.") or f'"tenantid":"{owners[kind]}"' not in content:
                    tally.failed("words in Redis", key, content[:500], "evidence.redis_contents", kind=kind)
            if any(secret in key + content for secret in secrets):
                tally.failed("secret in Redis", key, "(not shown)", "evidence.redis_contents")
    finally:
        await client.aclose()
