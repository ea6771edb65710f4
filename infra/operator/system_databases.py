"""Each service's database as its system role, for commands of operators; no service has to run.

The databases are those named in the environment, `QUARRY_<SERVICE>_SYSTEM_DATABASE_URL` (or `..._FILE`), as for the
services; else those of the embedded stack, whose server is started for the time of the command if it is not running.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from infra.local.errors import HomeBusyError, StackError
from infra.local.home import Home
from infra.operator.migration_status import migrated_services
from infra.postgres.roles import Access


@dataclass(frozen=True, slots=True)
class SystemDatabases:
    """`in_use` is False when the database runs for this command only, so that no service can be at work on it."""

    engines: Mapping[str, AsyncEngine]
    in_use: bool


@asynccontextmanager
async def system_databases(environ: Mapping[str, str]) -> AsyncIterator[SystemDatabases]:
    """Engines by service, none of which connects before it is used.

    Raises:
        StackError: there is no database, or it does not start.
    """
    home = Home.current(environ)
    if named := _named(environ, migrated_services(home.root)):
        async with _engines(named) as engines:
            yield SystemDatabases(engines, in_use=True)
        return
    # The embedded stack's modules are not part of an image, where databases are always named.
    from infra.local.environment import database_url  # noqa: PLC0415
    from infra.local.stack import make_postgres  # noqa: PLC0415

    if not home.postgres.is_dir():
        raise StackError(
            f"there is no database in {home.folder}: `dev` creates one, QUARRY_HOME selects another folder"
        )
    postgres = make_postgres(home, environ)
    urls = {name: database_url(home, postgres, name, Access.SYSTEM) for name in migrated_services(home.root)}
    async with _engines(urls) as engines:
        try:
            with home.lock():
                try:
                    await postgres.start()
                    yield SystemDatabases(engines, in_use=False)
                finally:
                    await _dispose(engines)
                    await postgres.stop()
                    home.remove_sockets()
        except HomeBusyError:
            yield SystemDatabases(engines, in_use=True)


def _named(environ: Mapping[str, str], services: list[str]) -> dict[str, str]:
    found = {}
    for service in services:
        variable = f"QUARRY_{service.upper()}_SYSTEM_DATABASE_URL"
        if variable in environ:
            found[service] = environ[variable]
        elif path := environ.get(f"{variable}_FILE"):
            try:
                found[service] = Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise StackError(f"{variable}_FILE: cannot read {path}: {os.strerror(error.errno or 0)}") from error
    return found


@asynccontextmanager
async def _engines(urls: Mapping[str, str]) -> AsyncIterator[Mapping[str, AsyncEngine]]:
    engines = {
        service: create_async_engine(
            url,
            pool_size=1,
            max_overflow=0,
            hide_parameters=True,
            connect_args={
                "timeout": 5,
                "command_timeout": 30,
                "server_settings": {"application_name": "operator", "search_path": service, "timezone": "UTC"},
            },
        )
        for service, url in urls.items()
    }
    try:
        yield engines
    finally:
        await _dispose(engines)


async def _dispose(engines: Mapping[str, AsyncEngine]) -> None:
    for engine in engines.values():
        await engine.dispose()
