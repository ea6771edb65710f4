"""Many users with tenants and sessions, made by identity's own functions in one process: a browser takes far longer.

    python -m tests.faults.sign_ins --users 1000 --tenants 1 --sessions 1 --output FILE

Each user owns so many tenants and is signed in so many times, in the first of them. FILE gets a JSON list of users,
`{"tenants": [id, ...], "sessions": [{cookie: value, ...}, ...]}`. Runs in the environment of identity.
"""

import argparse
import asyncio
import json
import uuid
from pathlib import Path

from services.identity.credentials import csrf_token
from services.identity.sessions import service as sessions
from services.identity.settings import IdentitySettings
from services.identity.tenants import service as tenants
from services.identity.users import service as users
from shared import db, telemetry
from shared.tenancy import Database
from shared.transactions import Transactions
from tests.support.browser import CSRF, SESSION
from tests.support.commands import run_json
from tests.support.system import Json, System


async def signed_in(system: System, *, users: int, tenants: int = 1, sessions: int = 1) -> list[Json]:
    """Make them in a running system."""
    output = system.stack.home.folder / f"sign-ins-{uuid.uuid4()}.json"
    counts = {"--users": users, "--tenants": tenants, "--sessions": sessions}
    given = [text for name, count in counts.items() for text in (name, str(count))]
    command = ["-m", "tests.faults.sign_ins", *given, "--output", str(output)]
    await run_json(command, system.stack.environment("identity"))
    made: list[Json] = json.loads(await asyncio.to_thread(output.read_text))
    return made


async def _make(transactions: Transactions, settings: IdentitySettings, counts: argparse.Namespace) -> Json:
    name = f"user-{uuid.uuid4()}"
    async with transactions.system() as session:
        user = await users.by_verified_email(session, email=f"{name}@example.test", name=name)
    owned = [
        (await tenants.create(transactions, owner_id=user.id, name=f"tenant {number}", settings=settings)).id
        for number in range(counts.tenants)
    ]
    cookies = []
    for _ in range(counts.sessions):
        async with transactions.system() as session:
            opened = await sessions.open_session(
                session, user_id=user.id, tenant_id=owned[0], user_agent="", settings=settings
            )
        token = csrf_token(settings.derived_key("csrf"), opened.session_id)
        cookies.append({SESSION: opened.secret, CSRF: token})
    return {"tenants": [str(tenant) for tenant in owned], "sessions": cookies}


async def _run(settings: IdentitySettings, given: argparse.Namespace) -> list[Json]:
    engines = await db.connect(settings)
    try:
        transactions = Transactions(Database(engines), "sign-ins")
        return [await _make(transactions, settings, given) for _ in range(given.users)]
    finally:
        await engines.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sign_ins", description="Sign in many users.")
    for what in ("users", "tenants", "sessions"):
        parser.add_argument(f"--{what}", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    settings = IdentitySettings.load()
    telemetry.configure(settings)
    made = asyncio.run(_run(settings, given))
    given.output.write_text(json.dumps(made))
    print(json.dumps({"users": len(made)}))


if __name__ == "__main__":
    main()
