"""Every route x every attacker: named with the victim's ids, and with ids that never existed.

A refused attacker must be told the same, byte for byte, in both cases; one that may have an answer of its own must
find nothing of the victim's in it.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tests.isolation import report
from tests.isolation.attackers import Attacker
from tests.isolation.canaries import found_in, whole_text
from tests.isolation.endpoints import ROUTES, Document, Operation, Who, operations
from tests.isolation.expectations import Refusal, refusal

# What must differ from request to request, or tells of the caller's own limits.
_PASSING_HEADERS = frozenset({"date", "x-request-id", "server-timing", "ratelimit", "ratelimit-policy"})
_REQUEST_ID = re.compile(rb'"request_id":"[^"]*"')
INVENTED_TOKEN = "invented-token-0123456789"
MOST_OF_A_STREAM = 64 * 1024


@dataclass(frozen=True, slots=True)
class Told:
    """An answer without what must differ: what an attacker can compare."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


async def attack(
    document: Document, ids: Mapping[str, str], attackers: Sequence[Attacker], *, counted: bool = True
) -> int:
    """Try every attacker at every route; gives the number of checks."""
    checks = 0
    for operation in operations(document):
        for attacker in attackers:
            tried = await _try(operation, ids, attacker, counted=counted)
            if counted and tried:
                report.count("route", operation.key, attacker.name, tried)
            checks += tried
    return checks


async def _try(operation: Operation, ids: Mapping[str, str], attacker: Attacker, *, counted: bool) -> int:
    route = ROUTES[operation.key]
    if attacker.only_scope not in (None, route.scope):
        return 0
    expected = refusal(attacker.standing, operation, route)
    if expected is not None:
        return await _refused(operation, ids, attacker, expected, counted=counted)
    if operation.method != "GET" or (operation.ids and route.who is not Who.ANYONE):
        return 0  # it may do this: no attack
    path = operation.path.format(**_values(operation, ids))
    found = await read(attacker.client, path, stream=route.stream)
    assert_nothing_of_the_victim(found, ids, attacker, operation.key)
    return 1


async def _refused(
    operation: Operation, ids: Mapping[str, str], attacker: Attacker, expected: Refusal, *, counted: bool
) -> int:
    values = _values(operation, ids)
    named = await send(attacker.client, operation, values)
    where = (attacker.name, operation.key)
    assert (named.status_code, code_of(named)) == (expected.status, expected.code), (where, named.text)
    assert_nothing_of_the_victim(whole_text(named).replace(path_of(operation, values), ""), ids, attacker, where)
    told = comparable(named, path_of(operation, values))
    for name in operation.ids:
        # Of several parameters each alone never existed: the answer must not tell which one did.
        absent = {**values, name: never_existed(name)}
        answer = await send(attacker.client, operation, absent)
        if name in expected.knows:
            assert (answer.status_code, code_of(answer)) == (404, "not_found"), (where, name, answer.text)
        else:
            assert comparable(answer, path_of(operation, absent)) == told, (where, name)
        if counted:
            report.count("parameter", operation.endpoint(f"path:{name}"), attacker.name)
    return 1 + len(operation.ids)


async def send(
    client: httpx.AsyncClient,
    operation: Operation,
    values: Mapping[str, str],
    *,
    headers: Sequence[tuple[str, str]] = (("If-Match", '"1"'),),
    params: Mapping[str, str] | None = None,
    json: Mapping[str, Any] | None = None,
) -> httpx.Response:
    """The request of a route's entry in `ROUTES`, with these path parameters. An answered stream is read to no end."""
    route = ROUTES[operation.key]
    body: dict[str, Any] = {"json": json or route.json} if json or route.json else {}
    if route.content is not None:
        body = {"content": route.content}
    path = path_of(operation, values)
    request = client.build_request(
        operation.method,
        path,
        params={**route.params, **(params or {})} or None,
        headers=[*route.headers.items(), *headers],
        **body,
    )
    answer = await client.send(request, stream=True)
    try:
        if not (route.stream and answer.status_code == 200):
            await answer.aread()
    finally:
        await answer.aclose()
    return answer


async def read(
    client: httpx.AsyncClient, path: str, *, stream: bool, headers: Mapping[bytes, bytes] | None = None
) -> str:
    """Headers and body of the answer to a GET; of a stream, what it says to one who has missed everything."""
    if not stream:
        return whole_text(await client.get(path, headers=headers))
    text = ""
    async with client.stream("GET", path, headers={b"Last-Event-ID": b"0", **(headers or {})}) as answer:
        async for chunk in answer.aiter_text():
            text += chunk
            if answer.status_code != 200 or "event: snapshot" in text or len(text) > MOST_OF_A_STREAM:
                break
    return str(answer.headers) + text


def assert_nothing_of_the_victim(text: str, ids: Mapping[str, str], attacker: Attacker, where: object) -> None:
    leaked = found_in(text) - attacker.may_know
    assert not leaked, (where, leaked, text)
    if not attacker.knows_ids:
        assert [name for name, value in ids.items() if len(value) > 8 and value in text] == [], (where, text)


def comparable(answer: httpx.Response, path: str) -> Told:
    headers = tuple((name, value) for name, value in answer.headers.multi_items() if name not in _PASSING_HEADERS)
    body = _REQUEST_ID.sub(b'"request_id":""', answer.content).replace(path.encode(), b"")
    return Told(answer.status_code, headers, body)


def code_of(answer: httpx.Response) -> str:
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return ""
    return str(answer.json()["code"])


def never_existed(name: str) -> str:
    return {"token": INVENTED_TOKEN[::-1], "generation": "9", "version": "9"}.get(name, str(uuid.uuid4()))


def path_of(operation: Operation, values: Mapping[str, str]) -> str:
    return operation.path.format(**values)


def _values(operation: Operation, ids: Mapping[str, str]) -> dict[str, str]:
    """The victim's. Nobody can have its invitation's secret: an invented one is what an attack looks like."""
    known = {**ids, "token": INVENTED_TOKEN, "provider": "dev"}
    return {name: known[name] for name in operation.ids}
