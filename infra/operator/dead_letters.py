"""Events that could not be handled, from the command line.

    uv run dead-letters list [--service S] [--open | --all] [--type T] [--handler H] [--limit N] [--json]
    uv run dead-letters show ID [--json]
    uv run dead-letters redrive ID... [--wait SECONDS] [--json]
    uv run dead-letters redrive --all [--service S] [--type T] [--handler H] [--wait SECONDS] [--json]

Works on the databases (`infra.operator.system_databases`), so it needs no running service. A redrive is a request
stored with the letter; a running service performs it and this command waits for the outcome.

Payloads and reasons may hold tenants' data: only `show` prints them.

Exit status: 0 done; 1 a redrive failed or a letter does not exist; 2 wrong arguments; 3 no service has performed a
request yet: it stays, and is performed when the service runs.
"""

import argparse
import asyncio
import json
import os
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from infra.local.errors import StackError
from infra.operator.system_databases import SystemDatabases, system_databases
from infra.operator.tables import print_table
from shared import dead_letters, redrive
from shared.dead_letters import Wanted, error_name
from shared.redrive import Outcome
from shared.resilience import Backoff

FAILED: Final = 1
STILL_WAITING: Final = 3
_POLL_SECONDS: Final = 0.2

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command == "redrive" and bool(given.ids) == given.all:
        parser.error("redrive: give the ids of dead letters, or --all")
    if given.command == "redrive" and given.ids and (given.type or given.handler):
        parser.error("redrive: --type and --handler require --all")
    try:
        return asyncio.run(_run(given))
    except (StackError, OSError) as error:
        print(error, file=sys.stderr)
    except SQLAlchemyError as error:
        print(f"{error_name(str(error))}: does the database exist, and is it migrated (`migrate`)?", file=sys.stderr)
    return FAILED


async def _run(given: argparse.Namespace) -> int:
    async with system_databases(os.environ) as databases:
        engines = _chosen(databases.engines, getattr(given, "service", None))
        if given.command == "list":
            return await _list(engines, given)
        if given.command == "show":
            return await _show(engines, given)
        return await _redrive(databases, engines, given)


def _chosen(engines: Mapping[str, AsyncEngine], service: str | None) -> Mapping[str, AsyncEngine]:
    if service is None:
        return engines
    if service not in engines:
        raise StackError(f"there is no database of a service {service!r}; choose from {', '.join(engines)}")
    return {service: engines[service]}


# --- list and show ---------------------------------------------------------------------------------------------------


async def _list(engines: Mapping[str, AsyncEngine], given: argparse.Namespace) -> int:
    wanted = Wanted(open_only=not given.all, event_type=given.type, handler=given.handler)
    rows: list[Row] = []
    total = 0
    for service, engine in engines.items():
        async with AsyncSession(engine) as session:
            total += await dead_letters.count(session, wanted)
            found = await dead_letters.page(session, wanted, limit=given.limit)
            rows += [
                {"service": service, **dead_letters.summary_of(letter).model_dump(mode="json")} for letter in found
            ]
    rows = sorted(rows, key=lambda row: (row["created_at"], row["id"]), reverse=True)[: given.limit]
    if given.json:
        print(json.dumps({"items": rows, "total": total}, indent=2))
        return 0
    columns = ("id", "service", "state", "handler", "event_type", "attempts", "created_at", "error")
    print_table(columns, ({**row, "error": row["last_error"] or row["error"]} for row in rows))
    print(f"{len(rows)} of {total}")
    return 0


async def _show(engines: Mapping[str, AsyncEngine], given: argparse.Namespace) -> int:
    for service, engine in engines.items():
        async with AsyncSession(engine) as session:
            letter = await dead_letters.by_id(session, given.id)
            if letter is not None:
                row = {"service": service, **dead_letters.detail_of(letter).model_dump(mode="json")}
                _print_detail(row, as_json=given.json)
                return 0
    print(f"there is no dead letter {given.id}", file=sys.stderr)
    return FAILED


# --- redrive ---------------------------------------------------------------------------------------------------------


async def _redrive(databases: SystemDatabases, engines: Mapping[str, AsyncEngine], given: argparse.Namespace) -> int:
    wanted = Wanted(event_type=given.type, handler=given.handler)
    asked: dict[str, list[uuid.UUID]] = {}
    for service, engine in engines.items():
        async with AsyncSession(engine) as session, session.begin():
            asked[service] = (
                await redrive.request_all(session, wanted) if given.all else await redrive.request(session, given.ids)
            )
    unknown = [] if given.all else sorted(set(given.ids) - {found for ids in asked.values() for found in ids})
    # Alone with the database there is no service to wait for.
    seconds = given.wait if databases.in_use else 0.0
    outcomes = await _outcomes(engines, asked, seconds)
    rows = [_outcome_row(service, outcome) for service, found in outcomes.items() for outcome in found]
    rows += [
        {"service": None, "id": str(item), "handler": None, "outcome": "unknown", "error": None} for item in unknown
    ]
    _print_outcomes(rows, as_json=given.json)
    said = {row["outcome"] for row in rows}
    if said & {"failed", "unknown"}:
        return FAILED
    return STILL_WAITING if "waiting" in said and given.wait else 0


async def _outcomes(
    engines: Mapping[str, AsyncEngine], asked: Mapping[str, list[uuid.UUID]], seconds: float
) -> dict[str, list[Outcome]]:
    """What became of the requests, once none of them waits or `seconds` have passed."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    backoff = Backoff(first=_POLL_SECONDS, most=1.0)
    found: dict[str, list[Outcome]] = {}
    while True:
        for service, ids in asked.items():
            if not ids or (service in found and not _waits(found[service])):
                continue
            async with AsyncSession(engines[service]) as session:
                found[service] = await redrive.outcomes(session, ids)
        if clock() >= deadline or not any(_waits(outcomes) for outcomes in found.values()):
            return found
        await asyncio.sleep(backoff.next())


def _waits(outcomes: Iterable[Outcome]) -> bool:
    return any(outcome.state == "waiting" for outcome in outcomes)


def _outcome_row(service: str, outcome: Outcome) -> Row:
    said = {"redriven": "redriven", "waiting": "waiting", "open": "failed"}[outcome.state]
    error = None if outcome.reason is None else error_name(outcome.reason)
    return {"service": service, "id": str(outcome.id), "handler": outcome.handler, "outcome": said, "error": error}


# --- output ----------------------------------------------------------------------------------------------------------


def _print_outcomes(rows: Sequence[Row], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"outcomes": rows}, indent=2))
        return
    print_table(("id", "service", "handler", "outcome", "error"), rows)
    counts = {
        name: sum(row["outcome"] == name for row in rows) for name in ("redriven", "failed", "waiting", "unknown")
    }
    print(", ".join(f"{number} {name}" for name, number in counts.items() if number) or "nothing to redrive")
    if counts["failed"]:
        print("`show ID` prints the full reason")
    if counts["waiting"]:
        print("waiting redrives are performed by the service when it runs with the role `events`")


def _print_detail(row: Row, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(row, indent=2))
        return
    payload = row.pop("payload")
    for name, value in row.items():
        if value is not None:
            print(f"{name:22}{value}")
    print(f"\n{_pretty(payload)}")


def _pretty(payload: str) -> str:
    try:
        return json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
    except ValueError:
        # Whatever it is, it must not control the terminal.
        return payload if payload.isprintable() else repr(payload)


# --- arguments -------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dead-letters", description="Dead letters: events that could not be handled.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="list dead letters without payloads, newest first")
    _add_filters(listing)
    which = listing.add_mutually_exclusive_group()
    which.add_argument("--open", action="store_true", help="only those not redriven (default)")
    which.add_argument("--all", action="store_true", help="include redriven ones")
    listing.add_argument("--limit", type=_positive, default=200, help="maximum number of dead letters (default 200)")
    showing = commands.add_parser(
        "show", help="show one with its reason and payload, which may contain a tenant's data"
    )
    showing.add_argument("id", type=uuid.UUID)
    redriving = commands.add_parser(
        "redrive", help="have running services retry dead letters, and wait for the outcome"
    )
    redriving.add_argument("ids", nargs="*", type=uuid.UUID, metavar="ID")
    redriving.add_argument("--all", action="store_true", help="all open dead letters that match the filters")
    redriving.add_argument("--wait", type=_seconds, default=30.0, metavar="SECONDS", help="maximum wait (default 30)")
    _add_filters(redriving)
    for command in (listing, showing, redriving):
        command.add_argument("--json", action="store_true")
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--service")
    parser.add_argument("--type", help="event type, e.g. projects.document.uploaded.v1")
    parser.add_argument("--handler", help="handler name; `decode` for entries that could not be decoded")


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) <= 86_400:
        raise ValueError(text)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
