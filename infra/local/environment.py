"""The environment of each service in the embedded stack; the only place that gives settings their values.

Secrets are passed as `..._FILE`. What the stack decides (addresses, roles, secrets) wins over the caller's environment;
what it merely suggests (log format, model folder) does not.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from infra.local.home import Home
from infra.local.ports import HOST
from infra.local.processes import SUPERVISED
from infra.local.secrets import random_key
from infra.local.server_protocols import Postgres, Redis
from infra.postgres.roles import DATABASE, Access, all_roles, role_name
from infra.redis.acl import OPERATOR, USERS
from shared.topology import SERVICES

OIDC_CLIENT = "quarry"
DEV_TENANT = "dev"
DEV_USER: Mapping[str, object] = {
    "sub": "dev-user",
    "email": "dev@example.test",
    "email_verified": True,
    "name": "Dev User",
}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where everything is.

    ports: of every service on loopback, and of the gateway's metrics. issuer: of the OpenID provider, None when the
    stack runs without.
    """

    postgres: Postgres
    redis: Redis
    ports: Mapping[str, int]
    issuer: str | None
    database: str = DATABASE

    def url(self, service: str) -> str:
        return f"http://{HOST}:{self.ports[service]}"


def role_passwords(home: Home) -> dict[str, str]:
    """Password of every database role."""
    return {role: home.secrets.get(f"{role}_database_password") for role in all_roles()}


def redis_passwords(home: Home) -> dict[str, str]:
    """Password of every user of Redis."""
    return {user: home.secrets.get(f"{user}_redis_password") for user in USERS}


def database_url(home: Home, postgres: Postgres, service: str, access: Access, database: str = DATABASE) -> str:
    """`postgresql+asyncpg://...` of one of the roles of a service."""
    role = role_name(service, access)
    return postgres.dsn(role, home.secrets.get(f"{role}_database_password"), database, driver="asyncpg")


def process_environment(home: Home, base: Mapping[str, str]) -> dict[str, str]:
    """What every process of the stack gets, with the mark by which left-over ones are found."""
    # Without bytecode each of the five services compiles the same libraries at each start, for ten seconds and more.
    return {**base, SUPERVISED: str(home.folder), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": ""}


def owner_environment(
    home: Home, postgres: Postgres, base: Mapping[str, str], database: str = DATABASE
) -> dict[str, str]:
    """For migrations: `QUARRY_<SERVICE>_OWNER_DATABASE_URL_FILE` of every service."""
    decided: dict[str, str] = {}
    for service in SERVICES:
        url = database_url(home, postgres, service, Access.OWNER, database)
        _keep_secret(decided, home, service, "OWNER_DATABASE_URL", url)
    return _merge(process_environment(home, base), decided, {})


def service_environment(service: str, home: Home, endpoints: Endpoints, base: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a service."""
    prefix = f"QUARRY_{service.upper()}_"
    decided = {f"{prefix}{name.upper()}_URL": endpoints.url(name) for name in SERVICES if name != "gateway"}
    _keep_secret(decided, home, service, "REDIS_URL", endpoints.redis.url(user=service))
    for variable, access in (("DATABASE_URL", Access.RUNTIME), ("SYSTEM_DATABASE_URL", Access.SYSTEM)):
        url = database_url(home, endpoints.postgres, service, access, endpoints.database)
        _keep_secret(decided, home, service, variable, url)
    _keep_secret(decided, home, service, "SERVICE_SECRET", _service_secret(home, service))
    suggested = {"QUARRY_ENVIRONMENT": "development", "QUARRY_LOG_FORMAT": "console", "QUARRY_LOG_LEVEL": "INFO"}
    if service == "identity":
        _add_identity(decided, home, endpoints)
    elif service == "projects":
        decided["QUARRY_PROJECTS_BLOB_ROOT"] = str(home.blobs)
    elif service == "indexing":
        decided["QUARRY_INDEXING_DATA_DIR"] = str(home.vectors)
        suggested["QUARRY_INDEXING_MODEL_DIR"] = str(home.models)
        # Development goes on where the kernel gives less, such as outside of Linux.
        suggested["QUARRY_INDEXING_EXTRACTION_CONFINEMENT"] = "best_effort"
    elif service == "gateway":
        decided["QUARRY_GATEWAY_PORT"] = str(endpoints.ports["gateway"])
        decided["QUARRY_GATEWAY_METRICS_PORT"] = str(endpoints.ports["gateway-metrics"])
        decided["QUARRY_GATEWAY_PUBLIC_URL"] = endpoints.url("gateway")
    return _merge(process_environment(home, base), decided, suggested)


def _add_identity(decided: dict[str, str], home: Home, endpoints: Endpoints) -> None:
    secrets = {name: _service_secret(home, name) for name in (*SERVICES, OPERATOR)}
    providers = []
    if endpoints.issuer is not None:
        client_secret = home.secrets.get("oidc_client_secret")
        providers.append(
            {"name": "dev", "issuer": endpoints.issuer, "client_id": OIDC_CLIENT, "client_secret": client_secret}
        )
    _keep_secret(decided, home, "identity", "SERVICE_SECRETS", json.dumps(secrets))
    _keep_secret(decided, home, "identity", "PROVIDERS", json.dumps(providers))
    _keep_secret(decided, home, "identity", "ENCRYPTION_KEY", home.secrets.get("identity_key", random_key))
    decided["QUARRY_IDENTITY_PUBLIC_URL"] = endpoints.url("gateway")


def _service_secret(home: Home, service: str) -> str:
    return home.secrets.get(f"{service}_secret")


def _keep_secret(decided: dict[str, str], home: Home, service: str, variable: str, value: str) -> None:
    path = home.secrets.put(f"{service}.{variable.lower()}", value)
    decided[f"QUARRY_{service.upper()}_{variable}_FILE"] = os.fspath(path)


def _merge(base: Mapping[str, str], decided: Mapping[str, str], suggested: Mapping[str, str]) -> dict[str, str]:
    names = {name.removesuffix("_FILE") for name in decided}
    kept = {name: value for name, value in base.items() if name.removesuffix("_FILE") not in names}
    missing = {name: value for name, value in suggested.items() if name not in kept and f"{name}_FILE" not in kept}
    return {**kept, **missing, **decided}
