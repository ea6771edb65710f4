"""Single parameters of requests made wrong on purpose: ids, cursors, event ids, ETags, headers, fields of bodies.

Each function attacks one kind of parameter wherever the OpenAPI document has it, and counts what it has tried.
"""

import base64
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import httpx
import orjson

from services.gateway import routes
from shared.pagination import encode_cursor
from tests.isolation import report
from tests.isolation.attackers import Attacker
from tests.isolation.canaries import whole_text
from tests.isolation.endpoints import PARAMETERS, ROUTES, Carries, Document, Operation, Who, operations
from tests.isolation.expectations import refusal
from tests.isolation.matrix import (
    INVENTED_TOKEN,
    assert_nothing_of_the_victim,
    code_of,
    comparable,
    never_existed,
    path_of,
    read,
    send,
)
from tests.isolation.people import PLAIN

_BITS = (0, 61, 127)
# Told by nobody outside; a service behind the gateway might believe them.
INTERNAL_HEADERS = (
    *("X-Tenant-Id", "X-Quarry-Tenant-Id", "X-Internal-Tenant", "X-Internal-Token", "X_Tenant_Id", "X-User-Id"),
    *("X-Forwarded-User", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Internal-Authorization"),
)
FIELDS_OF_THE_SERVER = ("tenant_id", "owner_id", "user_id", "created_at", "id", "is_admin")


async def one_bit(document: Document, ids: Mapping[str, str], owner: httpx.AsyncClient) -> None:
    """The victim's owner, and an id with one bit changed: nothing is found, and it is said as for any other id."""
    for operation in operations(document):
        for name in _looked_up(operation):
            changed = {bit: {**ids, "token": INVENTED_TOKEN, name: _flipped(ids[name], bit)} for bit in _BITS}
            absent = {**ids, "token": INVENTED_TOKEN, name: never_existed(name)}
            expected = comparable(await send(owner, operation, absent), path_of(operation, absent))
            assert expected.status == 404, (operation.key, name, expected)
            for values in changed.values():
                answer = await send(owner, operation, values)
                assert comparable(answer, path_of(operation, values)) == expected, (operation.key, name)
            report.count("parameter", operation.endpoint(f"path:{name}"), "one bit of the id", len(changed))


async def of_another_project(
    document: Document, ids: Mapping[str, str], client: httpx.AsyncClient, elsewhere: str
) -> None:
    """What is in one project, named under another one that the caller may use: as what never existed."""
    for operation in operations(document):
        for name in _looked_up(operation):
            if "project_id" not in operation.ids or name == "project_id":
                continue
            moved, absent = (
                {**ids, "project_id": elsewhere, name: value} for value in (ids[name], never_existed(name))
            )
            answer = await send(client, operation, moved)
            assert answer.status_code in (403, 404), (operation.key, name, answer.text)
            expected = comparable(await send(client, operation, absent), path_of(operation, absent))
            assert comparable(answer, path_of(operation, moved)) == expected, (operation.key, name)
            report.count("parameter", operation.endpoint(f"path:{name}"), "id under another project")


async def cursors(document: Document, ids: Mapping[str, str], attacker: Attacker, values: Mapping[str, str]) -> None:
    """Cursors of the victim's lists, and nonsense: a page of the caller's own, or a refusal. `values` are its own."""
    future, past = datetime.now(UTC) + timedelta(days=1), datetime(2020, 1, 1, tzinfo=UTC)
    foreign = [encode_cursor(moment, uuid.UUID(ids[name])) for moment in (future, past) for name in _WITH_ROWS]
    for operation in operations(document):
        if "query:cursor" not in operation.parameters:
            continue
        for kind, given in (("foreign cursor", foreign), ("tampered cursor", [*_nonsense(foreign[0])])):
            for cursor in given:
                answer = await send(attacker.client, operation, values, params={"cursor": cursor})
                where = (operation.key, cursor, answer.text)
                assert answer.status_code in (200, 202, 400, 403, 422), where
                assert_nothing_of_the_victim(whole_text(answer), ids, attacker, where)
            report.count("parameter", operation.endpoint("query:cursor"), kind, len(given))


async def event_ids(document: Document, ids: Mapping[str, str], attacker: Attacker, own_project: str) -> None:
    """Ids of the victim's feed and ids of no feed, in the header and in the address."""
    for operation in operations(document):
        if not ROUTES[operation.key].stream:
            continue
        absent = {name: never_existed(name) for name in operation.ids}
        for event_id in ("1", "2", "999999999", "9" * 40, "9" * 41, "-1", "0x1", "1e3", "١", "1 OR 1=1", "null"):
            for place in ("header:Last-Event-ID", "query:last_event_id"):
                in_header = place.startswith("header")
                headers = {b"Last-Event-ID": event_id.encode()} if in_header else {}
                params = {} if in_header else {"last_event_id": event_id}
                for project in (ids["project_id"], str(uuid.uuid4())) if operation.ids else ():
                    path = path_of(operation, {**absent, "project_id": project})
                    answer = await attacker.client.get(path, params=params, headers=headers)
                    assert code_of(answer) in ("not_found", "invalid_event_id", "invalid_request"), answer.text
                    assert answer.status_code in (400, 404, 422)
                path = path_of(operation, {**absent, "project_id": own_project})
                text = await read(attacker.client, str(httpx.URL(path, params=params)), stream=True, headers=headers)
                assert_nothing_of_the_victim(text, ids, attacker, (operation.key, event_id))
                report.count("parameter", operation.endpoint(place), "event ids, foreign and absurd")


async def etags(document: Document, ids: Mapping[str, str], attackers: list[Attacker]) -> None:
    """Whether a condition holds for the victim's thing is not told: the right ETag, wrong ones, any, none."""
    conditions: list[tuple[tuple[str, str], ...]] = [
        *((("If-Match", tag),) for tag in ('"1"', '"2"', '"3"', '"999"', "*", 'W/"1"', "x")),
        *(((name, "*"),) for name in ("If-None-Match", "If-Range")),
        (("Range", "bytes=0-0"),),
        (),
    ]
    for operation in operations(document):
        route = ROUTES[operation.key]
        conditional = "header:If-Match" in operation.parameters or operation.path.endswith("/content")
        for attacker in attackers if conditional else ():
            expected = refusal(attacker.standing, operation, route)
            if expected is None:
                continue
            told = {await _told(attacker, operation, {**ids}, headers) for headers in conditions}
            assert len(told) == 1, (attacker.name, operation.key, told)
            if not expected.knows:
                absent = {**ids, **{name: never_existed(name) for name in operation.ids}}
                told |= {await _told(attacker, operation, absent, headers) for headers in conditions}
                assert len(told) == 1, (attacker.name, operation.key, told)
            for name in operation.that_carry(Carries.ETAG):
                report.count("parameter", operation.endpoint(name), attacker.name, len(conditions))


async def internal_headers(document: Document, ids: Mapping[str, str], attackers: list[Attacker]) -> None:
    """Headers that only services say to each other, once, twice, and nominated as hop-by-hop: as if not sent."""
    sent = [
        *((name, value) for name in INTERNAL_HEADERS for value in (ids["tenant_id"], ids["user_id"])),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", f"for=127.0.0.1;host={ids['tenant_id']}"),
        ("Connection", "x-tenant-id, x-internal-token, authorization"),
    ]
    for operation in operations(document):
        route = ROUTES[operation.key]
        for attacker in attackers:
            expected = refusal(attacker.standing, operation, route)
            if expected is not None:
                values = {**ids, "token": INVENTED_TOKEN, "provider": "dev"}
                plain, answer = [await _told(attacker, operation, values, headers) for headers in ((), sent)]
                assert plain == answer, (attacker.name, operation.key)
            elif operation.method == "GET" and not operation.ids:
                text = await read(
                    attacker.client,
                    f"{operation.path}?tenant_id={ids['tenant_id']}",
                    stream=route.stream,
                    headers={name.encode(): value.encode() for name, value in sent},
                )
                assert_nothing_of_the_victim(
                    text.replace(f"tenant_id={ids['tenant_id']}", ""), ids, attacker, operation
                )
            else:
                continue
            report.count("route", operation.key, "internal headers from outside")


async def fields_of_the_server(document: Document, ids: Mapping[str, str], attacker: Attacker) -> None:
    """Fields that only the server fills in are refused by name, at every route that takes JSON; what tools take is
    closed by their schemas (`test_mcp_door`)."""
    for operation in operations(document):
        route = ROUTES[operation.key]
        if route.json is None or route.who is Who.PROGRAM:
            continue
        for name in FIELDS_OF_THE_SERVER:
            smuggled = {**route.json, name: ids["tenant_id"]}
            values = {**ids, **{path: never_existed(path) for path in operation.ids}}
            answer = await send(attacker.client, operation, values, json=smuggled)
            assert answer.status_code == (
                403 if route.who is Who.SIGNED_IN and not attacker.standing.signed_in else 422
            ), (
                operation.key,
                name,
                answer.text,
            )
        report.count("route", operation.key, "fields only the server fills in", len(FIELDS_OF_THE_SERVER))


async def at_the_services(
    document: Document, ids: Mapping[str, str], ports: Mapping[str, int], bearers: Mapping[str, Mapping[str, str]]
) -> None:
    """Past the gateway: without an internal token of the right audience nobody gets in, the victim's owner neither.

    `bearers`: for each attacker, what it sends to each service; nothing when it has nothing.
    """
    values = {**ids, "token": INVENTED_TOKEN}
    for operation in operations(document):
        if ROUTES[operation.key].who is Who.ANYONE:
            continue
        route = routes.match(operation.method, path_of(operation, values))
        assert route is not None
        for attacker, sent in bearers.items():
            given = sent.get(route.upstream)
            headers = {"Authorization": f"Bearer {given}"} if given else {}
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{ports[route.upstream]}", headers=headers, timeout=60, verify=PLAIN
            ) as client:
                answer = await send(client, operation, values)
            assert (answer.status_code, code_of(answer)) == (401, "unauthenticated"), (attacker, operation.key)
            report.count("route", operation.key, attacker)


_WITH_ROWS = ("project_id", "document_id", "key_id")


def _looked_up(operation: Operation) -> list[str]:
    """Path parameters that name something of the victim's."""
    free = ROUTES[operation.key].free
    return [name for name in operation.ids if PARAMETERS[f"path:{name}"] is Carries.ID and name not in free]


def _flipped(value: str, bit: int) -> str:
    return str(uuid.UUID(int=uuid.UUID(value).int ^ (1 << bit)))


def _nonsense(cursor: str) -> list[str]:
    """Cursors nobody gave out: cut, changed, of other types, at the ends of time."""
    made: tuple[object, ...] = (
        *(
            [5, 5],
            ["2026-01-01T00:00:00+00:00", 5],
            ["2026-01-01T00:00:00+00:00", None],
            [None, None],
            {"a": 1, "b": 2},
        ),
        *(["2026-01-01T00:00:00", str(uuid.UUID(int=1))], ["0001-01-01T00:00:00+23:59", str(uuid.UUID(int=1))]),
        *(["9999-12-31T23:59:59-23:59", str(uuid.UUID(int=1))], [[], {}], "x", 1, None, [], [1, 2, 3]),
    )
    encoded = [base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=") for value in made]
    return [*encoded, cursor[:-4], cursor[4:], cursor.swapcase(), "A" * 512, "A" * 513, "%00", "é", "' OR 1=1 --"]


async def _told(
    attacker: Attacker,
    operation: Operation,
    values: Mapping[str, str],
    headers: tuple[tuple[str, str], ...] | list[tuple[str, str]],
) -> object:
    answer = await send(attacker.client, operation, values, headers=headers)
    return comparable(answer, path_of(operation, values))
