"""Secrets of the system in containers: made once, complete, ready for who reads them, and never shown."""

import json
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.docker import secrets
from infra.local.home import ROOT
from infra.postgres.provision import passwords_from
from infra.postgres.roles import all_roles
from infra.redis import acl
from services.identity.settings import IdentitySettings
from shared.topology import SERVICES


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "secrets"
    secrets.write(folder)
    return folder


def test_only_the_owner_gets_to_the_files_and_containers_can_read_them(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()} == {0o444}
    assert sorted(contents(made)) == secrets.names()


def test_a_folder_that_others_can_enter_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    secrets.write(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_second_run_changes_nothing(made: Path) -> None:
    before = contents(made)
    assert secrets.write(made) == []
    assert contents(made) == before


def test_what_is_missing_is_added_and_what_is_there_is_kept(made: Path) -> None:
    (made / "projects_database_url").unlink()
    (made / "redis_users.acl").unlink()
    before = contents(made)
    said = secrets.write(made)
    assert said == ["created projects_database_url", "updated database_passwords", "created redis_users.acl"]
    after = contents(made)
    del before["database_passwords"]
    assert {name: after[name] for name in before} == before


def test_every_password_is_its_own_and_long(made: Path) -> None:
    passwords = passwords_from({"QUARRY_POSTGRES_PASSWORDS_FILE": str(made / "database_passwords")})
    assert set(passwords) == set(all_roles())
    redis = [urlsplit((made / f"{user}_redis_url").read_text()).password or "" for user in acl.USERS]
    others = [(made / name).read_text() for name in ("postgres_password", "qdrant_api_key", "operator_secret")]
    every = [*passwords.values(), *redis, *others, *((made / f"{service}_secret").read_text() for service in SERVICES)]
    assert len(set(every)) == len(every)
    assert min(map(len, every)) >= 43


def test_addresses_name_the_servers_of_the_compose_file(made: Path) -> None:
    for service in SERVICES:
        redis = urlsplit((made / f"{service}_redis_url").read_text())
        assert (redis.scheme, redis.username, redis.hostname, redis.port) == ("redis", service, "redis", 6379)
    owner = urlsplit((made / "projects_owner_database_url").read_text())
    assert (owner.scheme, owner.username, owner.hostname) == ("postgresql+asyncpg", "projects_owner", "postgres")
    assert owner.path == "/quarry"
    admin = urlsplit((made / "postgres_admin_url").read_text())
    assert admin.password == (made / "postgres_password").read_text()


def test_identity_can_start_with_what_it_is_given(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("database_url", "system_database_url", "redis_url", "service_secrets", "providers", "encryption_key"):
        monkeypatch.setenv(f"QUARRY_IDENTITY_{name.upper()}_FILE", str(made / f"identity_{name}"))
    monkeypatch.setenv("QUARRY_IDENTITY_SERVICE_SECRET_FILE", str(made / "identity_secret"))
    monkeypatch.setenv("QUARRY_IDENTITY_URL", "http://identity:8000")
    monkeypatch.setenv("QUARRY_PROJECTS_URL", "http://projects:8000")
    monkeypatch.setenv("QUARRY_IDENTITY_PUBLIC_URL", "http://localhost:8080")
    settings = IdentitySettings.load()
    assert settings.providers == ()
    known = {name: secret.get_secret_value() for name, secret in settings.service_secrets.items()}
    assert known == {name: (made / f"{name}_secret").read_text() for name in (*SERVICES, acl.OPERATOR)}


def test_redis_knows_the_passwords_by_their_hash_alone(made: Path) -> None:
    accounts = (made / "redis_users.acl").read_text()
    passwords = {user: urlsplit((made / f"{user}_redis_url").read_text()).password or "" for user in acl.USERS}
    assert accounts == acl.render(passwords)
    assert not any(password in accounts for password in passwords.values())
    assert (made / "operator_redis_password").read_text() == passwords[acl.OPERATOR]


def test_rights_that_a_new_version_gives_reach_an_old_folder(made: Path) -> None:
    accounts = made / "redis_users.acl"
    current = accounts.read_text()
    accounts.chmod(0o600)
    accounts.write_text("user default off\n")
    assert secrets.write(made) == ["updated redis_users.acl"]
    assert accounts.read_text() == current


def test_the_key_of_the_vector_server_is_in_its_own_kind_of_file(made: Path) -> None:
    settings = json.loads((made / "qdrant_config.yaml").read_text())
    assert settings == {"service": {"api_key": (made / "qdrant_api_key").read_text()}}


def test_the_development_sign_in_is_added_to_the_providers_there_are(made: Path) -> None:
    known = [{"name": "google", "issuer": "https://accounts.google.com", "client_id": "x", "client_secret": "y"}]
    path = made / "identity_providers"
    path.chmod(0o600)
    path.write_text(json.dumps(known))
    said = secrets.write(made, dev_issuer="http://localhost:9999")
    assert said == ["added the development sign-in to identity_providers"]
    assert secrets.write(made, dev_issuer="http://localhost:9999") == []
    google, dev = json.loads(path.read_text())
    assert google == known[0]
    assert (dev["name"], dev["issuer"]) == ("dev", "http://localhost:9999")
    assert len(dev["client_secret"]) >= 43


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("projects_secret", "", "projects_secret is empty"),
        ("projects_database_url", "postgresql+asyncpg://projects@postgres/quarry", "contains no password"),
        ("gateway_redis_url", "redis://gateway:short@redis:6379/0", "fewer than 32 characters, for gateway"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(made: Path, name: str, content: str, said: str) -> None:
    (made / name).chmod(0o600)
    (made / name).write_text(content)
    with pytest.raises(secrets.SecretsError, match=said):
        secrets.write(made)


@pytest.mark.parametrize("content", ["{", '["dev"]', "3"])
def test_providers_that_are_no_list_of_providers_are_left_alone(made: Path, content: str) -> None:
    (made / "identity_providers").chmod(0o600)
    (made / "identity_providers").write_text(content)
    with pytest.raises(secrets.SecretsError, match="identity_providers"):
        secrets.write(made, dev_issuer=secrets.DEV_ISSUER)
    assert (made / "identity_providers").read_text() == content


def test_the_command_tells_names_and_no_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "given"
    monkeypatch.setenv("QUARRY_SECRETS", str(folder))
    command = [sys.executable, "-m", "infra.docker.secrets", "--dev"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert f"secrets are in {folder}" in done.stdout
    assert "created gateway_secret" in done.stdout
    values = [value for name, value in contents(folder).items() if name != "identity_providers"]
    assert not any(value in done.stdout + done.stderr for value in values)


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"secrets: .*file"):
        secrets.main(["--folder", str(tmp_path / "file")])
    secrets.main(["--folder", str(tmp_path / "folder")])
    assert "secrets are in" in capsys.readouterr().out
