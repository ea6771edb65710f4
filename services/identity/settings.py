"""Settings of identity."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
from datetime import timedelta
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from shared.settings import DatabaseSettings

KEY_BYTES = 32


def is_secure_url(url: str) -> bool:
    """Whether what is sent to `url` cannot be read on the way: HTTPS, or plain HTTP that stays on this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    if parts.scheme != "http" or not parts.hostname:
        return False
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def _secure_url(url: str) -> str:
    if not is_secure_url(url):
        raise ValueError("must be an https URL (http is allowed only on loopback)")
    return url.rstrip("/")


def _from_json(value: Any) -> Any:
    """Settings arrive as text; a structured one is JSON."""
    return json.loads(value) if isinstance(value, str) else value


def _strong(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < 16:
        raise ValueError("must have at least 16 characters")
    return secret


def _whole_key(value: SecretStr) -> SecretStr:
    try:
        key = base64.urlsafe_b64decode(value.get_secret_value())
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be base64url") from error
    if len(key) != KEY_BYTES:
        raise ValueError(f"must be {KEY_BYTES} bytes in base64url")
    return value


SecureUrl = Annotated[str, AfterValidator(_secure_url)]


class Provider(BaseModel):
    """One OpenID Connect issuer users may sign in with."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    display_name: str | None = None
    # Compared with the provider's own metadata character by character (OpenID Connect Discovery 1.0, section 4.3).
    issuer: Annotated[str, AfterValidator(lambda url: _secure_url(url) and url)]
    client_id: str = Field(min_length=1)
    client_secret: SecretStr
    scope: str = "openid email profile"


def _distinct(providers: tuple[Provider, ...]) -> tuple[Provider, ...]:
    if len({provider.name for provider in providers}) != len(providers):
        raise ValueError("two providers have the same name")
    return providers


class IdentitySettings(DatabaseSettings):
    service: ClassVar[str] = "identity"

    service_secrets: Annotated[dict[str, Annotated[SecretStr, AfterValidator(_strong)]], BeforeValidator(_from_json)]
    encryption_key: Annotated[SecretStr, AfterValidator(_whole_key)]
    providers: Annotated[tuple[Provider, ...], BeforeValidator(_from_json), AfterValidator(_distinct)]
    public_url: SecureUrl
    projects_url: str = Field(min_length=1)

    session_idle_seconds: int = Field(default=7 * 86_400, ge=300)
    session_absolute_seconds: int = Field(default=30 * 86_400, ge=300)
    max_sessions_per_user: int = Field(default=20, ge=1)
    max_tenants_per_user: int = Field(default=10, ge=1)
    max_new_tenants_per_hour: int = Field(default=20, ge=1)  # of one user
    max_members_per_tenant: int = Field(default=1000, ge=1)
    max_invitations_per_tenant: int = Field(default=200, ge=1)
    max_api_keys_per_tenant: int = Field(default=200, ge=1)
    login_seconds: int = Field(default=600, ge=30, le=3600)
    invitation_seconds: int = Field(default=7 * 86_400, ge=60)
    token_seconds: int = Field(default=60, ge=30, le=300)
    signing_key_days: float = Field(default=30, gt=0)

    @property
    def session_idle(self) -> timedelta:
        return timedelta(seconds=self.session_idle_seconds)

    def derived_key(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose; knowing it reveals nothing about the keys of other purposes."""
        key = base64.urlsafe_b64decode(self.encryption_key.get_secret_value())
        return hmac.digest(key, f"quarry/identity/{purpose}/v1".encode(), hashlib.sha256)
