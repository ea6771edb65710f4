"""Provisions a database for the services: roles, schemas and every migration. Repeatable, and safe to run concurrently.

    python -m infra.postgres.provision

The one-shot command that containers of services wait for, at the first start and at every new version. It reads, each
from the environment or the file named by `<NAME>_FILE`:

- `QUARRY_POSTGRES_ADMIN_URL`: `postgresql://...` of a role that may create roles and databases;
- `QUARRY_POSTGRES_PASSWORDS`: a JSON object with the password of every role of `infra.postgres.roles`.

Roles get the passwords given, so changed ones take effect. Running services go on: migrations suit the previous code
too. Fails with status 1 and the reason; what is done by then remains, and the next run continues from there.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from infra.postgres.bootstrap import bootstrap
from infra.postgres.roles import DATABASE, Access, role_name
from shared import migrations

ADMIN_URL = "QUARRY_POSTGRES_ADMIN_URL"
PASSWORDS = "QUARRY_POSTGRES_PASSWORDS"


class PrepareError(RuntimeError):
    """The environment lacks something."""


def provision(admin_url: str, passwords: Mapping[str, str], *, database: str = DATABASE) -> None:
    """Make `database`, its roles and schemas, and bring every schema to its newest migration. Blocks.

    Raises:
        ValueError: a password is missing or empty.
        OSError, asyncpg.PostgresError, SQLAlchemyError: the server is not there, or refused.
    """
    asyncio.run(bootstrap(admin_url, passwords, database=database))
    for service in migrations.SERVICES_WITH_SCHEMA:
        owner = role_name(service, Access.OWNER)
        url = make_url(admin_url).set(
            drivername="postgresql+asyncpg", username=owner, password=passwords[owner], database=database
        )
        migrations.upgrade(service, url.render_as_string(hide_password=False))


def passwords_from(environ: Mapping[str, str]) -> dict[str, str]:
    """Password of each role.

    Raises:
        PrepareError: there are none, or they are not a JSON object of strings.
    """
    try:
        found = json.loads(_value(environ, PASSWORDS))
    except json.JSONDecodeError as error:
        raise PrepareError(f"{PASSWORDS} is not JSON (line {error.lineno})") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise PrepareError(f"{PASSWORDS} must be a JSON object, role to password")
    return found


def _value(environ: Mapping[str, str], variable: str) -> str:
    if variable in environ:
        return environ[variable]
    path = environ.get(f"{variable}_FILE")
    if not path:
        raise PrepareError(f"{variable} is not set, and neither is {variable}_FILE")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise PrepareError(f"{variable}_FILE: cannot read {path}: {error.strerror}") from error


def main() -> None:
    try:
        provision(_value(os.environ, ADMIN_URL), passwords_from(os.environ))
    except (PrepareError, ValueError, OSError, asyncpg.PostgresError, SQLAlchemyError) as error:
        sys.exit(f"the database is not ready: {error or type(error).__name__}")
    sys.stdout.write("the database is ready: roles, schemas and all migrations\n")


if __name__ == "__main__":
    main()
