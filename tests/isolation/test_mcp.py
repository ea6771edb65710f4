"""Every tool of the door for agents x every attacker that gets in, who knows all ids.

What a tool tells an attacker is what the public API tells it (`tests.isolation.expectations`), and of what it may not
know, word for word what it tells of things that never existed.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.isolation import report
from tests.isolation.attackers import Attacker, Cast
from tests.isolation.canaries import CANARY, found_in, whole_text
from tests.isolation.conftest import Victim
from tests.isolation.endpoints import Operation, Route, Who
from tests.isolation.expectations import refusal
from tests.isolation.matrix import assert_nothing_of_the_victim
from tests.support.polling import eventually

pytestmark = pytest.mark.timeout(300)
_ROUTE = "POST /mcp"


@dataclass(frozen=True, slots=True)
class Told:
    """What a tool tells, all of it, and whether it is an answer."""

    text: str
    is_error: bool
    everything: str


@dataclass(frozen=True, slots=True)
class Question:
    """A tool, the scope it takes, and how it is led to something; `absent` names of the ids one that never existed."""

    tool: str
    scope: str
    arguments: Mapping[str, str]

    def about(self, ids: Mapping[str, str]) -> dict[str, str]:
        return {name: value.format(**ids) for name, value in self.arguments.items()}


QUESTIONS = (
    Question("search", "search", {"query": CANARY, "project_id": "{project_id}"}),
    Question("ask", "search", {"question": CANARY, "project_id": "{project_id}"}),
    Question("list_documents", "documents:read", {"project_id": "{project_id}"}),
    Question("fetch", "documents:read", {"id": "{project_id}/{document_id}"}),
    Question("fetch", "documents:read", {"id": "{project_id}/{document_id}/1/0"}),
)


async def ask(attacker: Attacker, tool: str, arguments: Mapping[str, str]) -> Told:
    """What a tool tells; whoever is told that a service is held up asks again, as it says."""

    async def told() -> Told | None:
        found = await _ask(attacker, tool, arguments)
        return None if found.is_error and found.text.startswith("unavailable: ") else found

    found = await eventually(told, within=30, every=0.5)
    assert found is not None
    return found


async def _ask(attacker: Attacker, tool: str, arguments: Mapping[str, str]) -> Told:
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": dict(arguments)},
    }
    answer = await attacker.client.post("/mcp", json=message, headers={"Accept": "application/json"})
    assert answer.status_code == 200, (attacker.name, tool, answer.text)
    result: dict[str, Any] = answer.json()["result"]
    report.count("route", _ROUTE, attacker.name)
    return Told(result["content"][0]["text"], result["isError"], whole_text(answer))


def _programs(cast: Cast) -> list[Attacker]:
    return [one for one in cast.attackers if one.standing.counts and not one.standing.signed_in]


async def test_a_tool_tells_nobody_more_than_of_what_never_existed(victim: Victim, cast: Cast) -> None:
    refusals = 0
    for attacker in _programs(cast):
        for question in QUESTIONS:
            operation = Operation("POST", "/v1/projects/{project_id}", ())
            expected = refusal(attacker.standing, operation, Route(Who.PROJECT, question.scope))
            told = await ask(attacker, question.tool, question.about(victim.ids))
            where = (attacker.name, question.tool)
            if expected is None:
                assert not told.is_error, (where, told.text)
                assert found_in(told.everything) <= attacker.may_know, where
                continue
            refusals += 1
            assert told.is_error and told.text.startswith(f"{expected.code}: "), (where, told.text)
            assert_nothing_of_the_victim(told.everything, victim.ids, attacker, where)
            if expected.code == "not_found":
                never = {**victim.ids, "project_id": str(uuid.uuid4()), "document_id": str(uuid.uuid4())}
                assert told.text == (await ask(attacker, question.tool, question.about(never))).text, where
    assert refusals > 2 * len(QUESTIONS)


async def test_lists_hold_only_what_the_caller_may_see(victim: Victim, cast: Cast) -> None:
    for attacker in _programs(cast):
        told = await ask(attacker, "list_projects", {})
        assert told.is_error is ("projects:read" not in attacker.standing.limit), (attacker.name, told.text)
        assert found_in(told.everything) <= attacker.may_know, attacker.name
        if not attacker.standing.runs_victims_tenant or attacker.standing.tied:
            assert victim.ids["project_id"] not in told.text, attacker.name


async def test_a_document_is_not_found_under_another_project(victim: Victim, cast: Cast) -> None:
    """Neither under one's own in another tenant, nor under another of the tenant that the caller may read."""
    tied = cast.named("API key tied to another project")
    never = await ask(tied, "fetch", {"id": f"{victim.other_project}/{uuid.uuid4()}"})
    told = await ask(tied, "fetch", {"id": f"{victim.other_project}/{victim.ids['document_id']}"})
    assert told.text == never.text and told.text.startswith("not_found")
    found = await ask(tied, "search", {"query": CANARY})
    assert not found.is_error and found_in(found.text) == set()


async def test_rights_that_were_taken_away_are_taken_from_tools_at_once(victim: Victim, cast: Cast) -> None:
    client, key_id = await cast.key(frozenset({"projects:read", "documents:read", "search"}))
    agent = Attacker("API key, about to be revoked", client, cast.named("tenant admin").standing)
    assert victim.ids["project_id"] in (await ask(agent, "list_projects", {})).text
    assert (await victim.client.delete(f"/v1/api-keys/{key_id}")).status_code == 204
    answer = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert answer.status_code == 401


async def test_what_is_deleted_is_gone_from_tools_at_once(victim: Victim, cast: Cast) -> None:
    owner = Attacker("owner of the tenant, key", victim.client, cast.named("tenant admin").standing)
    made = await victim.client.post(
        f"/v1/projects/{victim.other_project}/documents",
        params={"name": "passing.txt"},
        content=b"Here today.",
        headers={"Content-Type": "text/plain"},
    )
    document = made.json()["id"]
    path, identifier = f"/v1/projects/{victim.other_project}/documents/{document}", f"{victim.other_project}/{document}"

    async def readable() -> bool:
        return not (await ask(owner, "fetch", {"id": identifier})).is_error

    await eventually(readable, within=60)
    assert (await victim.client.delete(path)).status_code == 204
    assert (await ask(owner, "fetch", {"id": identifier})).text.startswith("not_found")
    assert document not in (await ask(owner, "list_documents", {"project_id": victim.other_project})).text
