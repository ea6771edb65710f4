"""Turning a client's credential into internal tokens, by asking identity once and remembering the answer.

Requests that arrive together with one credential share one question. It changes nothing, so it may be asked again, of
another replica or of one that comes back (`services.gateway.attempts`). Identity out of reach is 503, never a pass.
"""

import asyncio
import uuid

import aiohttp
import orjson
from pydantic import BaseModel, Field, ValidationError

from services.gateway.attempts import Terms, Whole, answered
from services.gateway.credentials import Credential, CredentialType
from services.gateway.errors import BadUpstreamAnswer, UpstreamTimeout
from services.gateway.replicas import Replica
from services.gateway.routes import Flow
from services.gateway.settings import GatewaySettings
from services.gateway.token_cache import REFUSAL_SECONDS, Exchange, Refused, TokenCache
from services.gateway.upstreams import Upstream
from shared.auth import AUDIENCES, Principal, PrincipalKind, Scope
from shared.errors import Unauthenticated, Unavailable
from shared.telemetry import get_logger

ASK_SECONDS = 3.0
# A token must still count when the service looks at it, a little later and by another clock.
EXPIRY_MARGIN_SECONDS = 10.0

_log = get_logger(__name__)


class _Answer(BaseModel):
    """Identity's answer to `POST /internal/token`."""

    tokens: dict[str, str]
    expires_in: float = Field(gt=0)
    kind: PrincipalKind
    user_id: uuid.UUID | None
    tenant_id: uuid.UUID | None
    credential_id: uuid.UUID | None
    csrf_token: str | None
    scopes: frozenset[Scope]
    project_id: uuid.UUID | None


class Exchanges:
    """Asks identity, through `cache`. Made in the lifespan."""

    def __init__(self, identity: Upstream, settings: GatewaySettings, cache: TokenCache) -> None:
        self._identity = identity
        self._settings = settings
        # The content type by hand: the session adds none, because a proxied request has its own or none.
        self._headers = {
            "Authorization": aiohttp.encode_basic_auth("gateway", settings.service_secret.get_secret_value()),
            "Content-Type": "application/json",
            "Host": identity.replicas.authority,
        }
        self._cache = cache
        self._asking: dict[bytes, asyncio.Task[Exchange | Refused]] = {}

    async def exchange(self, credential: Credential) -> Exchange:
        """The internal tokens for a credential.

        Raises:
            Unauthenticated: identity says it does not count.
            Unavailable: identity does not answer.
        """
        fingerprint = credential.fingerprint
        answer = self._cache.get(fingerprint)
        if answer is None:
            # Shielded: a client that leaves must not take the answer from the others who wait for it.
            answer = await asyncio.shield(self._question(fingerprint, credential))
        if isinstance(answer, Refused):
            raise Unauthenticated
        return answer

    def _question(self, fingerprint: bytes, credential: Credential) -> "asyncio.Task[Exchange | Refused]":
        task = self._asking.get(fingerprint)
        if task is None:
            task = asyncio.create_task(self._ask(fingerprint, credential), name="credential exchange")
            self._asking[fingerprint] = task
            task.add_done_callback(lambda done: self._forget(fingerprint, done))
        return task

    def _forget(self, fingerprint: bytes, task: "asyncio.Task[Exchange | Refused]") -> None:
        del self._asking[fingerprint]
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; with nobody left it is no news

    async def _ask(self, fingerprint: bytes, credential: Credential) -> Exchange | Refused:
        generation = self._cache.generation
        asked_at = asyncio.get_running_loop().time()
        terms = Terms(Flow.SHORT, repeatable=True, seconds=self._settings.deadline_seconds)
        try:
            async with answered(
                self._identity,
                self._settings,
                terms,
                lambda replica: self._post(replica, credential.type, credential.value),
            ) as told:
                answer = _understand(told.status, told.whole, asked_at)
        except (UpstreamTimeout, BadUpstreamAnswer) as error:
            raise Unavailable("Identity cannot be reached to check credentials.", retry_after=1) from error
        self._cache.put(fingerprint, answer, generation=generation)
        return answer

    async def _post(self, replica: Replica, kind: CredentialType, value: str) -> Whole:
        async with self._identity.short.post(
            self._identity.address(replica, "/internal/token", ""),
            json={"credential_type": kind, "credential": value},
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=ASK_SECONDS),
            server_hostname=self._identity.replicas.server_name,
        ) as response:
            return Whole(response.status, await response.read())


def _understand(status: int, body: bytes, asked_at: float) -> Exchange | Refused:
    if status in (401, 422):
        return Refused(asked_at + REFUSAL_SECONDS)
    try:
        if status != 200:
            raise ValueError(f"status {status}")
        answer = _Answer.model_validate(orjson.loads(body))
        if missing := set(AUDIENCES) - answer.tokens.keys():
            raise ValueError(f"no token for {sorted(missing)}")
    except (ValueError, ValidationError) as error:
        _log.error("token_exchange_not_understood", status=status, reason=type(error).__name__)
        raise Unavailable("Identity cannot check credentials now.", retry_after=1) from error
    lifetime = answer.expires_in - min(EXPIRY_MARGIN_SECONDS, answer.expires_in / 4)
    return Exchange(
        principal=Principal(
            kind=answer.kind,
            subject=str(answer.user_id),
            user_id=answer.user_id,
            tenant_id=answer.tenant_id,
            tenant_role=None,
            limit=answer.scopes,
            credential_id=answer.credential_id,
            project_id=answer.project_id,
        ),
        tokens=answer.tokens,
        csrf_token=answer.csrf_token,
        fetched_at=asked_at,
        usable_until=asked_at + lifetime,
    )
