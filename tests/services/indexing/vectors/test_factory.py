"""Which engine the settings ask for, and what they refuse."""

import os
from pathlib import Path

import pytest

from services.indexing.settings import IndexingSettings
from services.indexing.vectors.embedded.engine import EmbeddedEngine
from services.indexing.vectors.embedded.remote_engine import RemoteEngine
from services.indexing.vectors.embedded.serving_engine import ServingEngine
from services.indexing.vectors.factory import store_of
from services.indexing.vectors.qdrant.engine import QdrantEngine
from shared.settings import SettingsError
from tests.support.commands import run_json
from tests.support.serving import make_settings

NEEDED = {
    "QUARRY_INDEXING_REDIS_URL": "redis://nowhere",
    "QUARRY_INDEXING_SERVICE_SECRET": "secret",
    "QUARRY_INDEXING_IDENTITY_URL": "http://nowhere",
    "QUARRY_INDEXING_PROJECTS_URL": "http://nowhere",
    "QUARRY_INDEXING_DATABASE_URL": "postgresql://nowhere",
    "QUARRY_INDEXING_SYSTEM_DATABASE_URL": "postgresql://nowhere",
    "QUARRY_INDEXING_DATA_DIR": "/nowhere/data",
    "QUARRY_INDEXING_MODEL_DIR": "/nowhere/models",
}
LISTEN = {"QUARRY_INDEXING_VECTORS_LISTEN": "/nowhere/vectors.sock"}
SOCKET = {"QUARRY_INDEXING_VECTORS_SOCKET": "/nowhere/vectors.sock"}
QDRANT = {"QUARRY_INDEXING_QDRANT_URL": "https://qdrant:6333", "QUARRY_INDEXING_QDRANT_API_KEY": "key"}


def settings(*variables: dict[str, str]) -> IndexingSettings:
    environment = dict(NEEDED)
    for more in variables:
        environment |= more
    return make_settings(IndexingSettings, environment)


@pytest.mark.parametrize(
    "variables,engine", [({}, EmbeddedEngine), (LISTEN, ServingEngine), (SOCKET, RemoteEngine), (QDRANT, QdrantEngine)]
)
async def test_the_settings_name_the_engine(variables: dict[str, str], engine: type[object]) -> None:
    assert type(store_of(settings(variables), [384])._engines[384]) is engine


@pytest.mark.parametrize("several", [(LISTEN, SOCKET), (LISTEN, QDRANT), (SOCKET, QDRANT), (LISTEN, SOCKET, QDRANT)])
def test_vectors_are_in_one_place(several: tuple[dict[str, str], ...]) -> None:
    with pytest.raises(SettingsError, match="only one of vectors_listen, vectors_socket and qdrant_url"):
        settings(*several)


@pytest.mark.parametrize(
    "variable,value,reason",
    [
        ("VECTORS_LISTEN", "", "absolute path"),
        ("VECTORS_LISTEN", "run/vectors.sock", "absolute path"),
        ("VECTORS_SOCKET", "run/vectors.sock", "absolute path"),
        ("VECTORS_SOCKET", "/" + "x" * 91, "91 bytes"),
        ("QDRANT_URL", "", "http or https"),
        ("QDRANT_URL", "qdrant:6333", "http or https"),
        ("QDRANT_URL", "http://", "http or https"),
        ("QDRANT_GRPC_PORT", "0", "greater than"),
        ("QDRANT_COLLECTION", "../other", "pattern"),
    ],
)
def test_a_place_that_cannot_be_is_refused(variable: str, value: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as refused:
        settings({"QUARRY_INDEXING_QDRANT_API_KEY": "key", f"QUARRY_INDEXING_{variable}": value})
    assert f"QUARRY_INDEXING_{variable}:" in str(refused.value)


@pytest.mark.parametrize("key", [{}, {"QUARRY_INDEXING_QDRANT_API_KEY": ""}])
def test_a_server_without_its_key_is_refused(key: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"QUARRY_INDEXING_QDRANT_API_KEY: .*required with qdrant_url"):
        settings({"QUARRY_INDEXING_QDRANT_URL": "http://qdrant:6333"}, key)


def test_the_key_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file\n")
    loaded = settings(
        {
            "QUARRY_INDEXING_QDRANT_URL": "http://qdrant:6333",
            "QUARRY_INDEXING_QDRANT_API_KEY_FILE": str(tmp_path / "key"),
        }
    )
    assert loaded.qdrant_api_key is not None
    assert loaded.qdrant_api_key.get_secret_value() == "from a file"
    assert "from a file" not in repr(loaded)


async def test_who_uses_no_server_does_not_load_its_client() -> None:
    """It takes two seconds and 90 MiB."""
    program = "import json, sys, services.indexing.main; print(json.dumps({'loaded': 'qdrant_client' in sys.modules}))"
    assert await run_json(["-c", program], os.environ) == {"loaded": False}
