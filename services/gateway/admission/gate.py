"""Who may pass: limits per address, the credential, protection of browser sessions, limits per user and tenant.

In this order, so that checks that cost identity or Redis something come after those that cost nothing.

Clients without a valid credential do not use up the limits of those with one at the same address: requests without a
credential have one limit (`anonymous`), invalid credentials another (`guesses`). A credential that was valid before in
this process is not refused because of guesses by others at its address; one never seen is, until the limit allows more.
Each address has a share of the exchanges with identity, and known credentials have places of their own for them.

Cross-site requests (CSRF): a session cookie alone never changes anything. An unsafe method needs the session's CSRF
token in a header, and where the browser names the requesting site (`Sec-Fetch-Site`, `Origin`), it must be ours or a
listed one. Routes for programs take no session at all, and no request of a page whose `Origin` is not ours or listed,
whatever the browser says of the site: to a browser, a name that was bound to our address is the same site.
"""

import hmac
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from services.gateway.admission import credentials
from services.gateway.admission.concurrency_limits import Bounds, ConcurrencyLimit
from services.gateway.admission.credentials import Credential
from services.gateway.admission.rate_limits import Limit, RateLimiter, Verdict, headers_for
from services.gateway.admission.token_cache import Exchange
from services.gateway.admission.token_exchange import TokenExchange
from services.gateway.errors import CrossSite, CsrfTokenWrong
from services.gateway.inbound.request_validation import ClientRequest, limit_key
from services.gateway.routes import SAFE_METHODS, Access, Route
from services.gateway.settings import GatewaySettings
from services.gateway.upstreams.upstream import POOL_SECONDS
from shared.auth import PrincipalKind
from shared.errors import NotFound, QuarryError, RateLimited, Unauthenticated

# Exchanges with identity that may be under way for credentials known here, and as many for others.
EXCHANGES: Final = 64
EXCHANGES_PER_ADDRESS: Final = 16
MOST_KNOWN: Final = 50_000


@dataclass(slots=True)
class Admission:
    """What is known about a request. Filled as far as it came, so that a refusal shows its limits too."""

    credential: Credential | None = None
    exchange: Exchange | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class Gate:
    """The rules of admission. Made in the lifespan. `limited` counts refusals by the name of the limit."""

    def __init__(self, settings: GatewaySettings, exchanges: TokenExchange, limiter: RateLimiter) -> None:
        self._exchanges = exchanges
        self._limiter = limiter
        self._origins = frozenset({settings.public_url, *settings.cors_origins})
        self._anonymous = Limit("anonymous", settings.anonymous_per_minute)
        self._guesses = Limit("guesses", settings.guesses_per_minute or settings.anonymous_per_minute)
        self._sign_in = Limit("sign_in", settings.sign_in_per_minute, fails_closed=True)
        self._user = Limit("user", settings.user_per_minute)
        self._tenant = Limit("tenant", settings.tenant_per_minute)
        limits = (self._anonymous, self._guesses, self._sign_in, self._user, self._tenant)
        self.limited = {limit.name: 0 for limit in limits}
        seconds = settings.retry_seconds + POOL_SECONDS
        asking = Bounds(EXCHANGES, EXCHANGES_PER_ADDRESS, settings.waiting_per_tenant, settings.most_waiting, seconds)
        self._asking_of_known, self._asking_of_others = (
            ConcurrencyLimit(asking, "Identity is"),
            ConcurrencyLimit(asking, "Identity is"),
        )
        self._known: OrderedDict[bytes, None] = OrderedDict()

    async def admit(self, request: ClientRequest, route: Route | None, admission: Admission) -> None:
        """Admit a request, or raise why not.

        Raises:
            RateLimited, NotFound, Unauthenticated, CrossSite, CsrfTokenWrong, InvalidRequest, Unavailable.
        """
        address = limit_key(request.address)
        if route is None:
            await self._count_stranger(self._anonymous, address, admission)
            raise NotFound
        if route.access is not Access.CREDENTIAL:
            if credentials.session_cookies(request):
                self._refuse_cross_site(request)
            limit = self._sign_in if route.access is Access.SIGN_IN else self._anonymous
            self._judge([await self._limiter.take(limit, address)], admission)
            return
        if not route.sessions:
            self._refuse_foreign_origin(request)
        credential = await self._credential(request, route, address, admission)
        exchange = await self._exchanged(credential, address, admission)
        admission.credential, admission.exchange = credential, exchange
        if exchange.principal.kind is PrincipalKind.SESSION:
            self._refuse_cross_site(request)
            _require_csrf_token(request, exchange)
        await self._count_principal(exchange, admission)

    async def _credential(self, request: ClientRequest, route: Route, address: str, admission: Admission) -> Credential:
        try:
            return credentials.find(request, sessions=route.sessions)
        except QuarryError:
            await self._count_stranger(self._anonymous, address, admission)
            raise

    async def _exchanged(self, credential: Credential, address: str, admission: Admission) -> Exchange:
        fingerprint = credential.fingerprint
        known = fingerprint in self._known
        if not known and (standing := self._limiter.refusal(self._guesses, address)) is not None:
            self._judge([standing], admission)
        try:
            if known and self._exchanges.remembers(credential):
                return await self._exchanges.exchange(credential)
            async with (self._asking_of_known if known else self._asking_of_others).take(address):
                exchange = await self._exchanges.exchange(credential)
        except Unauthenticated:
            self._known.pop(fingerprint, None)
            await self._count_stranger(self._guesses, address, admission)
            raise
        self._remember(fingerprint)
        return exchange

    def _remember(self, fingerprint: bytes) -> None:
        self._known[fingerprint] = None
        self._known.move_to_end(fingerprint)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    async def _count_stranger(self, limit: Limit, address: str, admission: Admission) -> None:
        self._judge([await self._limiter.take(limit, address)], admission)

    async def _count_principal(self, exchange: Exchange, admission: Admission) -> None:
        verdicts = []
        principal = exchange.principal
        for limit, subject in ((self._user, principal.user_id), (self._tenant, principal.tenant_id)):
            if subject is not None:
                verdicts.append(await self._limiter.take(limit, str(subject)))
                self._judge(verdicts, admission)

    def _judge(self, verdicts: list[Verdict], admission: Admission) -> None:
        """Put the state of the limits into the response; refuse when one is used up."""
        admission.headers = headers_for(verdicts)
        for verdict in verdicts:
            if not verdict.allowed:
                self.limited[verdict.limit.name] += 1
                raise RateLimited(retry_after=verdict.retry_after)

    def _refuse_foreign_origin(self, request: ClientRequest) -> None:
        origin = request.header(b"origin")
        if origin is not None and origin.lower() not in self._origins:
            raise CrossSite

    def _refuse_cross_site(self, request: ClientRequest) -> None:
        if request.method in SAFE_METHODS:
            return
        origin, site = request.header(b"origin"), request.header(b"sec-fetch-site")
        # The browser's statement on how the two sites relate; pages cannot set it.
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
