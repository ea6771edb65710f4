from pathlib import Path
from typing import ClassVar

import pytest

from shared.settings import DatabaseSettings, Role, SettingsError
from tests.support.serving import make_settings

COMPLETE = {
    "QUARRY_SAMPLE_DATABASE_URL": "postgresql+asyncpg://sample@/quarry",
    "QUARRY_SAMPLE_SYSTEM_DATABASE_URL": "postgresql+asyncpg://sample_system@/quarry",
    "QUARRY_SAMPLE_REDIS_URL": "redis://localhost",
    "QUARRY_SAMPLE_SERVICE_SECRET": "open-sesame",
    "QUARRY_SAMPLE_IDENTITY_URL": "http://identity",
}


class SampleSettings(DatabaseSettings):
    service: ClassVar[str] = "sample"


def test_every_role_runs_unless_some_are_named() -> None:
    assert make_settings(SampleSettings, COMPLETE).roles == frozenset(Role)
    only = make_settings(SampleSettings, {**COMPLETE, "QUARRY_SAMPLE_ROLES": "http, events"})
    assert only.roles == {Role.HTTP, Role.EVENTS}


def test_a_missing_secret_stops_the_start_and_is_named() -> None:
    environment = {name: value for name, value in COMPLETE.items() if not name.endswith("SERVICE_SECRET")}
    with pytest.raises(SettingsError, match="QUARRY_SAMPLE_SERVICE_SECRET: field required"):
        make_settings(SampleSettings, environment)


def test_a_malformed_value_is_named_but_never_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        make_settings(SampleSettings, {**COMPLETE, "QUARRY_SAMPLE_DATABASE_POOL_SIZE": "secret-by-mistake"})
    assert "QUARRY_SAMPLE_DATABASE_POOL_SIZE" in str(caught.value)
    assert "secret-by-mistake" not in str(caught.value)


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(SettingsError, match="ROLES"):
        make_settings(SampleSettings, {**COMPLETE, "QUARRY_SAMPLE_ROLES": "everything"})


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from-a-file\n")
    environment = {name: value for name, value in COMPLETE.items() if not name.endswith("SERVICE_SECRET")}
    settings = make_settings(SampleSettings, {**environment, "QUARRY_SAMPLE_SERVICE_SECRET_FILE": str(secret)})
    assert settings.service_secret.get_secret_value() == "from-a-file"


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="QUARRY_SAMPLE_SERVICE_SECRET_FILE"):
        environment = {name: value for name, value in COMPLETE.items() if not name.endswith("SERVICE_SECRET")}
        make_settings(SampleSettings, {**environment, "QUARRY_SAMPLE_SERVICE_SECRET_FILE": str(tmp_path / "none")})


def test_a_variable_for_all_services_applies_where_there_is_no_own_one() -> None:
    settings = make_settings(SampleSettings, {**COMPLETE, "QUARRY_LOG_LEVEL": "DEBUG"})
    assert settings.log_level == "DEBUG"


def test_secrets_do_not_show_in_a_printout() -> None:
    assert "open-sesame" not in repr(make_settings(SampleSettings, COMPLETE))
