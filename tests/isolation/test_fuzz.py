"""The fuzzing notices what it is there to notice, and a short run of all of it finds nothing.

Longer ones: `uv run fuzz`.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis

from tests.isolation.canaries import canary
from tests.isolation.fuzz import actors as actors_module
from tests.isolation.fuzz import machine
from tests.isolation.fuzz.actions import Actions
from tests.isolation.fuzz.actors import Actors, Diverged, OtherStatus, Person, operation_of
from tests.isolation.fuzz.aftermath import log_lines
from tests.isolation.fuzz.aiming import Aim
from tests.isolation.fuzz.checks import Answer, Foreign, wrong_with
from tests.isolation.fuzz.comparing import compare
from tests.isolation.fuzz.machine import Stage
from tests.isolation.fuzz.model import (
    ALL,
    Credential,
    Document,
    Invitation,
    Project,
    Tenant,
    cancelling,
    end_invitations_beyond,
    end_key,
    matched,
    outcomes,
    retrying,
)
from tests.isolation.fuzz.planted import Credential as Access
from tests.isolation.fuzz.planted import Planted, foreign_to
from tests.isolation.fuzz.run import Result, run
from tests.isolation.fuzz.tally import Tally
from tests.isolation.fuzz.tenant_actions import ROLES
from tests.support.system import Json

ID = "0197a000-0000-7000-8000-000000000001"
OTHERS_ID = "0197a000-0000-7000-8000-000000000002"
FOREIGN = Foreign("a", frozenset({OTHERS_ID}), frozenset({"qk_the-secret-of-another"}))
JSON = "application/json"


def answer(body: str, status: int = 200, *, reason: str = "", content_type: str = JSON, **headers: str) -> Answer:
    given = {"x-request-id": "r1", "content-type": content_type, **headers}
    return Answer("GET", status, reason, list(given.items()), body)


def problem(status: int, /, **changes: Any) -> Answer:
    whole = {"type": "t", "title": "t", "status": status, "detail": "d", "instance": "/", "code": "c", "errors": []}
    text = json.dumps({**whole, "request_id": "r1", **changes})
    return answer(text, status, content_type="application/problem+json")


def seen(given: Answer, question: str = "") -> set[str]:
    return {wrong.check for wrong in wrong_with(given, FOREIGN, question=question)}


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "leaking",
    [
        answer(f'{{"name": "{canary("bproject")}"}}'),
        answer("{}", location=f"/{canary('bdocument')}"),
        answer("{}", reason=canary("bmember")),
        answer("it was canary-4f1d, cut off"),
        answer(f'{{"project_id": "{OTHERS_ID}"}}'),
        answer("{}", link=OTHERS_ID),
        answer('{"key": "qk_the-secret-of-another"}'),
        problem(404, detail=canary("bcontent")),
    ],
)
def test_a_planted_leak_is_noticed(leaking: Answer) -> None:
    assert seen(leaking) == {"leak"}


def test_ones_own_words_and_what_one_named_oneself_are_no_leak() -> None:
    assert seen(answer(f'{{"name": "{canary("aproject")}"}}')) == set()
    assert seen(problem(404, instance=f"/v1/projects/{OTHERS_ID}"), f"GET /v1/projects/{OTHERS_ID}") == set()


def test_a_planted_5xx_is_noticed() -> None:
    assert seen(problem(500)) == {"server error"}
    assert seen(answer("<html>", 502, content_type="text/html")) == {"server error", "problem document"}
    busy = problem(503)
    assert seen(busy) == {"server error", "problem document"}
    assert [wrong.what for wrong in wrong_with(busy, FOREIGN, question="") if wrong.check == "problem document"] == [
        "503 does not say when to come back"
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        answer("no", 404, content_type="text/plain"),
        answer('{"id": null, "error": {"code": -32700}}', 404),
        answer('{"jsonrpc": "2.0", "id": null, "error": {"code": -32700}}', 403),
        answer("no", 404, content_type="application/problem+json"),
        answer("[]", 404, content_type="application/problem+json"),
        problem(404, status=403),
        problem(404, request_id="another"),
        problem(404, code=""),
        problem(404, trace="x"),
        problem(429),
    ],
)
def test_an_error_that_is_no_problem_document_is_noticed(wrong: Answer) -> None:
    assert seen(wrong) == {"problem document"}
    assert seen(problem(404)) == set()
    assert seen(answer('{"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "no"}}', 400)) == set()


def test_a_missing_or_doubled_request_id_is_noticed() -> None:
    for ids in ([], [("x-request-id", "a"), ("x-request-id", "b")], [("x-request-id", "a b")]):
        assert seen(Answer("GET", 200, "", ids, "")) == {"request id"}


@pytest.mark.parametrize(
    "inside",
    [
        "Traceback (most recent call last):",
        'File "/srv/services/main.py", line 3',
        "(sqlalchemy.exc.IntegrityError)",
        "SELECT id FROM projects",
        "<object at 0x7f3a9b2c1d00>",
    ],
)
def test_insides_are_noticed(inside: str) -> None:
    assert seen(answer(inside)) == {"insides"}
    assert seen(answer(inside), question=f"q={inside}") == set()


def test_words_crashes_and_secrets_in_a_log_are_noticed() -> None:
    text = "\n".join(["all is well", f"x {canary('aname')}", '{"event": "request_crashed"}', "key qk_of-somebody-else"])
    assert set(log_lines(text, frozenset({"qk_of-somebody-else"}))) == {
        "words in the log",
        "crash in the log",
        "secret in the log",
    }
    assert log_lines("all is well", frozenset({"qk_of-somebody-else"})) == {}


def test_what_is_foreign_is_everything_of_the_others() -> None:
    other = Planted("b", OTHERS_ID, secrets={"s"}, documents=[(ID, "d")])
    other.ids["tenant_id"], other.gone["project_id"] = [OTHERS_ID], []
    foreign = foreign_to(Planted("a", ID), [other])
    assert foreign == Foreign("a", frozenset({OTHERS_ID, ID, "d"}), frozenset({"s"}))


# --- what requests name ----------------------------------------------------------------------------------------------


@pytest.fixture
def aim() -> Aim:
    """Of a tenant with one kept and one expendable project, beside another tenant with one."""
    own, other = Planted("a", ID), Planted("b", OTHERS_ID)
    own.ids = {"tenant_id": [ID], "project_id": ["kept", "expendable"], "user_id": ["kept-user"], "token": ["t"]}
    own.kept = {"kept", "kept-user"}
    other.ids = {"project_id": ["others"], "user_id": ["others-user"], "token": ["others-token"]}
    own.credentials = [Access("owner", {}), Access("wanderer", {}, wanders=True)]
    return Aim(own, [other], random.Random(1))


def case_of(method: str, path: str, **names: str) -> Any:
    declared = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    item = {method: {"parameters": declared, "responses": {"default": {"description": ""}}}}
    document = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {path: item}}
    return schemathesis.openapi.from_dict(document)[path][method.upper()].Case(path_parameters=names)


def test_what_is_kept_is_never_ended_and_others_are_named(aim: Aim) -> None:
    named = set()
    for _ in range(300):
        case = case_of("delete", "/v1/projects/{project_id}", project_id="kept")
        aim.prepare(case, linked=False)
        named.add(case.path_parameters["project_id"])
    assert "kept" not in named
    assert named >= {"expendable", "others"}


def test_only_who_wanders_switches_to_a_tenant_of_its_own(aim: Aim) -> None:
    aim.own.ids["tenant_id"].append("made")
    for _ in range(300):
        case = case_of("post", "/v1/tenants/{tenant_id}/activate", tenant_id="made")
        credential, _ = aim.prepare(case, linked=False)
        assert credential.wanders or case.path_parameters["tenant_id"] != "made"


def test_being_let_in_to_what_is_anothers_is_noticed(aim: Aim) -> None:
    assert aim.foreign_in(case_of("get", "/v1/projects/{project_id}", project_id="others")) == ["project_id"]
    assert aim.foreign_in(case_of("get", "/v1/projects/{project_id}", project_id="kept")) == []
    member = "/v1/projects/{project_id}/members/{user_id}"
    assert aim.foreign_in(case_of("put", member, project_id="kept", user_id="others-user")) == []
    assert aim.foreign_in(case_of("patch", "/v1/members/{user_id}", user_id="others-user")) == ["user_id"]
    assert aim.foreign_in(case_of("post", "/v1/invitations/{token}/accept", token="others-token")) == ["token"]


# --- the model -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tenant() -> Tenant:
    """An owner, a member with a project, and one without."""
    made = Tenant("t1", "m", {"olga": "owner", "ed": "member", "max": "member"})
    made.projects["p1"] = Project("p1", "one", {"olga": "owner", "ed": "editor"})
    made.projects["p2"] = Project("p2", "two", {"olga": "owner"}, deleted=True)
    return made


@pytest.mark.parametrize(
    ("user", "limit", "tied", "project", "scope", "expected"),
    [
        ("olga", ALL, None, "p1", "projects:write", None),
        ("olga", ALL, None, "p2", "projects:read", 404),
        ("olga", ALL, None, "p9", "projects:read", 404),
        ("olga", ALL, "p2", "p1", "projects:read", 404),
        ("olga", {"search"}, None, "p1", "projects:read", 403),
        ("ed", ALL, None, "p1", "documents:write", None),
        ("ed", ALL, None, "p1", "projects:write", 403),
        ("ed", {"keys:admin"}, None, "p1", "search", 404),
        ("max", ALL, None, "p1", "search", 404),
        ("gone", ALL, None, "p1", "search", 403),
    ],
)
def test_the_model_knows_who_is_let_in(
    tenant: Tenant, user: str, limit: frozenset[str], tied: str | None, project: str, scope: str, expected: int | None
) -> None:
    credential = Credential("c", user, tenant, limit=frozenset(limit), project=tied)
    assert credential.refused_in(project, scope) == expected
    credential.revoked = True
    assert credential.refused_in(project, scope) == 401


def test_the_model_knows_what_is_for_administrators(tenant: Tenant) -> None:
    owner, member = Credential("o", "olga", tenant), Credential("e", "ed", tenant)
    assert (owner.refused_tenant_wide("keys:admin"), member.refused_tenant_wide("keys:admin")) == (None, 403)
    assert (owner.refused_insight(), member.refused_insight()) == (None, None)
    assert Credential("k", "olga", tenant, project="p1").refused_insight() == 403
    assert (owner.refused_taking("owner"), member.refused_taking("owner"), member.refused_taking("admin")) == (
        None,
        403,
        None,
    )
    tenant.roles["ann"] = "admin"
    admin, narrow = Credential("a", "ann", tenant), Credential("k", "ann", tenant, limit=frozenset({"members:admin"}))
    assert [owner.refused_giving(role) for role in ROLES] == [None, None, None]
    assert [admin.refused_giving(role) for role in ROLES] == [None, None, 403]
    assert [narrow.refused_giving(role) for role in ROLES] == [None, 403, 403]
    assert (tenant.is_last_owner("olga"), tenant.is_last_owner("ed")) == (True, False)
    assert [project.id for project in owner.visible()] == ["p1"]
    assert [project.id for project in owner.visible(deleted=True)] == ["p2"]
    assert [project.id for project in Credential("x", "max", tenant).visible()] == []
    assert member.at_most == ALL - {"keys:admin", "webhooks:admin", "audit:read", "tenant:admin"}
    assert Credential("g", "gone", tenant).at_most == frozenset()


def test_the_model_ends_what_was_passed_on(tenant: Tenant) -> None:
    """A key with the keys and invitations made with it; what a role sent, where the next one could not send it."""
    tenant.roles["ann"] = "admin"
    key = Credential("k", "ann", tenant, is_key=True)
    made = Credential("m", "ann", tenant, is_key=True, made_with=key)
    other = Credential("o", "ann", tenant, is_key=True)
    tenant.invitations = {
        name: Invitation(name, "nora", "member", name, by=by)
        for name, by in (("i1", made), ("i2", other), ("i3", Credential("b", "ann", tenant)))
    }
    assert end_key(key, [key, made, other]) == [key, made]
    assert [one.id for one in tenant.invitations.values() if one.open] == ["i2", "i3"]
    tenant.roles["ann"] = "member"
    end_invitations_beyond(tenant, "ann")
    assert not any(one.open for one in tenant.invitations.values())


def test_the_model_knows_tags_and_jobs(tenant: Tenant) -> None:
    project = tenant.projects["p1"]
    assert [matched(tag, project) for tag in (None, '"0"', '"1"', "*")] == [428, 412, None, None]
    text, broken = Document("d", "w", broken=False), Document("d", "w", broken=True, cancelled=True)
    assert (outcomes(text), outcomes(broken)) == ({"indexed"}, {"failed", "cancelled"})
    assert (cancelling(text), retrying(text)) == ({202, 409}, {202, 409})
    text.settled, broken.settled = "indexed", "failed"
    assert (cancelling(text), retrying(text), retrying(broken)) == ({409}, {409}, {202})


# --- divergence ------------------------------------------------------------------------------------------------------

Product = dict[str, tuple[int, Json]]


class Lying(httpx.AsyncBaseTransport):
    """Answers what it is told to, whatever the truth is."""

    def __init__(self, product: Product) -> None:
        self.product = product

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        status, body = self.product.get(
            f"{request.method} {request.url.path}", (200, {"items": [], "next_cursor": None})
        )
        headers = {"x-request-id": "r1", "etag": str(body.get("etag", '"1"'))}
        return httpx.Response(status, json=body, headers=headers)


@pytest.fixture
def product() -> Product:
    return {}


@pytest.fixture
async def actions(product: Product, tenant: Tenant) -> AsyncIterator[Actions]:
    """An owner alone, and a second tenant, before a product that lies."""
    other = Tenant("t2", "n", {"nora": "owner"}, {"p3": Project("p3", "three", {"nora": "owner"})})
    other.projects["p3"].documents["d3"] = Document("d3", "theirs", broken=False)
    tenant.roles = {"olga": "owner"}
    actors = Actors("http://product.test", FOREIGN, Tally("test", 1))
    for number, name in enumerate(("olga", "nora")):
        actors.people[name] = Person(name, f"{name}@example.test", f"user-{name}", number)
        actors.clients[name] = httpx.AsyncClient(transport=Lying(product), base_url=actors.url)
    sessions = [Credential("olga", "olga", tenant), Credential("nora", "nora", other)]
    yield Actions(actors, [tenant, other], sessions)
    for client in actors.clients.values():
        await client.aclose()


async def test_a_status_the_model_does_not_expect_is_noticed(actions: Actions, product: Product) -> None:
    product["POST /v1/projects"] = (200, {"id": "p5"})
    with pytest.raises(OtherStatus, match="olga POST /v1/projects"):
        await actions.create_project(0)
    product["POST /v1/projects"] = (201, {"id": "p5", "etag": '"7"'})
    with pytest.raises(Diverged, match="etag of a new project"):
        await actions.create_project(0)


async def test_a_leak_to_somebody_of_the_machine_is_noticed(actions: Actions, product: Product) -> None:
    product["GET /v1/me"] = (200, {"name": canary("ncontent")})
    with pytest.raises(Diverged, match="leak"):
        await actions.actors.ask(actions.credentials[0], "GET", "/v1/me")
    assert actions.actors.tally.answers["GET /v1/me", 200] == 1


async def test_a_foreign_hit_is_noticed(actions: Actions, product: Product) -> None:
    product["POST /v1/projects/p1/search"] = (200, {"items": [{"document_id": "d3"}]})
    with pytest.raises(Diverged, match="found in project p1"):
        await actions.search(0, 0, 0, "hybrid")
    mine = actions.tenants[0].projects["p1"].documents["d1"] = Document("d1", "mine", broken=False, settled="indexed")
    product["POST /v1/projects/p1/search"] = (200, {"items": []})
    with pytest.raises(Diverged, match="not found by its word"):
        await actions.search(0, 0, 0, "keyword")
    product["POST /v1/projects/p1/search"] = (200, {"items": [{"document_id": mine.id}]})
    await actions.search(0, 0, 0, "keyword")


async def test_a_list_that_is_not_the_models_is_noticed(actions: Actions, product: Product) -> None:
    with pytest.raises(Diverged, match="active projects of olga"):
        await compare(actions.actors, actions.tenants, actions.credentials)
    actions.tenants[0].projects.clear()
    product["PATCH /v1/projects/p3"] = product["GET /v1/projects/p3"] = (200, {})
    with pytest.raises(OtherStatus, match="olga GET /v1/projects/p3"):
        await compare(actions.actors, actions.tenants, actions.credentials)


async def test_a_revocation_that_does_not_take_effect_is_noticed(
    actions: Actions, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors_module, "WINDOW_SECONDS", 0.1)
    revoked = actions.credentials[0]
    revoked.revoked = True
    product["GET /v1/me"] = (200, {})
    with pytest.raises(Diverged, match="still not"):
        await actions.actors.known_as(revoked)
    product["GET /v1/me"] = (401, {})
    with pytest.raises(Diverged, match="problem document"):
        await actions.actors.known_as(revoked)


def test_a_program_that_fails_is_told_with_its_steps() -> None:
    tally = Tally("machine", 1)
    with asyncio.Runner() as runner:
        machine._programs(Stage(runner, Actors("http://product.test", FOREIGN, tally), tally), 1)
    (failure,) = tally.failures.values()
    assert "state.begin()" in failure.how
    assert tally.done["programs"] >= 1


def test_requests_are_counted_by_their_operation() -> None:
    request = httpx.Request("GET", f"http://x/v1/projects/{ID}/documents/{ID}")
    assert operation_of(request) == "GET /v1/projects/{project_id}/documents/{document_id}"
    assert operation_of(httpx.Request("GET", "http://x/v2")) == "GET /v2"


def test_a_result_says_everything_and_passes_only_when_nothing_is_wrong() -> None:
    tally = Tally("requests A", 7, seconds=3)
    tally.answered("GET /v1/me", 200)
    tally.answered("GET /v1/me", 429)
    tally.done["rounds"] = 2
    tally.slowest_revocation = 0.25
    good = Result([tally])
    assert good.passed
    for said in ("requests A", "GET /v1/me", "2 (1)", "2 rounds", "0.25 s", "not reached: none", "failures: none"):
        assert said in str(good)
    incomplete = Result([tally], {"GET /v1/forgotten"})
    assert not incomplete.passed
    assert "GET /v1/forgotten (FAILED)" in str(incomplete)
    for _ in range(2):
        tally.failed("leak", "GET /v1/me", "a word", "curl ...")
    wrong = Result([tally])
    assert not wrong.passed
    assert "leak at GET /v1/me, seen 2 times: a word" in str(wrong)
    assert not Result().passed


# --- all of it -------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_short_run_finds_nothing(folders: Callable[[str], Path]) -> None:
    result = await run(folders("fuzz"), seed=5, seconds=8, round_size=2)
    print(result)
    assert result.passed, result
    machines = next(tally for tally in result.tallies if tally.name == "machine")
    assert machines.done["steps"] > 20
    assert all(tally.requests > 100 for tally in result.tallies if tally.name != "aftermath")
