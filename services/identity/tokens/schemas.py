"""Shapes of the internal endpoints."""

import uuid
from typing import Any, Literal

from pydantic import BaseModel, Field

from shared.auth import MAX_TOKEN_BYTES, PrincipalKind, Scope
from shared.request_bodies import Input
from shared.service_permissions import Audience


class Credential(Input):
    """What a client presented to the gateway."""

    credential_type: Literal["session", "api_key", "bearer"]
    credential: str = Field(min_length=1, max_length=4096)


class ExchangedTokens(BaseModel):
    """Internal tokens for the holder of a credential; `csrf_token` for sessions only.

    Both expiries are in seconds from now; `credential_expires_in` is null for a credential without an end.
    """

    tokens: dict[str, str]
    expires_in: float
    credential_expires_in: float | None
    kind: PrincipalKind
    user_id: uuid.UUID | None
    tenant_id: uuid.UUID | None
    credential_id: uuid.UUID | None
    csrf_token: str | None
    scopes: list[Scope]
    project_id: uuid.UUID | None


class AcceptedCredential(Input):
    """A client's credential as an internal token names it."""

    kind: Literal[PrincipalKind.SESSION, PrincipalKind.API_KEY]
    credential_id: uuid.UUID


class Authority(BaseModel):
    """`claims` of the token that the credential would get now; null when its tenant is not the one asked about."""

    counts: bool
    claims: dict[str, Any] | None


class ServiceTokenRequest(Input):
    """`tenant_id` is null, never missing, for a token about the installation."""

    audience: Audience
    tenant_id: uuid.UUID | None


class DelegatedTokenRequest(Input):
    """`token` is the internal token that a client's request to the asking service came with."""

    token: str = Field(min_length=1, max_length=MAX_TOKEN_BYTES)
    audience: Audience


class DelegatedToken(BaseModel):
    """`token` is null when the client's credential no longer counts."""

    token: str | None


class OperatorTokenRequest(Input):
    audience: Audience


class ServiceToken(BaseModel):
    token: str
    expires_in: float


class PublicKeys(BaseModel):
    """JWK set (RFC 7517)."""

    keys: list[dict[str, Any]]
