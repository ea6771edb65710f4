"""The environment of each service: complete, without secrets in it, and the stack's word against the caller's."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.local.environment import Endpoints, owner_environment, redis_passwords, service_environment
from infra.local.home import Home
from infra.local.servers import PostgresServer, RedisServer
from infra.local.stack import make_postgres
from shared.topology import SERVICES

PORTS = {name: 4_000 + number for number, name in enumerate((*SERVICES, "gateway-metrics"))}


@pytest.fixture
def home(new_home: Callable[[], Home]) -> Home:
    made = new_home()
    made.prepare()
    return made


@pytest.fixture
def postgres(home: Home) -> PostgresServer:
    return make_postgres(home, {})


def endpoints(home: Home, postgres: PostgresServer, issuer: str | None) -> Endpoints:
    redis = RedisServer(home.redis, Path("/sockets"), environment={}, passwords=redis_passwords(home))
    return Endpoints(postgres=postgres, redis=redis, ports=PORTS, issuer=issuer)


def environment(home: Home, postgres: PostgresServer, service: str, **base: str) -> dict[str, str]:
    return service_environment(service, home, endpoints(home, postgres, "http://127.0.0.1:9400"), base)


def content(variables: dict[str, str], name: str) -> str:
    return Path(variables[f"{name}_FILE"]).read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_knows_its_database_its_secret_and_its_neighbours(
    home: Home, postgres: PostgresServer, service: str
) -> None:
    found = environment(home, postgres, service)
    prefix = f"QUARRY_{service.upper()}_"
    assert content(found, f"{prefix}DATABASE_URL").startswith(f"postgresql+asyncpg://{service}:")
    assert content(found, f"{prefix}SYSTEM_DATABASE_URL").startswith(f"postgresql+asyncpg://{service}_system:")
    assert "/quarry?host=/" in content(found, f"{prefix}DATABASE_URL")
    password = home.secrets.get(f"{service}_redis_password")
    assert content(found, f"{prefix}REDIS_URL") == f"unix://{service}:{password}@/sockets/redis.sock?db=0"
    assert found[f"{prefix}INDEXING_URL"] == f"http://127.0.0.1:{PORTS['indexing']}"
    assert len(content(found, f"{prefix}SERVICE_SECRET")) >= 43
    assert found["QUARRY_ENVIRONMENT"] == "development"
    assert not any("OWNER" in name for name in found)


def test_no_secret_is_in_an_environment(home: Home, postgres: PostgresServer) -> None:
    values = {value for service in SERVICES for value in environment(home, postgres, service).values()}
    secrets = {path.read_text() for path in home.secrets.folder.iterdir()}
    assert len(secrets) > 20
    assert not [value for value in values if any(secret in value for secret in secrets)]


def test_identity_knows_everybodys_secret_and_the_provider(home: Home, postgres: PostgresServer) -> None:
    found = environment(home, postgres, "identity")
    secrets = json.loads(content(found, "QUARRY_IDENTITY_SERVICE_SECRETS"))
    assert set(secrets) == {*SERVICES, "operator"}
    for service in SERVICES:
        variables = environment(home, postgres, service)
        assert content(variables, f"QUARRY_{service.upper()}_SERVICE_SECRET") == secrets[service]
    (provider,) = json.loads(content(found, "QUARRY_IDENTITY_PROVIDERS"))
    assert provider.pop("client_secret")
    assert provider == {"name": "dev", "issuer": "http://127.0.0.1:9400", "client_id": "quarry"}
    assert len(base64.urlsafe_b64decode(content(found, "QUARRY_IDENTITY_ENCRYPTION_KEY"))) == 32
    assert found["QUARRY_IDENTITY_PUBLIC_URL"] == f"http://127.0.0.1:{PORTS['gateway']}"


def test_without_a_provider_identity_is_told_of_none(home: Home, postgres: PostgresServer) -> None:
    found = service_environment("identity", home, endpoints(home, postgres, None), {})
    assert content(found, "QUARRY_IDENTITY_PROVIDERS") == "[]"


def test_each_service_gets_what_only_it_needs(home: Home, postgres: PostgresServer) -> None:
    assert environment(home, postgres, "projects")["QUARRY_PROJECTS_BLOB_ROOT"] == str(home.blobs)
    indexing = environment(home, postgres, "indexing")
    assert indexing["QUARRY_INDEXING_DATA_DIR"] == str(home.vectors)
    assert indexing["QUARRY_INDEXING_MODEL_DIR"] == str(home.models)
    gateway = environment(home, postgres, "gateway")
    assert gateway["QUARRY_GATEWAY_PORT"] == str(PORTS["gateway"])
    assert gateway["QUARRY_GATEWAY_PUBLIC_URL"] == f"http://127.0.0.1:{PORTS['gateway']}"


def test_the_stack_decides_addresses_and_the_caller_the_rest(home: Home, postgres: PostgresServer) -> None:
    found = environment(
        home,
        postgres,
        "indexing",
        QUARRY_INDEXING_DATABASE_URL="postgresql://elsewhere",
        QUARRY_INDEXING_REDIS_URL="redis://elsewhere",
        QUARRY_INDEXING_REDIS_URL_FILE="/elsewhere",
        QUARRY_INDEXING_MODEL_DIR="/models",
        QUARRY_LOG_LEVEL="DEBUG",
        QUARRY_LOG_FORMAT_FILE="/format",
        PATH="/bin",
    )
    assert "QUARRY_INDEXING_DATABASE_URL" not in found
    assert "QUARRY_INDEXING_REDIS_URL" not in found
    assert content(found, "QUARRY_INDEXING_REDIS_URL").startswith("unix://indexing:")
    assert found["QUARRY_INDEXING_MODEL_DIR"] == "/models"
    assert found["QUARRY_LOG_LEVEL"] == "DEBUG"
    assert "QUARRY_LOG_FORMAT" not in found
    assert found["PATH"] == "/bin"


def test_only_migrations_get_the_owners_addresses(home: Home, postgres: PostgresServer) -> None:
    found = owner_environment(home, postgres, {})
    for service in SERVICES:
        assert content(found, f"QUARRY_{service.upper()}_OWNER_DATABASE_URL").startswith(
            f"postgresql+asyncpg://{service}_owner:"
        )
