"""Who may pass: limits per address, the credential, protection of browser sessions, limits per user and tenant.

In this order, so that what costs identity or Redis something is asked only after what costs nothing.

Cross-site requests (CSRF): a session cookie alone never changes anything. An unsafe method needs the session's CSRF
token in a header, and where the browser says which site asks (`Sec-Fetch-Site`, `Origin`), it must be ours or a listed
one.
"""

import hmac
from dataclasses import dataclass, field

from services.gateway import credentials
from services.gateway.client_request import ClientRequest, limit_key
from services.gateway.credentials import Credential
from services.gateway.errors import CrossSite, CsrfTokenWrong
from services.gateway.exchanges import Exchanges
from services.gateway.limits import Limit, RateLimiter, Verdict, headers_for
from services.gateway.routes import SAFE_METHODS, Access, Route
from services.gateway.settings import GatewaySettings
from services.gateway.token_cache import Exchange
from shared.auth import PrincipalKind
from shared.errors import NotFound, QuarryError, RateLimited, Unauthenticated


@dataclass(slots=True)
class Admission:
    """What was found out about a request. Filled as far as it came, so that a refusal shows its limits too."""

    exchange: Exchange | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class Gate:
    """The rules of admission. Made in the lifespan. `limited` counts refusals by the name of the limit."""

    def __init__(self, settings: GatewaySettings, exchanges: Exchanges, limiter: RateLimiter) -> None:
        self._exchanges = exchanges
        self._limiter = limiter
        self._origins = frozenset({settings.public_url, *settings.cors_origins})
        self._anonymous = Limit("anonymous", settings.anonymous_per_minute)
        self._sign_in = Limit("sign_in", settings.sign_in_per_minute, fails_closed=True)
        self._user = Limit("user", settings.user_per_minute)
        self._tenant = Limit("tenant", settings.tenant_per_minute)
        self.limited = {limit.name: 0 for limit in (self._anonymous, self._sign_in, self._user, self._tenant)}

    async def admit(self, request: ClientRequest, route: Route | None, admission: Admission) -> None:
        """Let a request pass or say why not.

        Raises:
            RateLimited, NotFound, Unauthenticated, CrossSite, CsrfTokenWrong, InvalidRequest, Unavailable.
        """
        address = limit_key(request.address)
        if (standing := self._limiter.refusal(self._anonymous, address)) is not None:
            self._judge([standing], admission)
        if route is None:
            await self._count_stranger(address, admission)
            raise NotFound
        if route.access is not Access.CREDENTIAL:
            if credentials.session_cookies(request):
                self._refuse_cross_site(request)
            limit = self._sign_in if route.access is Access.SIGN_IN else self._anonymous
            self._judge([await self._limiter.take(limit, address)], admission)
            return
        credential = await self._credential(request, address, admission)
        exchange = await self._exchanged(credential, address, admission)
        admission.exchange = exchange
        if exchange.principal.kind is PrincipalKind.SESSION:
            self._refuse_cross_site(request)
            _require_csrf_token(request, exchange)
        await self._count_principal(exchange, admission)

    async def _credential(self, request: ClientRequest, address: str, admission: Admission) -> Credential:
        try:
            return credentials.find(request)
        except QuarryError:
            await self._count_stranger(address, admission)
            raise

    async def _exchanged(self, credential: Credential, address: str, admission: Admission) -> Exchange:
        try:
            return await self._exchanges.exchange(credential)
        except Unauthenticated:
            await self._count_stranger(address, admission)
            raise

    async def _count_stranger(self, address: str, admission: Admission) -> None:
        self._judge([await self._limiter.take(self._anonymous, address)], admission)

    async def _count_principal(self, exchange: Exchange, admission: Admission) -> None:
        verdicts = []
        principal = exchange.principal
        for limit, subject in ((self._user, principal.user_id), (self._tenant, principal.tenant_id)):
            if subject is not None:
                verdicts.append(await self._limiter.take(limit, str(subject)))
                self._judge(verdicts, admission)

    def _judge(self, verdicts: list[Verdict], admission: Admission) -> None:
        """Say the state of the limits in the answer; stop here when one is used up."""
        admission.headers = headers_for(verdicts)
        for verdict in verdicts:
            if not verdict.allowed:
                self.limited[verdict.limit.name] += 1
                raise RateLimited(retry_after=verdict.retry_after)

    def _refuse_cross_site(self, request: ClientRequest) -> None:
        if request.method in SAFE_METHODS:
            return
        origin, site = request.header(b"origin"), request.header(b"sec-fetch-site")
        # A browser's word on the relation of the two sites; pages cannot set it.
        if site in ("same-origin", "none") or (site is None and origin is None):
            return
        if origin is None or origin.lower() not in self._origins:
            raise CrossSite


def _require_csrf_token(request: ClientRequest, exchange: Exchange) -> None:
    if request.method in SAFE_METHODS:
        return
    sent = request.header(b"x-csrf-token") or ""
    if not exchange.csrf_token or not hmac.compare_digest(sent.encode("latin-1"), exchange.csrf_token.encode("utf-8")):
        raise CsrfTokenWrong
