"""The proxy: a plain ASGI application that passes a request to the service it is for and streams the answer back.

Guarantees: constant memory, whatever passes; backpressure in both directions; a client that leaves ends the call to the
service, a service that breaks off ends the connection to the client, so that neither takes a part for the whole. Every
wait has an end (`services.gateway.patience`). What cannot be passed on is answered with a problem document.
Whether a request is tried again, and where, is decided by `services.gateway.attempts`.
"""

import time
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from starlette.types import Receive, Scope, Send

from services.gateway import client_request, headers, routes
from services.gateway.admission import Admission
from services.gateway.attempts import Terms, answered
from services.gateway.client_request import ClientRequest
from services.gateway.errors import AnswerCut, ClientGone, UpstreamTimeout
from services.gateway.lifeline import Lifeline
from services.gateway.patience import Patience
from services.gateway.replicas import Replica
from services.gateway.request_body import RequestBody
from services.gateway.routes import SAFE_METHODS, Access, Flow, Route
from services.gateway.runtime import Runtime
from services.gateway.token_cache import Exchange
from services.gateway.upstreams import Upstream
from shared.errors import QuarryError, TooLarge
from shared.http import loggable_path, problem_response
from shared.telemetry import current_traceparent, get_logger

SMALL_ANSWER_BYTES: Final = 64 * 1024

_log = get_logger(__name__)


class ServerClosing(Exception):
    """This process is about to end: an open event stream is completed, its client resumes elsewhere."""


async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request. To be mounted in an application whose `state.runtime` is a `Runtime`."""
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008})
        return
    passage = _Passage(scope["app"].state.runtime, scope, receive, send)
    try:
        await passage.run()
    except ClientGone:
        return
    except ServerClosing:
        await send({"type": "http.response.body"})
    except (QuarryError, AnswerCut) as error:
        if passage.answering or isinstance(error, AnswerCut):
            # Too late for another status. Returning without the end of the body makes the server close the connection.
            _log.warning("answer_cut", path=loggable_path(scope["path"]), reason=str(error) or type(error).__name__)
            return
        if error.status >= 500:
            _log.warning(
                "request_not_passed",
                path=loggable_path(scope["path"]),
                code=error.code,
                reason=str(error.__cause__ or error),
            )
        await problem_response(passage.state["request_id"], scope["path"], error)(scope, receive, send)


class _Passage:
    """One request on its way. `answering` is true once the status line has been sent."""

    def __init__(self, runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
        self._runtime = runtime
        self._scope = scope
        self._receive = receive
        self._send = send
        self.state: dict[str, Any] = scope["state"]
        self.answering = False

    async def run(self) -> None:
        request = client_request.read(self._scope, self._runtime.settings.trusted_proxies)
        route = routes.match(request.method, request.path)
        exchange = await self._admit(request, route)
        if route is None:
            return
        most_bytes = self._most_bytes(request, route)
        upstream = self._runtime.upstreams[route.upstream]
        with self._runtime.places.take(upstream, route.flow, exchange):
            async with Lifeline() as lifeline:
                patience = Patience(lifeline, route.flow, self._runtime.settings)
                patience.upstream_begins()
                body = RequestBody(request, self._receive, lifeline, patience, most_bytes)
                try:
                    await self._exchange_bytes(request, route, exchange, upstream, body, lifeline, patience)
                finally:
                    body.close()

    async def _admit(self, request: ClientRequest, route: Route | None) -> Exchange | None:
        started = time.perf_counter()
        admission = Admission()
        try:
            await self._runtime.gate.admit(request, route, admission)
        finally:
            self.state["answer_headers"].extend(admission.headers)
            self.state["timings"]["admission"] = time.perf_counter() - started
            if admission.exchange is not None:
                self.state["principal"] = admission.exchange.principal
        return admission.exchange

    def _most_bytes(self, request: ClientRequest, route: Route) -> int:
        settings = self._runtime.settings
        most = settings.max_upload_bytes if route.flow is Flow.TRANSFER else settings.max_body_bytes
        if request.length is not None and request.length > most:
            raise TooLarge
        return most

    async def _exchange_bytes(
        self,
        request: ClientRequest,
        route: Route,
        exchange: Exchange | None,
        upstream: Upstream,
        body: RequestBody,
        lifeline: Lifeline,
        patience: Patience,
    ) -> None:
        outgoing = self._outgoing_headers(request, route, exchange, upstream)
        started = time.perf_counter()

        async def attempt(replica: Replica) -> _Begun:
            deadline = ("x-quarry-deadline-ms", str(max(1, int(patience.left() * 1000))))
            try:
                return await _begin(request, route, upstream, replica, body, [*outgoing, deadline])
            except (aiohttp.ClientError, OSError) as error:
                if lifeline.reason is not None:
                    # Our own end of the body broke it off.
                    raise lifeline.reason from error
                raise

        terms = Terms(
            flow=route.flow,
            repeatable=request.method in SAFE_METHODS and not body.present,
            seconds=patience.left(),
            unsent=lambda: not body.started,
            overdue=lambda: isinstance(lifeline.reason, UpstreamTimeout),
        )
        async with answered(upstream, self._runtime.settings, terms, attempt) as begun:
            self.state["timings"]["upstream"] = time.perf_counter() - started
            try:
                await self._answer(begun, route, upstream, lifeline, patience)
            except (aiohttp.ClientError, OSError) as error:
                raise AnswerCut(f"{upstream.name} broke off: {type(error).__name__}") from error
            finally:
                _let_go(begun.response, body)

    def _outgoing_headers(
        self, request: ClientRequest, route: Route, exchange: Exchange | None, upstream: Upstream
    ) -> list[tuple[str, str]]:
        outgoing = headers.inwards(
            request, cookies=route.access is not Access.CREDENTIAL, compression=route.flow is not Flow.EVENTS
        )
        scheme, _, host = self._runtime.settings.public_url.partition("://")
        outgoing += [
            ("host", upstream.replicas.authority),
            ("x-request-id", self.state["request_id"]),
            ("x-forwarded-for", request.address),
            ("x-forwarded-proto", scheme),
            ("x-forwarded-host", host),
        ]
        if traceparent := current_traceparent():
            outgoing.append(("traceparent", traceparent))
        if exchange is not None:
            outgoing.append(("authorization", f"Bearer {exchange.tokens[route.upstream]}"))
        return outgoing

    async def _answer(
        self, begun: "_Begun", route: Route, upstream: Upstream, lifeline: Lifeline, patience: Patience
    ) -> None:
        response = begun.response
        start = {
            "type": "http.response.start",
            "status": response.status,
            "headers": headers.outwards(
                response.raw_headers, cookies=route.access is not Access.CREDENTIAL, upstream_url=upstream.url
            ),
        }
        if begun.whole is not None:
            self.answering = True
            await self._send(start)
            await self._send({"type": "http.response.body", "body": begun.whole})
            return
        if route.flow is Flow.EVENTS:
            self.state["on_shutdown"] = lambda: lifeline.cut(ServerClosing())
        self.answering = True
        await self._send(start)
        patience.upstream_goes_on()
        async for chunk in response.content.iter_any():
            patience.client_reads()
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            patience.upstream_goes_on()
        await self._send({"type": "http.response.body"})


@dataclass(frozen=True, slots=True)
class _Begun:
    """A service's answer: all of it where it is small, or its beginning."""

    response: aiohttp.ClientResponse
    whole: bytes | None

    @property
    def status(self) -> int:
        return self.response.status


async def _begin(
    request: ClientRequest,
    route: Route,
    upstream: Upstream,
    replica: Replica,
    body: RequestBody,
    outgoing: list[tuple[str, str]],
) -> _Begun:
    """Send the request to one replica. A small answer is taken in whole: what breaks off can still be asked again."""
    response = await upstream.session(route.flow).request(
        request.method,
        upstream.address(replica, request.raw_path, request.query),
        headers=outgoing,
        data=body.chunks() if body.present else None,
        allow_redirects=False,
        server_hostname=upstream.replicas.server_name,
    )
    length = response.content_length
    small = length is not None and length <= SMALL_ANSWER_BYTES
    if not small or (route.flow is Flow.EVENTS and response.status != 503):
        return _Begun(response, None)
    try:
        whole = b"" if request.method == "HEAD" else await response.read()
    except BaseException:
        response.close()
        raise
    _let_go(response, body)
    return _Begun(response, whole)


def _let_go(response: aiohttp.ClientResponse, body: RequestBody) -> None:
    """Keep the connection for another request where nothing more comes and goes on it."""
    if body.finished and response.content.at_eof():
        response.release()
    else:
        response.close()
