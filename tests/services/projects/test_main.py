import uuid
from pathlib import Path

import pytest

from services.projects.main import create_app
from services.projects.settings import ProjectsSettings
from shared.settings import SettingsError
from tests.support.identity import IdentityDouble
from tests.support.serving import in_process, make_settings

Environment = dict[str, str]


async def test_the_service_is_ready_with_its_stores(environment: Environment) -> None:
    async with in_process(create_app, environment) as (_, client):
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert {name for name, result in answer.json()["checks"].items() if result == "ok"} >= {
        "postgres",
        "redis",
        "blobs",
    }


async def test_a_worker_without_the_http_role_offers_no_interface(
    environment: Environment, tokens: IdentityDouble, tmp_path: Path
) -> None:
    variables = {
        **environment,
        "QUARRY_PROJECTS_ROLES": "events",
        "QUARRY_PROJECTS_BLOB_ROOT": str(tmp_path / "new" / "blobs"),
    }
    async with in_process(create_app, variables) as (_, client):
        headers = tokens.headers("projects", tenant_id=uuid.uuid4())
        assert (await client.get("/v1/projects", headers=headers)).status_code == 404
        assert (await client.get("/healthz")).status_code == 200
    assert (tmp_path / "new" / "blobs" / "incoming").is_dir()


async def test_the_service_does_not_start_without_a_place_for_blobs(environment: Environment) -> None:
    variables = {name: value for name, value in environment.items() if not name.endswith("BLOB_ROOT")}
    with pytest.raises(SettingsError, match="QUARRY_PROJECTS_BLOB_ROOT"):
        make_settings(ProjectsSettings, variables)


_BUCKET = {
    "QUARRY_PROJECTS_S3_URL": "http://127.0.0.1:9000",
    "QUARRY_PROJECTS_S3_BUCKET": "documents",
    "QUARRY_PROJECTS_S3_ACCESS_KEY_ID": "id",
    "QUARRY_PROJECTS_S3_SECRET_ACCESS_KEY": "secret",
}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, "BLOB_ROOT: .*set one of"),
        ({"QUARRY_PROJECTS_BLOB_ROOT": "", "QUARRY_PROJECTS_S3_URL": "documents"}, "S3_URL: .*url"),
        ({"QUARRY_PROJECTS_BLOB_ROOT": "", "QUARRY_PROJECTS_S3_BUCKET": ""}, "S3_BUCKET: .*required"),
        ({"QUARRY_PROJECTS_BLOB_ROOT": "", "QUARRY_PROJECTS_S3_ACCESS_KEY_ID": ""}, "S3_ACCESS_KEY_ID: .*required"),
    ],
)
async def test_the_service_does_not_start_with_half_a_bucket(
    environment: Environment, changed: Environment, named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        make_settings(ProjectsSettings, {**environment, **_BUCKET, **changed})


async def test_a_bucket_takes_the_place_of_the_folder(environment: Environment) -> None:
    settings = make_settings(ProjectsSettings, {**environment, **_BUCKET, "QUARRY_PROJECTS_BLOB_ROOT": ""})
    assert (settings.blob_root, settings.s3_bucket, settings.s3_public_url) == (None, "documents", None)


async def test_documents_may_have_512_mib_unless_told_otherwise(environment: Environment) -> None:
    variables = {name: value for name, value in environment.items() if "MAX_DOCUMENT" not in name}
    assert make_settings(ProjectsSettings, variables).max_document_bytes == 512 * 1024 * 1024
