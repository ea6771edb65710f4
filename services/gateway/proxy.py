"""The proxy: a plain ASGI application that passes a request to the service it is for and streams the answer back.

Guarantees: constant memory, whatever passes; backpressure in both directions; a client that leaves ends the call to the
service, a service that breaks off ends the connection to the client, so that neither takes a part for the whole. Every
wait has an end (`services.gateway.patience`). What cannot be passed on is answered with a problem document.
A call is repeated once, when nothing of it can have had an effect: the connection was never made, or the method is
safe and no answer had begun.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
from starlette.types import Receive, Scope, Send

from services.gateway import client_request, headers, routes
from services.gateway.admission import Admission
from services.gateway.client_request import ClientRequest
from services.gateway.errors import AnswerCut, BadUpstreamAnswer, ClientGone, UpstreamTimeout
from services.gateway.lifeline import Lifeline
from services.gateway.patience import Patience
from services.gateway.request_body import RequestBody
from services.gateway.routes import SAFE_METHODS, Access, Flow, Route
from services.gateway.runtime import Runtime
from services.gateway.token_cache import Exchange
from services.gateway.upstreams import Upstream
from shared.errors import QuarryError, TooLarge, Unavailable
from shared.http import loggable_path, problem_response
from shared.telemetry import current_traceparent, get_logger

SMALL_ANSWER_BYTES: Final = 64 * 1024
RETRY_PAUSE_SECONDS: Final = 0.1

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
        outgoing = self._outgoing_headers(request, route, exchange, patience)
        started = time.perf_counter()
        with _failures_of(upstream, lifeline) as call:
            response = await _call(request, route, upstream, body, outgoing)
            self.state["timings"]["upstream"] = time.perf_counter() - started
            call.succeeded()
        try:
            await self._answer(response, request, route, upstream, lifeline, patience)
        except (aiohttp.ClientError, OSError) as error:
            raise AnswerCut(f"{upstream.name} broke off: {type(error).__name__}") from error
        finally:
            if body.finished and response.content.at_eof():
                response.release()
            else:
                response.close()

    def _outgoing_headers(
        self, request: ClientRequest, route: Route, exchange: Exchange | None, patience: Patience
    ) -> list[tuple[str, str]]:
        outgoing = headers.inwards(
            request, cookies=route.access is not Access.CREDENTIAL, compression=route.flow is not Flow.EVENTS
        )
        scheme, _, host = self._runtime.settings.public_url.partition("://")
        outgoing += [
            ("x-request-id", self.state["request_id"]),
            ("x-forwarded-for", request.address),
            ("x-forwarded-proto", scheme),
            ("x-forwarded-host", host),
            ("x-quarry-deadline-ms", str(max(1, int(patience.left() * 1000)))),
        ]
        if traceparent := current_traceparent():
            outgoing.append(("traceparent", traceparent))
        if exchange is not None:
            outgoing.append(("authorization", f"Bearer {exchange.tokens[route.upstream]}"))
        return outgoing

    async def _answer(
        self,
        response: aiohttp.ClientResponse,
        request: ClientRequest,
        route: Route,
        upstream: Upstream,
        lifeline: Lifeline,
        patience: Patience,
    ) -> None:
        start = {
            "type": "http.response.start",
            "status": response.status,
            "headers": headers.outwards(
                response.raw_headers, cookies=route.access is not Access.CREDENTIAL, upstream_url=upstream.url
            ),
        }
        length = response.content_length
        if route.flow is Flow.SHORT and length is not None and length <= SMALL_ANSWER_BYTES:
            whole = await _whole(response, upstream, head=request.method == "HEAD")
            self.answering = True
            await self._send(start)
            await self._send({"type": "http.response.body", "body": whole})
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


async def _call(
    request: ClientRequest, route: Route, upstream: Upstream, body: RequestBody, outgoing: list[tuple[str, str]]
) -> aiohttp.ClientResponse:
    """The beginning of the service's answer."""

    async def attempt() -> aiohttp.ClientResponse:
        return await upstream.session(route.flow).request(
            request.method,
            upstream.address(request.raw_path, request.query),
            headers=outgoing,
            data=body.chunks() if body.present else None,
            allow_redirects=False,
        )

    try:
        return await attempt()
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        never_connected = isinstance(error, aiohttp.ClientConnectorError) and not body.started
        without_effect = request.method in SAFE_METHODS and not body.present
        if not (never_connected or without_effect):
            raise
    await asyncio.sleep(random.uniform(RETRY_PAUSE_SECONDS / 2, RETRY_PAUSE_SECONDS))  # noqa: S311  # spreads load
    return await attempt()


async def _whole(response: aiohttp.ClientResponse, upstream: Upstream, *, head: bool) -> bytes:
    try:
        return b"" if head else await response.read()
    except (aiohttp.ClientError, OSError) as error:
        raise BadUpstreamAnswer(f"The {upstream.name} service broke off its answer.") from error


@contextmanager
def _failures_of(upstream: Upstream, lifeline: Lifeline) -> Iterator[Any]:
    """Ask the breaker, tell it of failures that are the service's, and name them for the client."""
    with upstream.breaker.call() as call:
        try:
            yield call
        except asyncio.CancelledError:
            if isinstance(lifeline.reason, UpstreamTimeout):
                call.failed()
            raise
        except (aiohttp.ClientError, OSError) as error:
            if lifeline.reason is not None:
                # Our own end of the body broke it off.
                raise lifeline.reason from error
            call.failed()
            if isinstance(error, (aiohttp.ClientResponseError, aiohttp.ClientPayloadError)):
                raise BadUpstreamAnswer from error
            raise Unavailable(f"The {upstream.name} service cannot be reached.", retry_after=1) from error
