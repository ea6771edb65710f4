"""The whole system inside the test process: real servers and real HTTP, and its insides within reach of the test."""

import asyncio
import importlib
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from infra.local.home import Home
from infra.local.stack import Stack
from shared.topology import SERVICES
from tests.support.servers import servers
from tests.support.serving import make_app, serve
from tests.support.stacks import migrate_all
from tests.support.tenants import first_tenant


@asynccontextmanager
async def one_process_system(
    folder: Path, *, extra: Mapping[str, Mapping[str, str]] | None = None
) -> AsyncIterator[Stack]:
    """Every service as an application in this event loop, on the ports of the stack; `extra` adds to the environment
    of single services."""
    async with Stack(Home(folder), durable=False, servers=servers()) as stack, AsyncExitStack() as serving:
        await migrate_all(stack)
        # Identity first and the gateway last: each finds its neighbours when it starts.
        for name in SERVICES:
            module = importlib.import_module(f"services.{name}.main")
            variables = {key: value for key, value in stack.environment(name).items() if key.startswith("QUARRY_")}
            variables |= {"QUARRY_LOG_FORMAT": "json", **(extra or {}).get(name, {})}
            app = make_app(module.create_app, variables)
            await serving.enter_async_context(serve(app, stack.ports[name]))
        yield stack
        # Streams end when their clients have gone.
        await asyncio.sleep(0)


@asynccontextmanager
async def tenant(stack: Stack, name: str) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """A new tenant's id, and a client that holds an API key of its owner."""
    made = await first_tenant(stack, name, f"{uuid.uuid4().hex}@example.test")
    headers = {"Authorization": f"Bearer {made.api_key}"}
    url = f"http://127.0.0.1:{stack.ports['gateway']}"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
        yield made.tenant_id, client
