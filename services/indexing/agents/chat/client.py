"""Calling a chat model: the only module that knows an OpenAI-compatible `/chat/completions` endpoint.

    async with opened(name, settings) as model:
        async with model.call(messages, tenant_id=tenant_id, budget=budget) as completion:
            async for text in completion:
                ...

Guarantees: a call is reserved from the budget before it is made, and settled when its usage is known. Before the first
text, one that failed for reasons that may pass is made again, after the `Retry-After` that was asked for; it is
reserved anew if its model may have worked on it, and costs nothing if nobody took it. Later it fails, because its text
was passed on. A call is not limited in time but for what is left of the run's, and ends when its model is silent for
`chunk_seconds`. A response is limited in size in proportion to `max_tokens`. Redirects are not followed: they would
take the key and the documents elsewhere. When the block is left the connection is closed, so a cancelled call ends at
once. Tenants take turns. No tools are offered, and what a model says about tools is not read. Neither contents nor keys
are logged.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal
from urllib.parse import urlsplit

import aiohttp
import tenacity

from services.indexing.agents.chat.errors import ModelRefused, ModelUnavailable
from services.indexing.agents.chat.stream import ChatStream, Chunk
from services.indexing.agents.contracts import BudgetExhausted, ModelBudget, Reservation, Usage
from services.indexing.settings import ChatModelSettings
from shared import keepalive
from shared.circuit_breaker import Breaker, Call
from shared.errors import Unavailable
from shared.fair_semaphore import FairSemaphore
from shared.resilience import retried
from shared.telemetry import SpanKind, detached_span, get_logger, mark_failed

_ATTEMPTS: Final = 3
_CONNECT_SECONDS: Final = 5.0
_FIRST_PAUSE: Final = 0.5
_MOST_PAUSE: Final = 4.0
# When a model asks to be left alone for longer, the step is tried again later instead.
_LONGEST_PAUSE: Final = 20.0
# A chunk of one token is about 300 bytes of JSON.
_BYTES_PER_TOKEN: Final = 1024
_BYTES_BESIDES: Final = 64 * 1024
# More tokens than any common language has in as many bytes.
_INPUT_BYTES_PER_TOKEN: Final = 2
_TOKENS_PER_MESSAGE: Final = 16
_OVERLOADED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@asynccontextmanager
async def opened(name: str, settings: ChatModelSettings) -> AsyncIterator["ChatModel"]:
    """The model, with connections of its own, for the lifespan of an application."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=settings.concurrency, socket_factory=keepalive.new_socket),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        # A compressed response could be far larger than it seems.
        auto_decompress=False,
    )
    async with session:
        yield ChatModel(name, settings, session)


class ChatModel:
    """One model of one endpoint. Made by `opened`."""

    def __init__(self, name: str, settings: ChatModelSettings, session: aiohttp.ClientSession) -> None:
        self.name = name
        self.settings = settings
        self._session = session
        self._breaker = Breaker("model", most_pause=30.0)
        self._turns = FairSemaphore(settings.concurrency, each=max(1, settings.concurrency // 2))

    @asynccontextmanager
    async def call(
        self, messages: Sequence[Message], *, tenant_id: uuid.UUID, budget: ModelBudget
    ) -> AsyncIterator["Completion"]:
        """A completion whose first text has arrived, for the length of the block.

        Raises:
            BudgetExhausted: before the attempt that would exceed it; in the block, when the run's time is up.
            Unavailable: the model cannot be reached or keeps failing; in the block, its response broke off.
            ModelRefused: it does not accept the request.
        """
        deadline = asyncio.get_running_loop().time() + budget.seconds
        reserved = _Reserved(budget, self.settings.max_tokens + _most_tokens(messages))

        async def attempt() -> Completion:
            return await self._attempt(messages, reserved, deadline)

        with detached_span(f"chat {self.settings.model}", kind=SpanKind.CLIENT, attributes=self._attributes()) as span:
            async with AsyncExitStack() as stack:
                try:
                    async with _until(deadline):
                        await stack.enter_async_context(self._turns.turn(tenant_id))
                        completion = await retried(
                            attempt,
                            _ATTEMPTS,
                            again=tenacity.retry_if_exception(_may_pass),
                            first=_FIRST_PAUSE,
                            most=_MOST_PAUSE,
                        )
                    stack.push_async_callback(completion.close)
                    yield completion
                except (Unavailable, ModelRefused, BudgetExhausted) as error:
                    await reserved.give_back()
                    span.set_attribute("error.type", type(error).__name__)
                    mark_failed(span, type(error).__name__)
                    raise
                if completion.usage is not None:
                    span.set_attribute("gen_ai.usage.input_tokens", completion.usage.input_tokens)
                    span.set_attribute("gen_ai.usage.output_tokens", completion.usage.output_tokens)
                if completion.finish is not None:
                    span.set_attribute("gen_ai.response.finish_reasons", [completion.finish])

    async def _attempt(self, messages: Sequence[Message], reserved: "_Reserved", deadline: float) -> "Completion":
        await reserved.take()
        stack = AsyncExitStack()
        try:
            outcome = stack.enter_context(self._breaker.call())
            try:
                stream = await self._respond(messages, stack)
                completion = Completion(
                    stack,
                    stream,
                    outcome,
                    reserved,
                    chunk_seconds=self.settings.chunk_seconds,
                    deadline=deadline,
                )
                await completion.begin()
            except (ModelUnavailable, ModelRefused) as error:
                _log.warning("model_call_failed", model=self.name, reason=error.reason)
                if isinstance(error, ModelRefused) or error.reason == "429":
                    outcome.succeeded()  # it is there
                else:
                    outcome.failed()
                raise
        except BaseException as error:
            await stack.aclose()
            if not isinstance(error, Unavailable | ModelRefused) or getattr(error, "spent", False):
                reserved.count_in_full()
            raise
        return completion

    async def _respond(self, messages: Sequence[Message], stack: AsyncExitStack) -> ChatStream:
        try:
            async with asyncio.timeout(self.settings.chunk_seconds):
                response = await stack.enter_async_context(
                    self._session.post(
                        f"{self.settings.url}/chat/completions",
                        json=self._body(messages),
                        headers=self._headers(),
                        allow_redirects=False,
                    )
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ModelUnavailable("unreachable", spent=False) from error
        except TimeoutError as error:
            raise ModelUnavailable("silent") from error
        except aiohttp.ClientError as error:
            raise ModelUnavailable("broke_off") from error
        _refuse(response)
        most = self.settings.max_tokens * _BYTES_PER_TOKEN + _BYTES_BESIDES
        return ChatStream(response.content, most_bytes=most, whole=response.content_type == "application/json")

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
        if self.settings.api_key is not None:
            headers["Authorization"] = f"Bearer {self.settings.api_key.get_secret_value()}"
        return headers

    def _body(self, messages: Sequence[Message]) -> dict[str, object]:
        return {
            "model": self.settings.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            self.settings.token_parameter: self.settings.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def _attributes(self) -> dict[str, str | int | float | bool]:
        """OpenTelemetry's semantic conventions for generative AI."""
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": self.settings.model,
            "gen_ai.request.max_tokens": self.settings.max_tokens,
            "server.address": urlsplit(self.settings.url).hostname or "",
        }


class Completion:
    """A response: iterate over its text. Afterwards `finish` says why it ended (`stop`, `length`, `content_filter`),
    and `usage` what it cost, if its server tells."""

    def __init__(
        self,
        stack: AsyncExitStack,
        stream: ChatStream,
        outcome: Call,
        reserved: "_Reserved",
        *,
        chunk_seconds: float,
        deadline: float,
    ) -> None:
        self.finish: str | None = None
        self.usage: Usage | None = None
        self._stack = stack
        self._stream = stream
        self._outcome = outcome
        self._reserved = reserved
        self._chunk_seconds = chunk_seconds
        self._deadline = deadline
        self._first = ""
        self._ended = False

    async def begin(self) -> None:
        """Wait for the first text, or for the end."""
        while not self._first and not self._ended:
            self._first = await self._next()

    def __aiter__(self) -> AsyncIterator[str]:
        return self._text()

    async def _text(self) -> AsyncIterator[str]:
        first, self._first = self._first, ""
        if first:
            yield first
        while not self._ended:
            try:
                async with _until(self._deadline):
                    text = await self._next()
            except BudgetExhausted:
                self._reserved.count_in_full()
                raise
            except ModelUnavailable as error:
                self._reserved.count_in_full()
                self._outcome.failed()
                _log.warning("model_call_failed", reason=error.reason)
                raise
            if text:
                yield text

    async def _next(self) -> str:
        chunk: Chunk | None = await self._stream.next(self._chunk_seconds)
        if chunk is None:
            self._ended = True
            self._outcome.succeeded()
            await self._reserved.settle(self.usage)
            return ""
        self.finish = chunk.finish or self.finish
        self.usage = chunk.usage or self.usage
        return chunk.text

    async def close(self) -> None:
        await self._stack.aclose()


class _Reserved:
    """What a call has reserved, if anything."""

    def __init__(self, budget: ModelBudget, tokens: int) -> None:
        self._budget = budget
        self._tokens = tokens
        self._reservation: Reservation | None = None

    async def take(self) -> None:
        """Reserve, unless what was reserved before was not used."""
        if self._reservation is None:
            self._reservation = await self._budget.reserve(self._tokens)

    def count_in_full(self) -> None:
        """The model may have worked, and nobody knows how much."""
        self._reservation = None

    async def settle(self, usage: Usage | None) -> None:
        reservation, self._reservation = self._reservation, None
        if reservation is not None and usage is not None:
            await self._budget.settle(reservation, usage)

    async def give_back(self) -> None:
        """Nobody took the call."""
        await self.settle(Usage())


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise BudgetExhausted("seconds") from error


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ModelUnavailable) and (error.retry_after or 0.0) <= _LONGEST_PAUSE


def _refuse(response: aiohttp.ClientResponse) -> None:
    """Raises unless the response is a completion."""
    if response.status in _OVERLOADED:
        pause = _retry_after(response.headers.get("Retry-After"))
        raise ModelUnavailable(str(response.status), spent=False, retry_after=pause)
    if response.status != 200 or response.headers.get("Content-Encoding", "identity") != "identity":
        raise ModelRefused(str(response.status))


def _retry_after(header: str | None) -> float | None:
    """Seconds, of either form that RFC 9110, section 10.2.3 allows."""
    if header is None:
        return None
    try:
        return max(0.0, float(header) if header.isascii() and header.isdigit() else _seconds_until(header))
    except ValueError:
        return None


def _seconds_until(date: str) -> float:
    at = parsedate_to_datetime(date)
    return (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def _most_tokens(messages: Sequence[Message]) -> int:
    """At least as many as the messages have."""
    size = sum(len(message.content.encode()) for message in messages)
    return size // _INPUT_BYTES_PER_TOKEN + _TOKENS_PER_MESSAGE * len(messages)
