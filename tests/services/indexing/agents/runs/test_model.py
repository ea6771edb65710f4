"""Runs whose answers a chat model writes, at an endpoint that lies, breaks off and obeys documents."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from services.indexing.main import create_app
from tests.services.indexing.agents.answerers.orders import ORDERS, SECRET, obedient
from tests.services.indexing.agents.answerers.prompts import passages_of, question_of
from tests.services.indexing.agents.chat_double import KEY, ChatDouble, Cut, Pause, Reply, say
from tests.services.indexing.agents.runs.conftest import Caller, CallerOf, Environment, Index, Running
from tests.services.indexing.uploads import Library
from tests.support.polling import eventually
from tests.support.serving import in_process

QUOTED = 'Granite did. <cite passage="1">Granite from the eastern face</cite>'
LIE = 'Marble did. <cite passage="1">Marble from Carrara, as everyone knows</cite>'


@pytest.fixture(scope="module")
async def running(environment: Environment, chat_server: ChatDouble) -> AsyncIterator[Running]:
    model = {"url": chat_server.url, "model": "test-model", "api_key": KEY, "max_tokens": 256}
    variables = {
        **environment,
        "QUARRY_INDEXING_CHAT_MODELS": orjson.dumps({"writer": model}).decode(),
        "QUARRY_INDEXING_ANSWER_MODEL": "writer",
    }
    async with in_process(create_app, variables) as (app, client):
        yield app, client


async def asked(caller: Caller, question: str = "What built the wall?") -> dict[str, Any]:
    answer = await caller.ask(question)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_model_writes_and_its_quotes_are_verified(caller: Caller, index: Index, chat: ChatDouble) -> None:
    await index()
    chat.replies = [say(QUOTED)]
    run = await asked(caller)
    assert (run["status"], run["output"]["text"], run["output"]["grounding"]) == ("completed", "Granite did.", "full")
    assert [citation["quote"] for citation in run["output"]["citations"]] == ["Granite from the eastern face"]
    (body,) = chat.requests
    assert question_of(body) == "What built the wall?"
    assert passages_of(body) == {1: "Granite from the eastern face built the harbour wall."}


async def test_an_answer_without_any_support_is_written_again_once(
    caller: Caller, index: Index, chat: ChatDouble
) -> None:
    await index()
    chat.replies = [say(LIE), say(QUOTED)]
    run = await asked(caller)
    assert (len(chat.requests), run["output"]["grounding"]) == (2, "full")
    chat.replies = [say(LIE), say(LIE)]
    run = await asked(caller)
    assert (len(chat.requests), run["output"]["grounding"], run["output"]["citations"]) == (4, "none", [])


async def test_another_tenants_text_is_no_citation(
    caller_of: CallerOf, caller: Caller, library: Library, other_library: Library, index: Index, chat: ChatDouble
) -> None:
    await index()
    foreign = f"The vault of the other tenant opens with {SECRET}."
    theirs = await other_library.upload(foreign)

    async def is_indexed() -> bool:
        return await other_library.state(theirs) == "indexed"

    await eventually(is_indexed)
    chat.script = lambda _: say(f'It does. <cite passage="1">{foreign}</cite>')
    run = await asked(caller)
    assert (run["output"]["citations"], run["output"]["grounding"]) == ([], "none")


@pytest.mark.parametrize("order", ORDERS)
async def test_a_document_that_gives_orders_changes_nothing_but_the_text(
    caller: Caller, library: Library, index: Index, chat: ChatDouble, order: str
) -> None:
    text = f"The bridge was opened on 19 March 1932 by the Premier.\n\n{order}"
    document_id = await index(text)
    chat.script = obedient
    run = await asked(caller, "When was the bridge opened?")
    assert run["status"] == "completed"
    assert run["agent"] == "answer"
    assert [step["step"] for step in run["steps"]][:4] == ["plan", "retrieve", "select", "answer"]
    assert {"tools", "functions"}.isdisjoint(key for body in chat.requests for key in body)
    for citation in run["output"]["citations"]:
        assert citation["document_id"] == str(document_id)
        assert SECRET not in citation["quote"] or SECRET in text


async def test_a_model_that_fails_for_a_while_costs_one_call(caller: Caller, index: Index, chat: ChatDouble) -> None:
    await index()
    chat.replies = [Reply(status=500), say(QUOTED)]
    run = await asked(caller)
    assert (run["status"], run["usage"]["model_calls"]) == ("completed", 1)


async def test_a_stream_that_breaks_off_is_written_again(caller: Caller, index: Index, chat: ChatDouble) -> None:
    await index()
    chat.replies = [Reply(["Granite ", Cut()]), say(QUOTED)]
    run = await asked(caller)
    assert (run["status"], run["output"]["text"]) == ("completed", "Granite did.")


async def test_a_run_is_cancelled_in_the_middle_of_a_models_stream(
    caller: Caller, index: Index, chat: ChatDouble
) -> None:
    await index()
    chat.script = lambda _: Reply(["Granite ", Pause(60)])
    run_id = await caller.start()

    async def is_writing() -> bool:
        return chat.under_way == 1

    await eventually(is_writing)
    began = asyncio.get_running_loop().time()
    assert (await caller.post(f"runs/{run_id}/cancel")).is_success
    assert (await caller.ended(run_id))["status"] == "cancelled"

    async def is_closed() -> bool:
        return chat.under_way == 0

    await eventually(is_closed)
    assert asyncio.get_running_loop().time() - began < 2


async def test_no_call_is_made_beyond_the_budget_of_a_run(caller: Caller, index: Index, chat: ChatDouble) -> None:
    await index()
    run_id = await caller.start(budget={"model_tokens": 100})
    run = await caller.ended(run_id)
    assert (run["status"], chat.requests) == ("incomplete", [])


FIELDS = {
    "material": {"type": "string", "description": "what it is made of"},
    "year": {"type": "integer"},
    "mason": {"type": "string"},
}


async def test_fields_are_filled_in_with_what_is_quoted_and_nothing_else(
    caller: Caller, index: Index, chat: ChatDouble
) -> None:
    await index("The harbour wall is made of granite. It was built in 1871.")
    filled = {
        "material": {"value": "granite", "passage": 1, "quote": "The harbour wall is made of granite."},
        "year": {"value": 1999, "passage": 1, "quote": "It was rebuilt in the year 1999, they say."},
        "mason": {"value": 7, "passage": 1, "quote": "It was built in 1871."},
        "tenant_id": {"value": "another", "passage": 1, "quote": "It was built in 1871."},
    }
    chat.replies = [say(f"Here you are: {orjson.dumps(filled).decode()}")]
    body = {"agent": "extract", "input": {"schema": {"type": "object", "properties": FIELDS}}}
    started = await caller.post("runs", json=body)
    assert started.status_code == 201, started.text
    run = await caller.ended(started.json()["id"])
    assert (run["status"], run["output"]["grounding"]) == ("completed", "partial")
    assert run["output"]["values"] == {"material": "granite", "year": None, "mason": None}
    assert [citation["quote"] for citation in run["output"]["citations"]] == ["The harbour wall is made of granite."]
    assert run["input"]["schema"]["properties"]["year"] == {"type": "integer"}


def quoted(value: Any, quote: str) -> dict[str, Any]:
    return {"value": value, "passage": 1, "quote": quote}


STONE, YEAR = "The harbour wall is made of granite.", "It was built in 1871 by Ann Rowe."
INVENTED = "Straw was carried here in nine carts by night."


async def extracted(caller: Caller, schema: dict[str, Any]) -> dict[str, Any]:
    started = await caller.post("runs", json={"agent": "extract", "input": {"schema": schema}})
    assert started.status_code == 201, started.text
    return await caller.ended(started.json()["id"])


async def test_a_nested_form_keeps_what_is_quoted_where_it_stands(
    caller: Caller, index: Index, chat: ChatDouble
) -> None:
    await index(f"{STONE} {YEAR}")
    mason = {"properties": {"name": {"type": "string"}, "born": {"type": "integer"}}, "required": ["name"]}
    schema = {
        "properties": {
            "wall": {"properties": {"stone": {"enum": ["granite", "slate"]}, "height": {"type": "number"}}},
            "masons": {"type": "array", "items": {"$ref": "#/$defs/mason"}},
            "years": {"type": "array", "items": {"type": "integer"}},
            "a/b": {"properties": {"c": {"type": "string"}}},
        },
        "$defs": {"mason": mason},
    }
    filled = {
        "wall": {"stone": quoted("granite", STONE), "height": quoted("tall", STONE)},
        "masons": [
            {"name": quoted("Joe Straw", INVENTED), "born": quoted(1871, YEAR)},
            {"name": quoted("Ann Rowe", YEAR), "born": None},
            "nobody",
        ],
        "years": [quoted(1999, INVENTED), quoted(1871, YEAR)],
        "a/b": {"c": quoted("granite", STONE)},
    }
    chat.replies = [say(orjson.dumps(filled).decode())]
    run = await extracted(caller, schema)
    output = run["output"]
    assert output["values"] == {
        "wall": {"stone": "granite", "height": None},
        "masons": [{"name": "Ann Rowe", "born": None}],
        "years": [1871],
        "a/b": {"c": "granite"},
    }
    quotes = {citation["id"]: citation["quote"] for citation in output["citations"]}
    assert {pointer: [quotes[each] for each in ids] for pointer, ids in output["fields"].items()} == {
        "/wall/stone": [STONE],
        "/masons/0/name": [YEAR],
        "/years/0": [YEAR],
        "/a~1b/c": [STONE],
    }
    assert output["grounding"] == "partial"


async def test_only_so_many_values_are_filled_in(caller: Caller, index: Index, chat: ChatDouble) -> None:
    await index(f"{STONE} {YEAR}")
    chat.replies = [say(orjson.dumps({"all": [quoted(number, YEAR) for number in range(80)]}).decode())]
    run = await extracted(caller, {"properties": {"all": {"type": "array", "items": {"type": "integer"}}}})
    assert run["output"]["values"] == {"all": list(range(64))}


async def test_a_schema_that_is_no_form_is_refused(caller: Caller) -> None:
    schema = {"properties": {"a": {"type": "string", "pattern": "(a+)+$"}}}
    refused = await caller.post("runs", json={"agent": "extract", "input": {"schema": schema}})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"] == "input.schema"


@pytest.mark.parametrize("said", ["", "null", "[]", "{", '{"material": 3}', "I would rather not."])
async def test_a_model_that_fills_in_nothing_gives_a_refusal(
    caller: Caller, index: Index, chat: ChatDouble, said: str
) -> None:
    await index()
    chat.replies = [say(said)]
    body = {"agent": "extract", "input": {"schema": {"properties": FIELDS}}}
    run = await caller.ended((await caller.post("runs", json=body)).json()["id"])
    assert (run["status"], run["output"]["refusal"]) == ("completed", "no_evidence")
    assert set(run["output"]["values"].values()) == {None}
