"""Every route of the product x every attacker, who knows all ids: the answers are those for what never existed.

The matrix is read from the merged OpenAPI document, so a new route is tried from the day it is registered, and one that
is not registered fails the run. It is run with both guards, and with each of the two removed in turn.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import pytest
from sqlalchemy import event

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from shared import tenancy
from shared.migrations import SERVICES_WITH_SCHEMA
from tests.isolation import people, recognition, report, tampering
from tests.isolation.attackers import Cast
from tests.isolation.canaries import canary, found_in
from tests.isolation.conftest import Victim
from tests.isolation.endpoints import PARAMETERS, Carries, Document, operations, unregistered
from tests.isolation.internals import internal_tokens, rows_of, until_quiet
from tests.isolation.matrix import attack
from tests.support.polling import eventually

pytestmark = pytest.mark.timeout(300)


def test_every_route_and_parameter_is_registered(document: Document) -> None:
    assert unregistered(document) == []
    for operation in operations(document):
        # Like the routing: /v1/projects/{project_id}/documents/... is "projects documents".
        nouns = [part for part in operation.path.split("/") if part and "{" not in part and part != "v1"]
        report.declare("route", [operation.key], group=" ".join(nouns[:2]))
        for name in operation.parameters:
            if PARAMETERS[name] is not Carries.NOTHING:
                report.declare("parameter", [operation.endpoint(name)], group=name)


async def test_nobody_is_told_more_than_of_what_never_existed(
    whole: Stack, document: Document, victim: Victim, cast: Cast
) -> None:
    await until_quiet(whole)
    before = await rows_of(whole, victim.ids["tenant_id"], victim.ids["user_id"])
    assert await attack(document, victim.ids, cast.attackers) > 1000
    await until_quiet(whole)
    after = await rows_of(whole, victim.ids["tenant_id"], victim.ids["user_id"])
    assert {name: rows for name, rows in after.items() if rows != before[name]} == {}


async def test_without_the_orm_criterion_nothing_leaks(document: Document, victim: Victim, cast: Cast) -> None:
    with no_orm_criterion():
        assert await attack(document, victim.ids, cast.strangers, counted=False) > 60


async def test_without_row_level_security_nothing_leaks(
    whole: Stack, document: Document, victim: Victim, cast: Cast
) -> None:
    async with no_row_level_security(whole):
        assert await attack(document, victim.ids, cast.strangers, counted=False) > 60


async def test_without_both_guards_the_attack_succeeds(
    whole: Stack, document: Document, victim: Victim, cast: Cast
) -> None:
    """The matrix can fail: it is not the answers of an empty house that are compared. Only what reads is tried."""
    reading = {path: {"get": item["get"]} for path, item in document["paths"].items() if "get" in item}
    stranger = cast.named("other tenant's owner, key")
    async with no_row_level_security(whole):
        with no_orm_criterion(), pytest.raises(AssertionError):
            await attack({**document, "paths": reading}, victim.ids, [stranger], counted=False)


async def test_the_victim_still_has_everything(victim: Victim) -> None:
    ids = victim.ids
    answer = await victim.client.get(f"/v1/projects/{ids['project_id']}/documents/{ids['document_id']}")
    assert (answer.status_code, answer.json()["name"]) == (200, f"{canary('document')}.txt")

    async def found() -> bool:
        answer = await victim.client.post(f"/v1/projects/{ids['project_id']}/search", json={"query": "canary sings"})
        return ids["document_id"] in [item["document_id"] for item in answer.json()["items"]]

    await eventually(found, within=60)


# --- single parameters -----------------------------------------------------------------------------------------------


async def test_an_id_with_one_bit_changed_is_nobodys(document: Document, victim: Victim) -> None:
    await tampering.one_bit(document, victim.ids, victim.browser.client)


async def test_what_is_in_one_project_is_not_found_under_another(
    document: Document, victim: Victim, cast: Cast
) -> None:
    viewer = (await cast.named("viewer of the project").client.get("/v1/me")).json()["user"]["id"]
    for client in (victim.browser.client, cast.named("member without the project").client):
        await tampering.of_another_project(document, {**victim.ids, "user_id": viewer}, client, victim.other_project)


async def test_cursors_of_others_and_of_nobody_lead_to_nothing_of_theirs(
    document: Document, victim: Victim, cast: Cast, other: dict[str, str]
) -> None:
    for name, own in (
        ("other tenant's owner, session", other),
        (
            "member without the project",
            {
                "project_id": victim.other_project,
                "document_id": victim.other_document,
                "batch_id": victim.other_batch,
            },
        ),
    ):
        await tampering.cursors(document, victim.ids, cast.named(name), own)


async def test_ids_of_events_lead_only_through_the_callers_own_feed(
    document: Document, victim: Victim, cast: Cast, other: dict[str, str]
) -> None:
    for name, own in (
        ("other tenant's owner, key", other["project_id"]),
        ("API key tied to another project", victim.other_project),
    ):
        await tampering.event_ids(document, victim.ids, cast.named(name), own)


async def test_conditions_on_the_victims_things_are_not_answered(
    document: Document, victim: Victim, cast: Cast
) -> None:
    names = ("other tenant's owner, key", "member without the project", "viewer of the project")
    await tampering.etags(document, victim.ids, [cast.named(name) for name in names])


async def test_headers_of_the_inside_mean_nothing_from_outside(document: Document, victim: Victim, cast: Cast) -> None:
    names = ("anonymous", "other tenant's owner, key", "other tenant's owner, session", "member without the project")
    await tampering.internal_headers(document, victim.ids, [cast.named(name) for name in names])


async def test_fields_only_the_server_fills_in_are_refused(document: Document, victim: Victim, cast: Cast) -> None:
    for name in ("other tenant's owner, key", "other tenant's owner, session"):
        await tampering.fields_of_the_server(document, victim.ids, cast.named(name))


async def test_past_the_gateway_nobody_gets_in_without_an_internal_token(
    whole: Stack, document: Document, victim: Victim
) -> None:
    key = victim.client.headers["Authorization"].removeprefix("Bearer ")
    tokens = await internal_tokens(whole, key)
    audiences = sorted(tokens)
    of_the_next = dict(zip(audiences, [tokens[name] for name in (*audiences[1:], audiences[0])], strict=True))
    bearers = {
        "past the gateway, nothing": {},
        "past the gateway, API key": dict.fromkeys(audiences, key),
        "past the gateway, token of another audience": of_the_next,
    }
    await tampering.at_the_services(document, victim.ids, whole.ports, bearers)


# --- what recognises a thing without its id --------------------------------------------------------------------------


async def test_the_victims_content_is_recognised_nowhere_else(
    victim: Victim, cast: Cast, other: dict[str, str]
) -> None:
    ids = victim.ids
    path = f"/v1/projects/{ids['project_id']}/documents/{ids['document_id']}/content"
    bytes_of_it = (await victim.client.get(path)).content
    inside, outside = cast.named("member without the project"), cast.named("other tenant's owner, key")
    await recognition.content(bytes_of_it, outside, other["project_id"])
    await recognition.content(bytes_of_it, inside, victim.other_project)
    await recognition.search(ids, outside, other["project_id"], other["document_id"])
    await recognition.search(ids, inside, victim.other_project, victim.other_document)
    await recognition.similar(ids, outside, other["project_id"], other["document_id"])
    await recognition.similar(ids, inside, victim.other_project, victim.other_document)
    await recognition.agents(ids, outside, other["project_id"])
    await recognition.agents(ids, inside, victim.other_project)
    await recognition.batches(ids, outside, other["project_id"])
    await recognition.batches(ids, inside, victim.other_project)
    for attacker in (inside, outside):
        await recognition.exports_of_foreign_projects(ids, attacker)


async def test_nobody_learns_who_has_an_account(victim: Victim, cast: Cast, other: dict[str, str]) -> None:
    stranger = cast.named("other tenant's owner, key")
    await recognition.addresses(stranger, (await victim.client.get("/v1/me")).json()["user"]["email"])
    await recognition.foreign_members(victim.ids, stranger, other["project_id"])
    await recognition.keys_for_foreign_projects(victim.ids, stranger)


async def test_a_credential_that_is_nearly_right_is_wrong(victim: Victim, cast: Cast) -> None:
    key = victim.client.headers["Authorization"].removeprefix("Bearer ")
    session = victim.browser.cookies[people.SESSION]
    await recognition.secrets_one_character_off({"key": key, "session": session}, cast.connect)


async def test_an_invitation_is_for_the_invited_alone(victim: Victim, cast: Cast) -> None:
    made = await victim.client.post("/v1/invitations", json={"email": people.somewhere("invited")})
    token, stranger = made.json()["token"], cast.browsers["stranger"].client
    for given, status in ((token, 403), (token[:-1] + "~", 404), (token.swapcase(), 404), (token + "A", 404)):
        answer = await stranger.post(f"/v1/invitations/{given}/accept")
        assert answer.status_code == status, answer.text
        assert found_in(answer.text) == set()
        report.count("parameter", "POST /v1/invitations/{token}/accept path:token", "token of somebody else")
    listed = (await victim.client.get("/v1/invitations", params={"limit": 200})).json()["items"]
    assert made.json()["id"] in [item["id"] for item in listed]


async def test_nobody_signs_the_victim_out(victim: Victim, cast: Cast) -> None:
    stranger = cast.browsers["stranger"].cookies
    theirs = victim.browser.cookies
    for cookies, status in (({}, 401), ({people.SESSION: theirs[people.SESSION]}, 403)):
        headers = {"Cookie": people.sent(cookies), "X-CSRF-Token": stranger[people.CSRF]}
        async with people.client_of(cast.stack, headers) as client:
            answer = await client.post("/auth/logout")
        assert answer.status_code == status, answer.text
        report.count("route", "POST /auth/logout", "CSRF token of another session")
    assert (await victim.browser.client.get("/v1/me")).status_code == 200


def test_no_route_and_no_parameter_was_left_out(document: Document) -> None:
    """The last of this file: registered is not tried."""
    assert (report.uncovered("route"), report.uncovered("parameter")) == ([], [])


@contextmanager
def no_orm_criterion() -> Iterator[None]:
    event.remove(tenancy.TenantScopedSession, "do_orm_execute", tenancy._add_tenant_criterion)
    try:
        yield
    finally:
        event.listen(tenancy.TenantScopedSession, "do_orm_execute", tenancy._add_tenant_criterion)


@asynccontextmanager
async def no_row_level_security(stack: Stack) -> AsyncIterator[None]:
    """Postgres shows every row to every role for the time of the block."""
    admin = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    tables = await admin.fetch(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = ANY($1) AND c.relkind = 'r' AND c.relrowsecurity",
        list(SERVICES_WITH_SCHEMA),
    )
    try:
        for table in tables:
            await admin.execute(
                await admin.fetchval("SELECT 'ALTER TABLE ' || $1 || ' DISABLE ROW LEVEL SECURITY'", table["name"])
            )
        yield
    finally:
        for table in tables:
            await admin.execute(
                await admin.fetchval("SELECT 'ALTER TABLE ' || $1 || ' ENABLE ROW LEVEL SECURITY'", table["name"])
            )
        await admin.close()
