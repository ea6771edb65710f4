"""Exchanges a client's credential for internal tokens, by asking identity once and caching its response.

Requests that arrive together with one credential share one exchange. A response that a revocation overtook on its way
is requested again, since a client may know of the revocation. So is any exchange that began before the request arrived,
while this process has no lease. An exchange changes nothing and may be repeated, at another replica or at one that
comes back (`services.gateway.upstreams.retries`). If identity cannot be reached, the request gets 503.
"""

import asyncio
import uuid

import aiohttp
import orjson
from pydantic import BaseModel, Field, ValidationError

from services.gateway.admission.credentials import Credential, CredentialType
from services.gateway.admission.token_cache import REFUSAL_SECONDS, Exchange, Refused, TokenCache
from services.gateway.errors import BadUpstreamResponse, UpstreamTimeout
from services.gateway.routes import Flow
from services.gateway.settings import GatewaySettings
from services.gateway.upstreams.replicas import Replica
from services.gateway.upstreams.retries import BufferedResponse, RetryPolicy, send_with_retries
from services.gateway.upstreams.upstream import Upstream
from shared.auth import AUDIENCES, Principal, PrincipalKind, Scope
from shared.errors import Unauthenticated, Unavailable

ASK_SECONDS = 3.0
_MOST_QUESTIONS = 3
# A token must still be valid when the service checks it, a little later and by another clock.
EXPIRY_MARGIN_SECONDS = 10.0


class _Answer(BaseModel):
    """Identity's response to `POST /internal/token`."""

    tokens: dict[str, str]
    expires_in: float = Field(gt=0)
    credential_expires_in: float | None = None
    kind: PrincipalKind
    user_id: uuid.UUID | None
    tenant_id: uuid.UUID | None
    credential_id: uuid.UUID | None
    csrf_token: str | None
    scopes: frozenset[Scope]
    project_id: uuid.UUID | None


class TokenExchange:
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
            Unauthenticated: identity rejects it.
            Unavailable: identity does not respond.
        """
        fingerprint = credential.fingerprint
        answer = self._cache.get(fingerprint)
        for _ in range(_MOST_QUESTIONS):
            if answer is None:
                earlier = self._asking.get(fingerprint)
                if earlier is not None and not self._cache.current():
                    # The next exchange serves all that wait now; not when identity is down, which one failure shows.
                    await asyncio.wait([earlier])
                    if not earlier.cancelled() and (error := earlier.exception()) is not None:
                        raise error
                # Shielded: a client that leaves must not cancel the exchange that others wait for.
                answer = await asyncio.shield(self._question(fingerprint, credential))
            if isinstance(answer, Refused):
                raise Unauthenticated
            if not self._cache.outdated(answer):
                return answer
            answer = None
        raise Unavailable("What this credential allows is changing right now; try again shortly.", retry_after=1)

    async def renewed(self, credential: Credential, exchange: Exchange) -> Exchange:
        """`exchange`, or a new one if it is outdated.

        Raises:
            As `exchange`.
        """
        return await self.exchange(credential) if self._cache.outdated(exchange) else exchange

    def remembers(self, credential: Credential) -> bool:
        """Whether identity need not be asked."""
        return credential.fingerprint in self._cache

    def _question(self, fingerprint: bytes, credential: Credential) -> "asyncio.Task[Exchange | Refused]":
        task = self._asking.get(fingerprint)
        if task is None or task.done():
            task = asyncio.create_task(self._ask(fingerprint, credential), name="credential exchange")
            self._asking[fingerprint] = task
            task.add_done_callback(lambda done: self._forget(fingerprint, done))
        return task

    def _forget(self, fingerprint: bytes, task: "asyncio.Task[Exchange | Refused]") -> None:
        if self._asking.get(fingerprint) is task:
            del self._asking[fingerprint]
        if not task.cancelled():
            task.exception()  # waiting requests get it; without any it does not matter

    async def _ask(self, fingerprint: bytes, credential: Credential) -> Exchange | Refused:
        generation = self._cache.generation
        asked_at = asyncio.get_running_loop().time()
        policy = RetryPolicy(Flow.SHORT, repeatable=True, seconds=self._settings.deadline_seconds)
        try:
            # However many replicas do not respond, the requests that wait must get a response in time.
            async with (
                asyncio.timeout(max(ASK_SECONDS, self._settings.retry_seconds)),
                send_with_retries(
                    self._identity,
                    self._settings,
                    policy,
                    lambda replica: self._post(replica, credential.type, credential.value),
                ) as told,
            ):
                answer = _understand(told.status, told.whole, asked_at, generation)
        except (UpstreamTimeout, BadUpstreamResponse, TimeoutError) as error:
            raise Unavailable("The identity service cannot be reached to check credentials.", retry_after=1) from error
        self._cache.put(fingerprint, answer)
        return answer

    async def _post(self, replica: Replica, kind: CredentialType, value: str) -> BufferedResponse:
        async with self._identity.own.post(
            self._identity.address(replica, "/internal/token", ""),
            json={"credential_type": kind, "credential": value},
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=ASK_SECONDS),
            server_hostname=self._identity.replicas.server_name,
        ) as response:
            return BufferedResponse(response.status, await response.read())


def _understand(status: int, body: bytes, asked_at: float, generation: int) -> Exchange | Refused:
    if status in (401, 422):
        return Refused(asked_at + REFUSAL_SECONDS)
    try:
        if status != 200:
            raise ValueError(f"status {status}")
        answer = _Answer.model_validate(orjson.loads(body))
        if missing := set(AUDIENCES) - answer.tokens.keys():
            raise ValueError(f"no token for {sorted(missing)}")
    except (ValueError, ValidationError) as error:
        # The response may hold tokens, so none of it is logged.
        reason = f"identity answered {status}, not understood: {type(error).__name__}"
        raise Unavailable("The identity service cannot check credentials now.", retry_after=1) from ValueError(reason)
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
        usable_until=asked_at + lifetime,
        credential_until=None if answer.credential_expires_in is None else asked_at + answer.credential_expires_in,
        generation=generation,
    )
