"""Shapes of the internal endpoints."""

import uuid
from typing import Any, Literal

from pydantic import BaseModel, Field

from shared.auth import PrincipalKind, Scope
from shared.http import Input

Audience = Literal["identity", "projects", "indexing", "notifier"]


class Credential(Input):
    """What a client presented to the gateway."""

    credential_type: Literal["session", "api_key", "bearer"]
    credential: str = Field(min_length=1, max_length=4096)


class ExchangedTokens(BaseModel):
    """Internal tokens for the holder of a credential. `expires_in` in seconds; `csrf_token` for sessions only."""

    tokens: dict[str, str]
    expires_in: float
    kind: PrincipalKind
    user_id: uuid.UUID | None
    tenant_id: uuid.UUID | None
    credential_id: uuid.UUID | None
    csrf_token: str | None
    scopes: list[Scope]
    project_id: uuid.UUID | None


class ServiceTokenRequest(Input):
    audience: Audience
    tenant_id: uuid.UUID


class OperatorTokenRequest(Input):
    audience: Audience


class ServiceToken(BaseModel):
    token: str
    expires_in: float


class PublicKeys(BaseModel):
    """JWK set (RFC 7517)."""

    keys: list[dict[str, Any]]
