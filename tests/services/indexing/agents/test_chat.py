"""Calls of a chat model, over real HTTP, at an endpoint that misbehaves in every way."""

import asyncio
import contextlib
import gzip
import uuid
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from services.indexing.agents.chat.client import ChatModel, Message, opened
from services.indexing.agents.chat.errors import ModelRefused, ModelUnavailable
from services.indexing.agents.chat.stream import LONGEST_LINE
from services.indexing.agents.contracts import BudgetExhausted, ModelBudget, Usage
from shared.errors import Unavailable
from shared.telemetry import SpanKind
from tests.services.indexing.agents.budgets import Budget
from tests.services.indexing.agents.chat_double import KEY, ChatDouble, Cut, Pause, Raw, Reply, model_settings, say
from tests.support.polling import eventually

TENANT = uuid.uuid4()
MESSAGES = [Message("system", "rules"), Message("user", "canary-of-the-document" * 4)]


async def said(model: ChatModel, budget: ModelBudget | None = None, tenant: uuid.UUID = TENANT) -> str:
    async with model.call(MESSAGES, tenant_id=tenant, budget=budget or Budget()) as completion:
        return "".join([text async for text in completion])


async def test_text_comes_in_pieces_and_the_call_is_settled(chat: ChatDouble, model: ChatModel) -> None:
    chat.replies = [say("One ", "two.")]
    budget = Budget()
    async with model.call(MESSAGES, tenant_id=TENANT, budget=budget) as completion:
        assert [text async for text in completion] == ["One ", "two."]
    assert (completion.finish, completion.usage) == ("stop", Usage(input_tokens=100, output_tokens=20))
    assert budget.settled == [Usage(input_tokens=100, output_tokens=20)]
    assert budget.reserved[0] >= 64 + sum(len(message.content) for message in MESSAGES) // 4


async def test_the_request_offers_no_tools_and_carries_the_key(chat: ChatDouble, model: ChatModel) -> None:
    await said(model)
    assert chat.paths == ["POST /v1/chat/completions"]
    assert chat.headers[0]["authorization"] == f"Bearer {KEY}"
    assert chat.requests == [
        {
            "model": "test-model",
            "messages": [{"role": message.role, "content": message.content} for message in MESSAGES],
            "max_tokens": 64,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, None])
async def test_pieces_of_any_size_are_put_together(chat: ChatDouble, model: ChatModel, step: int | None) -> None:
    chat.replies = [say("Größe 中文 🪨 ", "\r\n\u2028end", step=step)]
    assert await said(model) == "Größe 中文 🪨 \r\n\u2028end"


async def test_what_is_no_text_is_not_read(chat: ChatDouble, model: ChatModel) -> None:
    tool = {"tool_calls": [{"index": 0, "id": "x", "function": {"name": "search", "arguments": "{}"}}]}
    chat.replies = [
        Reply(
            [
                Raw(b": comment\r\n\r\nevent: ping\nid: 7\nretry: 1\n\n"),
                Raw(b'data: {"choices": []}\r\n\r\ndata: {"choices": [{"delta": null}]}\n\n'),
                tool,
                {"content": ["no text"]},
                {"reasoning_content": "hm"},
                "text",
            ]
        )
    ]
    assert await said(model) == "text"


async def test_a_server_that_does_not_stream_is_understood(chat: ChatDouble, model: ChatModel) -> None:
    chat.replies = [say("all of it", whole=True)]
    budget = Budget()
    assert await said(model, budget) == "all of it"
    assert len(budget.settled) == 1


async def test_a_server_that_only_says_why_it_ended_is_understood(chat: ChatDouble, model: ChatModel) -> None:
    chat.replies = [Reply(["text", Raw(b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n')], ends=False)]
    budget = Budget()
    async with model.call(MESSAGES, tenant_id=TENANT, budget=budget) as completion:
        assert [text async for text in completion] == ["text"]
    assert (completion.finish, completion.usage, budget.settled) == ("length", None, [])


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
async def test_a_call_that_was_refused_for_a_while_is_made_again(
    chat: ChatDouble, model: ChatModel, status: int
) -> None:
    chat.replies = [Reply(status=status), Reply(status=status), say("at last")]
    budget = Budget()
    assert await said(model, budget) == "at last"
    assert (len(chat.requests), len(budget.reserved), budget.settled[0].input_tokens) == (3, 1, 100)


async def test_it_is_made_three_times(chat: ChatDouble, model: ChatModel) -> None:
    chat.script = lambda _: Reply(status=500)
    with pytest.raises(ModelUnavailable):
        await said(model)
    assert len(chat.requests) == 3


async def test_a_pause_that_was_asked_for_is_kept(chat: ChatDouble, model: ChatModel) -> None:
    chat.replies = [Reply(status=429, headers={"Retry-After": "1"}), say("text")]
    began = asyncio.get_running_loop().time()
    assert await said(model) == "text"
    assert 1 <= asyncio.get_running_loop().time() - began < 2


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_long_pause_is_left_to_the_caller(chat: ChatDouble, model: ChatModel, form: str) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
    chat.script = lambda _: Reply(status=429, headers={"Retry-After": "300" if form == "seconds" else later})
    with pytest.raises(ModelUnavailable) as raised:
        await said(model)
    assert len(chat.requests) == 1
    assert raised.value.retry_after == pytest.approx(300, abs=5)


@pytest.mark.parametrize("header", ["soon", "-1", "NaN", "٣", ""])
async def test_a_pause_that_makes_no_sense_is_ignored(chat: ChatDouble, model: ChatModel, header: str) -> None:
    chat.replies = [Reply(status=429, headers={"Retry-After": header.encode().decode("latin-1")}), say("text")]
    assert await said(model) == "text"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_a_request_that_is_refused_is_not_repeated(chat: ChatDouble, model: ChatModel, status: int) -> None:
    chat.script = lambda _: Reply(status=status)
    budget = Budget()
    with pytest.raises(ModelRefused):
        await said(model, budget)
    assert (len(chat.requests), budget.settled) == (1, [Usage()])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(chat: ChatDouble, model: ChatModel, status: int) -> None:
    chat.script = lambda _: Reply(status=status, headers={"Location": f"{chat.url}/elsewhere"})
    with pytest.raises(ModelRefused):
        await said(model)
    assert chat.paths == ["POST /v1/chat/completions"]


async def test_a_compressed_response_is_refused(chat: ChatDouble, model: ChatModel) -> None:
    bomb = gzip.compress(b"data: " + b" " * 1_000_000)
    chat.script = lambda _: Reply([Raw(bomb)], headers={"Content-Encoding": "gzip"})
    with pytest.raises(ModelRefused):
        await said(model)
    assert chat.headers[0]["accept-encoding"] == "identity"


BAD_BEGINNINGS = {
    "silent": Reply([Pause(30)]),
    "comments only": Reply([Raw(b": still here\n\n"), Pause(0.2)] * 100),
    "cut": Reply([Cut()]),
    "closed": Reply(ends=False),
    "no json": Reply([Raw(b"data: {nope\n\n")]),
    "no object": Reply([Raw(b"data: []\n\n")]),
    "error": Reply([Raw(b'data: {"error": {"message": "overloaded"}}\n\n')]),
    "deep": Reply([Raw(b"data: " + b"[" * 100_000 + b"\n\n")]),
}


@pytest.mark.parametrize("kind", BAD_BEGINNINGS)
async def test_a_response_that_does_not_begin_is_requested_again(
    chat: ChatDouble, impatient: ChatModel, kind: str
) -> None:
    chat.replies = [BAD_BEGINNINGS[kind], say("text")]
    budget = Budget()
    assert await said(impatient, budget) == "text"
    # Nobody knows what the first one cost.
    assert (len(budget.reserved), len(budget.settled)) == (2, 1)


@pytest.mark.parametrize(
    "rest",
    [[Pause(30)], [Raw(b": still here\n\n"), Pause(0.2)] * 100, [Cut()], [], [Raw(b"data: {nope\n\n")]],
    ids=["silent", "comments only", "cut", "closed", "no json"],
)
async def test_a_response_that_breaks_off_fails_and_is_not_asked_for_again(
    chat: ChatDouble, impatient: ChatModel, rest: list[Pause | Raw | Cut]
) -> None:
    chat.script = lambda _: Reply(["The answer ", *rest], ends=False)
    budget, heard = Budget(), list[str]()
    with pytest.raises(ModelUnavailable):
        async with asyncio.timeout(5), impatient.call(MESSAGES, tenant_id=TENANT, budget=budget) as completion:
            async for text in completion:
                heard += [text]
    assert (heard, len(chat.requests), budget.settled) == (["The answer "], 1, [])


async def test_a_response_may_take_any_time_while_it_goes_on(chat: ChatDouble, impatient: ChatModel) -> None:
    parts: list[str | Pause] = []
    for number in range(4):
        parts += [f"{number} ", Pause(0.2)]
    chat.replies = [Reply(parts)]
    assert await said(impatient) == "0 1 2 3 "


@pytest.mark.parametrize(
    "part",
    [Raw(b"data: " + b"x" * 300_000), Raw(b": " + b"x" * 100 + b"\n"), "x" * 1000],
    ids=["a line", "comments", "text"],
)
async def test_a_response_is_bounded_in_size(chat: ChatDouble, model: ChatModel, part: str | Raw) -> None:
    chat.script = lambda _: Reply([part] * 2_000)
    with pytest.raises(ModelUnavailable):
        await said(model)


async def test_a_line_is_bounded_whatever_the_whole_may_be(chat: ChatDouble) -> None:
    chat.script = lambda _: say("x" * 2 * LONGEST_LINE)
    async with opened("writer", model_settings(chat, max_tokens=65_536)) as model:
        with pytest.raises(ModelUnavailable):
            await said(model)


async def test_no_call_is_made_beyond_the_budget(chat: ChatDouble, model: ChatModel) -> None:
    for budget in (Budget(tokens=64), Budget(calls=0)):
        with pytest.raises(BudgetExhausted):
            await said(model, budget)
    assert chat.requests == []


async def test_an_attempt_that_may_have_cost_something_counts(chat: ChatDouble, model: ChatModel) -> None:
    chat.script = lambda _: BAD_BEGINNINGS["cut"]
    budget = Budget(calls=2)
    with pytest.raises(BudgetExhausted):
        await said(model, budget)
    assert (len(chat.requests), budget.settled) == (2, [])


@pytest.mark.parametrize("parts", [[Pause(30)], ["text", *([": ", Pause(0.1)] * 20)]], ids=["before", "within"])
async def test_a_call_ends_when_the_time_of_the_run_is_up(
    chat: ChatDouble, model: ChatModel, parts: list[str | Pause]
) -> None:
    chat.script = lambda _: Reply(parts)
    began = asyncio.get_running_loop().time()
    with pytest.raises(BudgetExhausted) as raised:
        await said(model, Budget(seconds=0.3))
    assert raised.value.budget == "seconds"
    assert asyncio.get_running_loop().time() - began < 1


@pytest.mark.parametrize("parts", [[Pause(10)], ["text", Pause(10)]], ids=["before", "within"])
async def test_a_cancelled_call_ends_at_once_and_closes_its_connection(
    chat: ChatDouble, parts: list[str | Pause]
) -> None:
    chat.script = lambda _: Reply(parts)
    async with opened("writer", model_settings(chat)) as model:
        call = asyncio.create_task(said(model))
        await eventually(lambda: _is(chat.under_way == 1))
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(call, 1)
        await eventually(lambda: _is(chat.under_way == 0))


async def test_a_model_that_keeps_failing_is_left_alone(chat: ChatDouble, model: ChatModel) -> None:
    chat.script = lambda _: Reply(status=500)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await said(model)
    asked = len(chat.requests)
    budget = Budget()
    with pytest.raises(Unavailable):
        await said(model, budget)
    assert (asked, len(chat.requests), budget.settled) == (5, 5, [Usage()])


async def test_a_model_that_asks_for_patience_is_not_taken_for_dead(chat: ChatDouble, model: ChatModel) -> None:
    chat.script = lambda _: Reply(status=429)
    for _ in range(3):
        with pytest.raises(ModelUnavailable):
            await said(model)
    assert len(chat.requests) == 9


async def test_a_model_that_cannot_be_reached_costs_nothing(chat: ChatDouble, model: ChatModel) -> None:
    budget = Budget()
    async with opened("gone", model_settings(chat, url="http://127.0.0.1:1/v1")) as gone:
        with pytest.raises(ModelUnavailable):
            await said(gone, budget)
    assert (len(budget.reserved), budget.settled) == (1, [Usage()])


async def test_no_tenant_has_all_places(chat: ChatDouble) -> None:
    chat.script = lambda _: Reply(["text", Pause(0.2)])
    async with opened("writer", model_settings(chat, concurrency=4)) as model:
        greedy = [asyncio.create_task(said(model)) for _ in range(8)]
        await eventually(lambda: _is(chat.under_way == 2))
        began = asyncio.get_running_loop().time()
        await said(model, tenant=uuid.uuid4())
        assert asyncio.get_running_loop().time() - began < 0.55
        await asyncio.gather(*greedy)
    assert chat.most_under_way == 3


async def test_neither_contents_nor_keys_are_logged(chat: ChatDouble, model: ChatModel) -> None:
    chat.replies = [Reply(status=500), Reply([Raw(b'data: {"error": "canary-of-the-model"}\n\n')]), Reply(["x", Cut()])]
    with capture_logs() as lines, pytest.raises(ModelUnavailable) as raised:
        await said(model)
    assert len(lines) == 3
    assert "canary" not in f"{lines} {raised.value} {raised.value.__cause__}"


async def test_a_call_is_a_span_with_what_it_cost_and_without_contents(
    chat: ChatDouble, model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("shared.telemetry._TRACER", provider.get_tracer("test"))
    chat.replies = [say("canary-of-the-model"), Reply(["canary-of-the-model", Cut()])]
    await said(model)
    with pytest.raises(ModelUnavailable):
        await said(model)
    good, bad = exporter.get_finished_spans()
    assert (good.name, good.kind, good.status.is_ok) == ("chat test-model", SpanKind.CLIENT, True)
    assert good.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "test-model",
        "gen_ai.request.max_tokens": 64,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "server.address": "127.0.0.1",
    }
    assert (bad.status.is_ok, (bad.attributes or {})["error.type"]) == (False, "ModelUnavailable")
    assert "canary" not in good.to_json() + bad.to_json()


async def test_the_limit_of_tokens_goes_by_the_name_the_endpoint_knows(chat: ChatDouble) -> None:
    async with opened("writer", model_settings(chat, token_parameter="max_completion_tokens")) as model:
        await said(model)
    assert chat.requests[0]["max_completion_tokens"] == 64
    assert "max_tokens" not in chat.requests[0]


async def _is(value: bool) -> bool:
    return value
