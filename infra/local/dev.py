"""`uv run dev`: the whole system in the foreground, restarted on change, until Ctrl-C.

Order: servers, migrations (when there are new ones), services, first tenant. The reverse at the end; a second Ctrl-C
does not wait. A process that ends by itself is started again; when PostgreSQL, Redis or the provider fails five times
in a row, everything ends with status 1.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.local.console import Console
from infra.local.environment import DEV_TENANT, DEV_USER
from infra.local.errors import ProcessError, StackError
from infra.local.home import ROOT, Home, read_json, write_json
from infra.local.probes import http_status
from infra.local.processes import Process
from infra.local.reload import changes
from infra.local.services import ServiceProcess
from infra.local.stack import Stack
from infra.local.supervision import Supervised
from shared.topology import SERVICES

_GATEWAY_PORT = 8080
_SERVER_ATTEMPTS = 5
_REMIND_SECONDS = 30.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run until stopped; returns the exit status."""
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return asyncio.run(run(os.environ, Console(sys.stdout, colour=colour)))


async def run(environ: Mapping[str, str], console: Console, root: Path = ROOT) -> int:
    """The command, over the services of the project `root`: 0 when it was stopped, 1 when it could not go on."""
    try:
        port = _wanted_port(environ)
    except StackError as error:
        console.say(str(error))
        return 1
    stack = Stack(Home.current(environ, root), gateway_port=port, environ=environ, on_line=console.line)
    work = asyncio.ensure_future(_serve(stack, console, port))
    _on_interrupt(stack, work, console)
    problems: Sequence[BaseException] = ()
    try:
        await work
    except* asyncio.CancelledError:
        console.say("stopped")
    except* StackError as group:
        problems = group.exceptions
    finally:
        for number in _STOP_SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
    for problem in problems:
        console.say(str(problem))
    return 1 if problems else 0


def _wanted_port(environ: Mapping[str, str]) -> int:
    value = environ.get("QUARRY_GATEWAY_PORT") or str(_GATEWAY_PORT)
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise StackError(f"QUARRY_GATEWAY_PORT is not a valid port: {value!r}")
    return int(value)


def _on_interrupt(stack: Stack, work: "asyncio.Future[None]", console: Console) -> None:
    asked = False

    def interrupt() -> None:
        nonlocal asked
        if asked:
            stack.kill()
            return
        asked = True
        console.say("stopping; interrupt again to stop without waiting")
        work.cancel()

    for number in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, interrupt)


async def _serve(stack: Stack, console: Console, wanted_port: int) -> None:
    began = time.monotonic()
    console.say(f"starting PostgreSQL, Redis and the sign-in provider in {stack.home.folder}")
    async with stack:
        if stack.ports["gateway"] != wanted_port:
            console.say(f"port {wanted_port} is in use: the gateway listens on {stack.ports['gateway']}")
        if await stack.migrate(only_if_needed=True):
            console.say("migrations applied")
        services = {name: stack.service(name) for name in SERVICES}
        supervised = {name: Supervised(service, service.start, console.say) for name, service in services.items()}
        async with asyncio.TaskGroup() as tasks:
            for server in stack.servers:
                watch = Supervised(server.process, server.start, console.say, attempts=_SERVER_ATTEMPTS)
                tasks.create_task(watch.run())
            for each in supervised.values():
                tasks.create_task(each.run())
            tasks.create_task(_reload(stack.home.root, supervised, console))
            tasks.create_task(_welcome(stack, services, console, began))


async def _reload(root: Path, supervised: Mapping[str, Supervised], console: Console) -> None:
    try:
        async for names, path in changes(root):
            console.say(f"{path} changed: restarting {', '.join(sorted(names))}")
            for name in names:
                supervised[name].restart()
    except OSError as error:
        console.say(f"files are not watched for changes, restart manually: {error}")


async def _welcome(stack: Stack, services: Mapping[str, ServiceProcess], console: Console, began: float) -> None:
    """Wait for all services, make sure of the first tenant and print where everything is."""
    await _all_ready(services, console)
    gateway = services["gateway"]
    await _first_tenant(stack, gateway)
    key = f"""$(python3 -c 'import json; print(json.load(open("{stack.home.dev_json}"))["api_key"])')"""
    issuer = stack.oidc.issuer if stack.oidc is not None else "none"
    console.say(
        f"\nQuarry is up after {time.monotonic() - began:.1f} s\n\n"
        f"  API      {gateway.url}   documentation {gateway.url}/docs\n"
        f"  sign-in  {issuer}   any name will do\n"
        f"  key      {stack.home.dev_json}\n\n"
        f'  curl -H "Authorization: Bearer {key}" {gateway.url}/v1/me\n'
    )


async def _all_ready(services: Mapping[str, ServiceProcess], console: Console) -> None:
    waiting = dict(services)
    said = time.monotonic()
    while waiting:
        for name, service in list(waiting.items()):
            if service.running and await service.ready():
                del waiting[name]
        if waiting and time.monotonic() - said > _REMIND_SECONDS:
            said = time.monotonic()
            console.say(f"still waiting for {', '.join(waiting)}")
        await asyncio.sleep(0.05)


async def _first_tenant(stack: Stack, gateway: ServiceProcess) -> None:
    """Make tenant `dev` with an API key that works, and `dev.json` that holds them."""
    known = read_json(stack.home.dev_json)
    key = str(known.get("api_key", ""))
    status = await http_status(gateway.port, "/v1/me", headers={"Authorization": f"Bearer {key}"}) if key else None
    tenant = known if status == 200 else await _make_tenant(stack)
    write_json(
        stack.home.dev_json,
        {
            "gateway_url": gateway.url,
            "oidc_issuer": stack.oidc.issuer if stack.oidc is not None else None,
            "tenant_id": tenant["tenant_id"],
            "api_key": tenant["api_key"],
        },
    )


async def _make_tenant(stack: Stack) -> Mapping[str, object]:
    command = ["-m", "services.identity.bootstrap", "--tenant", DEV_TENANT, "--owner-email", str(DEV_USER["email"])]
    process = Process("tenant", [sys.executable, *command], env=stack.environment("identity"), cwd=stack.home.root)
    try:
        await process.start()
        status = await process.wait()
    finally:
        await process.stop()
    # Its log lines come first; the last line holds the key and is not printed.
    answers = [json.loads(line) for line in process.log if line.startswith('{"') and '"api_key"' in line]
    if status != 0 or not answers:
        raise ProcessError(f"the tenant {DEV_TENANT!r} cannot be created (status {status}):\n{process.tail(30)}")
    answer: Mapping[str, object] = answers[-1]
    return answer
