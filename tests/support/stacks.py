"""A stack's schemas and environments, for tests that make applications themselves."""

import asyncio
from collections.abc import Awaitable, Callable

from infra.local.stack import Stack
from infra.postgres.roles import Access
from shared.migrations import upgrade
from shared.topology import BACKENDS
from tests.support.identity import IdentityDouble

Environment = dict[str, str]
Migrate = Callable[[str], Awaitable[None]]
EnvironmentOf = Callable[[str], Awaitable[Environment]]


def migrations_of(stack: Stack) -> Migrate:
    """Applies a service's migrations, each once."""
    done: dict[str, asyncio.Task[None]] = {}

    async def migrate(service: str) -> None:
        if service not in done:
            owner_url = stack.database_url(service, Access.OWNER)
            done[service] = asyncio.create_task(asyncio.to_thread(upgrade, service, owner_url))
        await done[service]

    return migrate


async def migrate_all(stack: Stack) -> None:
    """Apply every service's migrations, in this process: one of its own would import all models first."""
    migrate = migrations_of(stack)
    for service in BACKENDS:
        await migrate(service)


def environments_of(stack: Stack, tokens: IdentityDouble, migrate: Migrate) -> EnvironmentOf:
    """Gives a service's environment, with the double as its identity; its schema is there when the call returns."""

    async def environment(service: str) -> Environment:
        if service != "gateway":
            await migrate(service)
        variables = stack.environment(service)
        variables[f"QUARRY_{service.upper()}_IDENTITY_URL"] = tokens.url
        # Whoever shares a busy machine with other tests may wait for its turn.
        variables[f"QUARRY_{service.upper()}_DATABASE_POOL_SECONDS"] = "30"
        return {name: value for name, value in variables.items() if name.startswith("QUARRY_")}

    return environment
