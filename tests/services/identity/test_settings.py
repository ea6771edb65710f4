"""Settings: what is missing or weak stops the start by name, and no value is ever shown."""

import base64
import json
from typing import Any

import pytest
from pydantic import ValidationError

from services.identity.settings import IdentitySettings, is_secure_url
from shared.settings import SettingsError

PROVIDER = {"name": "dev", "issuer": "https://issuer.test", "client_id": "quarry", "client_secret": "s3cr3t-canary"}
GOOD: dict[str, Any] = {
    "redis_url": "redis://localhost",
    "service_secret": "x",
    "identity_url": "http://localhost",
    "database_url": "postgresql+asyncpg://localhost",
    "system_database_url": "postgresql+asyncpg://localhost",
    "service_secrets": json.dumps({"gateway": "a-secret-of-16-characters"}),
    "encryption_key": base64.urlsafe_b64encode(b"k" * 32).decode(),
    "providers": json.dumps([PROVIDER]),
    "public_url": "https://quarry.test/",
    "projects_url": "http://projects.test",
}


def test_good_settings_are_accepted() -> None:
    settings = IdentitySettings(**GOOD)
    assert settings.public_url == "https://quarry.test"
    assert settings.providers[0].issuer == "https://issuer.test"
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encryption_key", "short"),
        ("encryption_key", base64.urlsafe_b64encode(b"k" * 31).decode()),
        ("encryption_key", "é"),
        ("service_secrets", json.dumps({"gateway": "short"})),
        ("providers", json.dumps([PROVIDER, PROVIDER])),
        ("providers", json.dumps([{**PROVIDER, "issuer": "http://issuer.test"}])),
        ("providers", json.dumps([{**PROVIDER, "name": "No Slug"}])),
        ("providers", json.dumps([{**PROVIDER, "secret": "unknown field"}])),
        ("providers", json.dumps([{name: value for name, value in PROVIDER.items() if name != "client_secret"}])),
        ("providers", "not json"),
        ("public_url", "http://quarry.test"),
        ("public_url", "quarry.test"),
        ("session_idle_seconds", 1),
    ],
)
def test_bad_settings_are_refused_without_being_shown(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        IdentitySettings(**{**GOOD, name: value})
    assert {error["loc"][0] for error in refused.value.errors()} == {name}
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("name", ["encryption_key", "service_secrets", "providers", "public_url"])
def test_there_is_no_default_for_what_an_installation_must_choose(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other, value in GOOD.items():
        if other != name:
            monkeypatch.setenv(f"QUARRY_IDENTITY_{other.upper()}", value)
    with pytest.raises(SettingsError, match=f"QUARRY_IDENTITY_{name.upper()}"):
        IdentitySettings.load()


def test_derived_keys_differ_by_purpose() -> None:
    settings = IdentitySettings(**GOOD)
    assert len(settings.derived_key("csrf")) == 32
    assert settings.derived_key("csrf") != settings.derived_key("signing-keys")


@pytest.mark.parametrize(
    ("url", "secure"),
    [
        ("https://a.test", True),
        ("http://localhost:8080", True),
        ("http://127.0.0.1", True),
        ("http://[::1]:1", True),
        ("http://a.test", False),
        ("http://127.0.0.1.a.test", False),
        ("http://", False),
        ("https://", False),
        ("ftp://localhost", False),
        ("", False),
    ],
)
def test_plain_http_stays_on_this_machine(url: str, secure: bool) -> None:
    assert is_secure_url(url) is secure
