"""The secrets of the system in containers: one file each, with the value in the form its reader expects.

    uv run secrets [--dev [ISSUER]] [--folder FOLDER]

Makes what is missing in `.quarry/secrets` (`QUARRY_SECRETS` names another folder) and says what it made, never a value.
Existing files are not replaced, except those derived from others (`derive`): they are rewritten when their sources
change, or when this version of Quarry gives its accounts other rights. To replace a secret delete its file;
docs/operating.md says what has to be restarted then. The superuser's password is set when Postgres makes its data
folder, and at no other time.

`docker-compose.yml` mounts single files into containers of several accounts, so the files are readable by all (0444)
and their folder by its owner alone (0700): on this machine the folder protects them.

`--dev` adds the development sign-in to identity, which lets anyone in as anyone (`docker compose --profile dev up`).
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from infra.local.secrets import random_key, random_token
from infra.postgres.roles import DATABASE, Access, role_name
from infra.redis import acl
from shared.topology import SERVICES

FOLDER: Final = Path(__file__).resolve().parents[2] / ".quarry" / "secrets"
DEV_ISSUER: Final = "http://localhost:9400"
_ADMIN: Final = "postgres"


class SecretsError(RuntimeError):
    """The folder holds what cannot be used."""


def made() -> dict[str, Callable[[], str]]:
    """Secrets that are random or start from something random, and how each is made."""
    makers: dict[str, Callable[[], str]] = {
        "postgres_password": random_token,
        "qdrant_api_key": random_token,
        "identity_encryption_key": random_key,
        "identity_providers": lambda: "[]",
        "operator_secret": random_token,
        "grafana_admin_password": random_token,
        "operator_redis_url": partial(_redis_url, acl.OPERATOR),
    }
    for service in SERVICES:
        makers[f"{service}_secret"] = random_token
        makers[f"{service}_redis_url"] = partial(_redis_url, service)
        for access in Access:
            makers[_database_url_of(service, access)] = partial(_database_url, role_name(service, access))
    return makers


def derive(found: Mapping[str, str]) -> dict[str, str]:
    """The files that follow from other secrets alone.

    Raises:
        SecretsError: one of them is not what it should be.
    """
    redis = {user: _password(f"{user}_redis_url", found) for user in acl.USERS}
    roles = {
        role_name(service, access): _password(_database_url_of(service, access), found)
        for service in SERVICES
        for access in Access
    }
    secrets = {name: found[f"{name}_secret"] for name in (*SERVICES, acl.OPERATOR)}
    try:
        accounts = acl.render(redis)
    except acl.AclError as error:
        raise SecretsError(f"..._redis_url: {error}") from error
    admin = quote(found["postgres_password"], safe="")
    return {
        "postgres_admin_url": f"postgresql://{_ADMIN}:{admin}@postgres:5432/{_ADMIN}",
        "database_passwords": json.dumps(roles),
        "redis_users.acl": accounts,
        "operator_redis_password": redis[acl.OPERATOR],
        "identity_service_secrets": json.dumps(secrets),
        # JSON is YAML, which is what the server reads.
        "qdrant_config.yaml": json.dumps({"service": {"api_key": found["qdrant_api_key"]}}),
    }


def names() -> list[str]:
    """Every file that exists after `write`."""
    examples = {name: make() for name, make in made().items()}
    return sorted({*examples, *derive(examples)})


def write(folder: Path, *, dev_issuer: str | None = None) -> list[str]:
    """Make what is missing; returns a line for each file made or brought up to date.

    Args:
        dev_issuer: address of the development sign-in, if identity is to accept it.

    Raises:
        SecretsError: a file cannot be used as it is.
        OSError: the folder or a file cannot be written or read.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    said: list[str] = []
    for name, make in made().items():
        if not (folder / name).exists():
            _put(folder / name, make())
            said.append(f"created {name}")
    found = {name: (folder / name).read_text(encoding="utf-8").strip() for name in made()}
    if empty := sorted(name for name, value in found.items() if not value):
        raise SecretsError(f"{folder / empty[0]} is empty: delete it to have a new one created")
    if dev_issuer and (providers := _with_dev_provider(found["identity_providers"], dev_issuer)):
        _put(folder / "identity_providers", providers)
        said.append("added the development sign-in to identity_providers")
    for name, value in derive(found).items():
        path = folder / name
        if not path.exists():
            _put(path, value)
            said.append(f"created {name}")
        elif path.read_text(encoding="utf-8").strip() != value.strip():
            _put(path, value)
            said.append(f"updated {name}")
    return said


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="secrets", description="Create the secrets of docker-compose.yml.")
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("QUARRY_SECRETS") or FOLDER))
    parser.add_argument(
        "--dev",
        nargs="?",
        const=DEV_ISSUER,
        metavar="ISSUER",
        help="add the development sign-in to identity's providers",
    )
    given = parser.parse_args(arguments)
    try:
        said = write(given.folder, dev_issuer=given.dev)
    except (SecretsError, OSError) as error:
        sys.exit(f"secrets: {error}")
    sys.stdout.writelines(f"{line}\n" for line in (*said, f"{len(names())} secrets are in {given.folder}"))


def _with_dev_provider(providers: str, issuer: str) -> str | None:
    """The providers including the development sign-in; None when it is there already."""
    try:
        known = json.loads(providers)
        if any(provider["name"] == "dev" for provider in known):
            return None
    except (ValueError, TypeError, KeyError) as error:
        raise SecretsError("identity_providers is not a JSON list of providers") from error
    provider = {"name": "dev", "issuer": issuer, "client_id": "quarry", "client_secret": random_token()}
    return json.dumps([*known, provider], indent=2)


def _redis_url(user: str) -> str:
    return f"redis://{user}:{random_token()}@redis:6379/0"


def _database_url(role: str) -> str:
    return f"postgresql+asyncpg://{role}:{random_token()}@postgres:5432/{DATABASE}"


def _database_url_of(service: str, access: Access) -> str:
    return f"{role_name(service, access)}_database_url"


def _password(name: str, found: Mapping[str, str]) -> str:
    password = urlsplit(found[name]).password
    if not password:
        raise SecretsError(f"{name} contains no password")
    return unquote(password)


def _put(path: Path, value: str) -> None:
    """Write a file completely or not at all. Containers that have it mounted keep the one before."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    Path(draft).chmod(0o444)
    Path(draft).replace(path)


if __name__ == "__main__":
    main()
