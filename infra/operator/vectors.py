"""Generations of the vector store, from the command line.

    uv run vectors status   [--tenant T] [--project P] [--json]
    uv run vectors check    (--all | --tenant T | --project P) [--wait SECONDS] [--json]
    uv run vectors reindex  (--all | --tenant T | --project P) [--always] [--wait SECONDS] [--json]
    uv run vectors rollback (--all | --tenant T | --project P) [--wait SECONDS] [--json]

`check` compares points with the chunks in Postgres and makes again what is missing: the way back after points were
lost, or all of them. `reindex` builds a new generation for projects whose points were not made with the embedder and
analyzer in use now (`--always`: for all of them). `rollback` returns to the generation before.

Works on the database of the indexing service (`infra.operator.system_databases`). Everything is a request stored with
the project's active generation; a running service with the role `jobs` does the work, users' documents first.

Exit status: 0 done, or stored with `--wait 0`; 1 there is no such project; 2 wrong arguments; 3 not finished yet: it
goes on without this command.
"""

import argparse
import asyncio
import json
import os
import sys
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Uuid, bindparam, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from infra.local.errors import StackError
from infra.operator.system_databases import system_databases
from infra.operator.tables import print_table
from shared.dead_letters import error_name
from shared.resilience import Backoff

FAILED: Final = 1
UNFINISHED: Final = 3
_COLUMNS: Final = (
    *("tenant_id", "project_id", "generation", "state", "embedder", "analyzer", "done", "total"),
    *("lacking", "checked_at", "error"),
)

_OF_SCOPE: Final = (
    bindparam("tenant", type_=Uuid()),
    bindparam("project", type_=Uuid()),
)
_STATUS: Final = text(
    """
    SELECT tenant_id, project_id, number AS generation, state, embedder, analyzer, done, total, checked_at, error,
           (SELECT count(*) FROM generation_documents waiting
            WHERE waiting.tenant_id = generations.tenant_id AND waiting.project_id = generations.project_id
              AND waiting.number = generations.number) AS lacking
    FROM generations
    WHERE (:tenant IS NULL OR tenant_id = :tenant) AND (:project IS NULL OR project_id = :project)
    ORDER BY tenant_id, project_id, number
    """
).bindparams(*_OF_SCOPE)
_CHECK: Final = text(
    """
    UPDATE generations SET phase = 'documents', position = NULL, differed = 0, attempts = 0, due_at = now()
    WHERE state = 'active' AND (:tenant IS NULL OR tenant_id = :tenant) AND (:project IS NULL OR project_id = :project)
    RETURNING tenant_id, project_id
    """
).bindparams(*_OF_SCOPE)
_REQUEST: Final = text(
    """
    UPDATE generations SET requested = :requested, attempts = 0, due_at = now()
    WHERE state = 'active' AND (:tenant IS NULL OR tenant_id = :tenant) AND (:project IS NULL OR project_id = :project)
    RETURNING tenant_id, project_id
    """
).bindparams(*_OF_SCOPE)
_UNCHECKED: Final = text(
    """
    SELECT count(*) FROM generations
    WHERE state = 'active' AND (:tenant IS NULL OR tenant_id = :tenant) AND (:project IS NULL OR project_id = :project)
      AND (checked_at IS NULL OR checked_at < :since
           OR EXISTS (SELECT FROM generation_documents waiting
                      WHERE waiting.tenant_id = generations.tenant_id AND waiting.project_id = generations.project_id
                        AND waiting.number = generations.number))
    """
).bindparams(*_OF_SCOPE)
_UNBUILT: Final = text(
    """
    SELECT count(*) FROM generations
    WHERE (state = 'building' OR requested IS NOT NULL)
      AND (:tenant IS NULL OR tenant_id = :tenant) AND (:project IS NULL OR project_id = :project)
    """
).bindparams(*_OF_SCOPE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command != "status" and not (given.all or given.tenant or given.project):
        parser.error(f"{given.command}: give --project, --tenant or --all")
    try:
        return asyncio.run(_run(given))
    except (StackError, OSError) as error:
        print(error, file=sys.stderr)
    except SQLAlchemyError as error:
        print(f"{error_name(str(error))}: does the database exist, and is it migrated (`migrate`)?", file=sys.stderr)
    return FAILED


async def _run(given: argparse.Namespace) -> int:
    scope = {"tenant": given.tenant, "project": given.project}
    async with system_databases(os.environ) as databases:
        if "indexing" not in databases.engines:
            raise StackError("there is no database of the service 'indexing'")
        engine = databases.engines["indexing"]
        if given.command == "status":
            return await _status(engine, scope, as_json=given.json)
        # Alone with the database there is no service to wait for.
        seconds = given.wait if databases.in_use else 0.0
        return await _request(engine, given, scope, seconds)


async def _status(engine: AsyncEngine, scope: dict[str, Any], *, as_json: bool) -> int:
    async with AsyncSession(engine) as session:
        rows = [dict(row) for row in (await session.execute(_STATUS, scope)).mappings()]
    if as_json:
        print(json.dumps({"items": rows}, indent=2, default=str))
    else:
        print_table(_COLUMNS, rows)
        print(f"{len(rows)} generations")
    return 0


async def _request(engine: AsyncEngine, given: argparse.Namespace, scope: dict[str, Any], seconds: float) -> int:
    async with AsyncSession(engine) as session, session.begin():
        since: datetime = (await session.execute(text("SELECT now()"))).scalar_one()
        if given.command == "check":
            found = (await session.execute(_CHECK, scope)).all()
        else:
            wanted = "rollback" if given.command == "rollback" else "always" if given.always else "outdated"
            found = (await session.execute(_REQUEST, {**scope, "requested": wanted})).all()
    if not found and not given.all:
        print("nothing of it is indexed", file=sys.stderr)
        return FAILED
    left = await _left(engine, given.command, {**scope, "since": since}, seconds)
    if given.json:
        print(json.dumps({"projects": len(found), "unfinished": left}))
    else:
        print(f"{len(found)} projects" + (f", {left} not finished: `vectors status`" if left else ""))
    return UNFINISHED if left and given.wait else 0


async def _left(engine: AsyncEngine, command: str, scope: dict[str, Any], seconds: float) -> int:
    """How many projects are not finished after `seconds`."""
    clock = asyncio.get_running_loop().time
    deadline, backoff = clock() + seconds, Backoff(first=0.2, most=1.0)
    if command != "check":
        del scope["since"]
    while True:
        async with AsyncSession(engine) as session:
            left: int = (await session.execute(_UNCHECKED if command == "check" else _UNBUILT, scope)).scalar_one()
        if not left or clock() >= deadline:
            return left
        await asyncio.sleep(backoff.next())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vectors", description="Generations of the vector store.")
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="list generations with their state and progress")
    checking = commands.add_parser("check", help="compare points with chunks now, and make again what is missing")
    building = commands.add_parser("reindex", help="build a new generation where the one in use is outdated")
    building.add_argument("--always", action="store_true", help="also where it is not outdated")
    returning = commands.add_parser("rollback", help="return to the generation before, while it is kept")
    for command in (status, checking, building, returning):
        command.add_argument("--tenant", type=uuid.UUID)
        command.add_argument("--project", type=uuid.UUID)
        command.add_argument("--json", action="store_true")
    for command in (checking, building, returning):
        command.add_argument("--all", action="store_true", help="of all tenants")
        command.add_argument("--wait", type=_seconds, default=30.0, metavar="SECONDS", help="maximum wait (default 30)")
    return parser


def _seconds(given: str) -> float:
    if not 0 <= (seconds := float(given)) <= 604_800:
        raise ValueError(given)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
