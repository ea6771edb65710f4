"""The proxy: a plain ASGI application that forwards a request to its service and streams the response back.

Guarantees: bounded memory, whatever is forwarded. A body reaches a service only when it is complete; only uploads flow
through, with backpressure in both directions (`services.gateway.admission.load_shedding` bounds both). A client that
leaves ends the call to the service, and a service that breaks off ends the connection to the client, so that neither
takes a part for the whole. Every wait has a deadline (`services.gateway.proxy.deadlines`). What cannot be forwarded
gets a problem document. Whether and where a request is tried again is up to `services.gateway.upstreams.retries`.
"""

import time
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from starlette.types import Receive, Scope, Send

from services.gateway import routes
from services.gateway.admission.credentials import Credential
from services.gateway.admission.gate import Admission
from services.gateway.admission.load_shedding import Holder, holder_of
from services.gateway.admission.token_cache import Exchange
from services.gateway.dependencies import Resources
from services.gateway.errors import ClientGone, ResponseCutOff, UpstreamTimeout
from services.gateway.inbound import headers
from services.gateway.inbound.method_override import overridden
from services.gateway.inbound.request_validation import ClientRequest, limit_key
from services.gateway.inbound.request_validation import read as read_request
from services.gateway.proxy.body import RequestBody
from services.gateway.proxy.cancel_scope import CancelScope
from services.gateway.proxy.continuation import Continuation, continuation_of
from services.gateway.proxy.deadlines import Deadlines
from services.gateway.routes import SAFE_METHODS, Access, Flow, Route
from services.gateway.upstreams.replicas import Replica
from services.gateway.upstreams.retries import RetryPolicy, send_with_retries
from services.gateway.upstreams.upstream import Upstream
from shared.errors import QuarryError, TooLarge, Unavailable
from shared.lifespan_state import resources_of
from shared.problems import problem_response
from shared.request_context import note_failure
from shared.telemetry import current_traceparent

SMALL_ANSWER_BYTES: Final = 64 * 1024


class ServerClosing(Exception):
    """This process is about to end: an open event stream is completed, its client resumes elsewhere."""


async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
    """Handle one request. To be mounted in an application whose lifespan yields `Resources`."""
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008})
        return
    proxied = _ProxiedRequest(resources_of(scope, Resources), scope, receive, send)
    try:
        await proxied.run()
    except ClientGone:
        return
    except ServerClosing:
        await send({"type": "http.response.body"})
    except (QuarryError, ResponseCutOff) as error:
        if proxied.answering or isinstance(error, ResponseCutOff):
            # Too late for another status. Returning without the end of the body makes the server close the connection.
            note_failure(scope, "answer_cut", str(error) or type(error).__name__)
            return
        if error.status >= 500:
            note_failure(scope, error.code, str(error.__cause__ or error))
        await problem_response(proxied.state["request_id"], scope["path"], error)(scope, receive, send)


class _ProxiedRequest:
    """One request on its way. `answering` is true once the status line has been sent."""

    def __init__(self, resources: Resources, scope: Scope, receive: Receive, send: Send) -> None:
        self._resources = resources
        self._scope = scope
        self._receive = receive
        self._send = send
        self.state: dict[str, Any] = scope["state"]
        self.answering = False
        self._credential: Credential | None = None
        self._going_on: Continuation | None = None

    async def run(self) -> None:
        request = overridden(read_request(self._scope, self._resources.settings.trusted_proxies))
        self.state["client"] = limit_key(request.address)
        self._resources.untrusted_proxies.note(self._scope, request)
        route = routes.match(request.method, request.path)
        exchange = await self._admit(request, route)
        if route is None:
            return
        most_bytes = self._most_bytes(request, route)
        upstream = self._resources.upstreams[route.upstream]
        load_shedder, holder = self._resources.load_shedder, holder_of(exchange, limit_key(request.address))
        bodies, memory = load_shedder.for_bodies(holder)
        async with CancelScope() as cancel_scope:
            deadlines = Deadlines(cancel_scope, route.flow, self._resources.settings)
            deadlines.upstream_begins()
            body = RequestBody(request, self._receive, cancel_scope, deadlines, most_bytes)
            try:
                with (
                    self._resources.calls.under_way(exchange, lambda: self._end(route, cancel_scope)),
                    memory.kept(holder.name) as keep,
                ):
                    if body.present and route.flow is not Flow.TRANSFER:
                        async with bodies.take(holder.name):
                            await body.receive(keep)
                    async with load_shedder.take(upstream, route.flow, holder):
                        going_on = await self._exchange_bytes(
                            request, route, exchange, upstream, body, cancel_scope, deadlines
                        )
                    if going_on is not None:
                        await self._go_on(going_on, exchange, holder, body, cancel_scope, deadlines)
            finally:
                body.close()

    async def _go_on(
        self,
        going_on: Continuation,
        exchange: Exchange | None,
        holder: Holder,
        body: RequestBody,
        cancel_scope: CancelScope,
        deadlines: Deadlines,
    ) -> None:
        request, route = going_on.request, going_on.route
        upstream = self._resources.upstreams[route.upstream]
        self._going_on = going_on
        body.forget()
        deadlines.upstream_begins()
        async with self._resources.load_shedder.take(upstream, route.flow, holder):
            await self._exchange_bytes(request, route, exchange, upstream, body, cancel_scope, deadlines)

    def _end(self, route: Route, cancel_scope: CancelScope) -> None:
        """The credential has ended or changed: an event stream ends, and its client resumes. A request not yet sent to
        a service is checked again; for transfers under way the service itself checks."""
        if route.flow is Flow.EVENTS:
            cancel_scope.cut(ServerClosing() if self.answering else Unavailable(retry_after=1))

    async def _admit(self, request: ClientRequest, route: Route | None) -> Exchange | None:
        started = time.perf_counter()
        admission = Admission()
        try:
            await self._resources.gate.admit(request, route, admission)
        finally:
            self.state["answer_headers"].extend(admission.headers)
            self.state["timings"]["admission"] = time.perf_counter() - started
            if admission.exchange is not None:
                self.state["principal"] = admission.exchange.principal
        self._credential = admission.credential
        return admission.exchange

    def _most_bytes(self, request: ClientRequest, route: Route) -> int:
        settings = self._resources.settings
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
        cancel_scope: CancelScope,
        deadlines: Deadlines,
    ) -> Continuation | None:
        started = time.perf_counter()

        async def attempt(replica: Replica) -> _Begun:
            # The body, the place or the replica may have taken long.
            outgoing = self._outgoing_headers(request, route, await self._now(exchange), upstream)
            deadline = ("x-quarry-deadline-ms", str(max(1, int(deadlines.left() * 1000))))
            try:
                return await _begin(request, route, upstream, replica, body, [*outgoing, deadline])
            except (aiohttp.ClientError, OSError) as error:
                if cancel_scope.reason is not None:
                    # Our own reading of the body broke it off.
                    raise cancel_scope.reason from error
                raise

        policy = RetryPolicy(
            flow=route.flow,
            repeatable=request.method in SAFE_METHODS and not body.present,
            seconds=deadlines.left(),
            unsent=lambda: not body.started,
            overdue=lambda: isinstance(cancel_scope.reason, UpstreamTimeout),
        )
        async with send_with_retries(upstream, self._resources.settings, policy, attempt) as begun:
            self.state["timings"]["upstream"] = time.perf_counter() - started
            try:
                if self._going_on is None and (going_on := _continued(begun, request, route)) is not None:
                    return going_on
                await self._answer(begun, route, upstream, cancel_scope, deadlines)
            except (aiohttp.ClientError, OSError) as error:
                raise ResponseCutOff(f"{upstream.name} broke off: {type(error).__name__}") from error
            finally:
                _let_go(begun.response, body)
        return None

    async def _now(self, exchange: Exchange | None) -> Exchange | None:
        """The exchange as it stands when the request is sent."""
        if exchange is None or self._credential is None:
            return None
        return await self._resources.exchanges.renewed(self._credential, exchange)

    def _outgoing_headers(
        self, request: ClientRequest, route: Route, exchange: Exchange | None, upstream: Upstream
    ) -> list[tuple[str, str]]:
        outgoing = headers.inwards(
            request, cookies=route.access is not Access.CREDENTIAL, compression=route.flow is not Flow.EVENTS
        )
        scheme, _, host = self._resources.settings.public_url.partition("://")
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
        self, begun: "_Begun", route: Route, upstream: Upstream, cancel_scope: CancelScope, deadlines: Deadlines
    ) -> None:
        response, first = begun.response, self._going_on
        passed = headers.outwards(
            response.raw_headers, cookies=route.access is not Access.CREDENTIAL, upstream_url=upstream.url
        )
        start = {
            "type": "http.response.start",
            "status": response.status if first is None or response.status != 200 else first.status,
            "headers": passed if first is None else [*passed, *first.headers],
        }
        if begun.whole is not None:
            self.answering = True
            await self._send(start)
            await self._send({"type": "http.response.body", "body": begun.whole})
            return
        if route.flow is Flow.EVENTS:
            self.state["on_shutdown"] = lambda: cancel_scope.cut(ServerClosing())
        self.answering = True
        await self._send(start)
        deadlines.upstream_goes_on()
        async for chunk in response.content.iter_any():
            deadlines.client_reads()
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            deadlines.upstream_goes_on()
        await self._send({"type": "http.response.body"})


@dataclass(frozen=True, slots=True)
class _Begun:
    """A service's response: all of it where it is small, or its beginning."""

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
    """Send the request to one replica. A small response is read whole: one that breaks off can still be retried."""
    response = await upstream.session(route.flow).request(
        request.method,
        upstream.address(replica, request.raw_path, request.query),
        headers=outgoing,
        data=body.content(),
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


def _continued(begun: _Begun, request: ClientRequest, route: Route) -> Continuation | None:
    return continuation_of(request, route, begun.status, begun.response.raw_headers)


def _let_go(response: aiohttp.ClientResponse, body: RequestBody) -> None:
    """Keep the connection for another request where both sides have nothing more to send on it."""
    if body.finished and response.content.at_eof():
        response.release()
    else:
        response.close()
