"""A route that parses its body itself answers as one whose body is parsed before it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import httpx
import pytest
from fastapi import APIRouter, Body, FastAPI
from pydantic import BaseModel, Field

from shared.deferred_parsing import Unparsed, UnparsedRoute
from shared.http_semantics import RequestRules
from shared.json_bodies import MAX_DEPTH, MAX_VALUES
from shared.problems import install_problem_documents
from shared.request_bodies import Input
from shared.request_context import RequestContext


class Part(BaseModel):
    kind: Literal["part"] = "part"
    parts: Annotated[list["Part"], Field(max_length=3)] = []


class Thing(Input):
    name: Annotated[str, Field(min_length=1)]
    count: Annotated[int, Field(ge=1)] = 1
    part: Part | None = None


parsed, unparsed = APIRouter(), APIRouter(route_class=UnparsedRoute)


@parsed.post("/things/{number}")
async def make(number: int, thing: Thing) -> Thing:
    """Make a thing."""
    return thing


@unparsed.post("/things/{number}", name="make")
async def make_later(number: int, thing: Annotated[Unparsed[Thing], Body()]) -> Thing:
    """Make a thing."""
    return await thing.parsed()


def application(router: APIRouter) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RequestRules, routers=[router])
    app.add_middleware(RequestContext)
    install_problem_documents(app)
    app.include_router(router)
    return app


@pytest.fixture
async def clients() -> AsyncIterator[list[httpx.AsyncClient]]:
    transports = [httpx.ASGITransport(application(router)) for router in (parsed, unparsed)]
    clients = [httpx.AsyncClient(transport=transport, base_url="http://test") for transport in transports]
    yield clients
    for client in clients:
        await client.aclose()


BODIES: dict[str, bytes] = {
    "fits": b'{"name": " a ", "count": 2, "part": {"parts": [{}, {}]}}',
    "empty": b"",
    "null": b"null",
    "number": b"5",
    "list": b'[{"name": "a"}]',
    "text": b'"a"',
    "nothing set": b"{}",
    "unknown field": b'{"name": "a", "tenant_id": 1}',
    "wrong in depth": b'{"name": "a", "part": {"parts": [{"parts": [{}, {"parts": 5}, {"kind": "whole"}]}]}}',
    "not strict": b'{"name": "a", "count": "2"}',
    "many wrong": json.dumps({f"field{number}": number for number in range(15)}).encode(),
    "very many wrong": json.dumps({f"field{number}": number for number in range(5000)}).encode(),
    "cut off": b'{"name": "a"',
    "two values": b'{"name": "a"} {}',
    "comma": b'{"name": "a",}',
    "surrogate": b'{"name": "\\ud800"}',
    "not UTF-8": b'{"name": "\xff"}',
    "NaN": b'{"name": "a", "count": NaN}',
    "huge number": b'{"name": "a", "count": ' + b"9" * 5000 + b"}",
    "recursion": b"[" * 100_000,
    "too deep": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "too many values": b"[" + b"0," * MAX_VALUES + b"0]",
    "too large": b'{"name": "' + b"x" * 300_000 + b'"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_the_answer_is_the_same(clients: list[httpx.AsyncClient], body: bytes) -> None:
    answers = []
    for client in clients:
        answer = await client.post("/things/1", content=body, headers={"Content-Type": "application/json"})
        answers.append((answer.status_code, {**answer.json(), "request_id": ""}))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x.thing+json", "application/json"])
async def test_the_body_is_declared_to_be_json(clients: list[httpx.AsyncClient], content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    before, after = [(await client.post("/things/1", content=BODIES["fits"], headers=headers)) for client in clients]
    assert before.status_code == after.status_code


async def test_the_document_is_the_same(clients: list[httpx.AsyncClient]) -> None:
    before, after = [(await client.get("/openapi.json")).text for client in clients]
    assert before == after
    assert '"application/json":{"schema":{"$ref":"#/components/schemas/Thing' in after


async def test_others_have_the_event_loop_before_the_next_one_is_parsed() -> None:
    events, loop = list[str](), asyncio.get_running_loop()
    body = Unparsed(BODIES["fits"], Thing)
    for _ in range(2):
        loop.call_soon(events.append, "another")
        await body.parsed()
        events.append("parsed")
    assert events == ["another", "parsed"] * 2
