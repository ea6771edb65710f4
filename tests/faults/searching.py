"""I5 as far as clients can see it: search finds each indexed document by a word of its own, and nothing else.

Of a workload's documents some are chosen by the seed. A deleted one, a cancelled one, and one of another tenant must
not be found; what is found is the live version, once per passage.
"""

import random
from collections.abc import Sequence
from typing import Any, Final

import httpx

from tests.faults.commands import Tenant
from tests.faults.ledger import DocumentEntry, Ledger
from tests.faults.report import Violation
from tests.support.polling import eventually

CHOSEN: Final = 16
_WITHIN: Final = 20.0


async def check(
    people: Sequence[Tenant], ledger: Ledger, *, seed: int | str, count: int = CHOSEN, within: float = _WITHIN
) -> list[Violation]:
    """Ask through the gateway, about documents of projects that are there."""
    alive = {project.id for project in ledger.projects.values() if project.deleted == {False}}
    there = [item for item in ledger.documents.values() if item.word and item.project_id in alive]
    chosen = random.Random(f"{seed}/search").sample(there, min(count, len(there)))
    clients = {person.id: person.client for person in people}
    wrong = [line for item in chosen for line in await _wrong(clients, ledger, alive, item, within)]
    return [Violation("I5", "search and documents disagree", wrong)] if wrong else []


async def _wrong(
    clients: dict[Any, httpx.AsyncClient], ledger: Ledger, alive: set[Any], document: DocumentEntry, within: float
) -> list[str]:
    client = clients[document.tenant_id]
    path = f"/v1/projects/{document.project_id}"
    seen = await _asked(client, "GET", f"{path}/documents/{document.id}", within)
    status = seen.json()["status"] if seen.status_code == 200 else "deleted"
    found = await _found(client, document.project_id, document.word, within)
    passages = [(item["document_id"], item["version"], item["chunk_index"]) for item in found]
    wrong = []
    if (status == "indexed") != (str(document.id) in {item["document_id"] for item in found}):
        wrong.append(f"{status} document {document.id} is {'' if passages else 'not '}found by {document.word!r}")
    if len(passages) != len(set(passages)):
        wrong.append(f"document {document.id} is found twice: {passages}")
    for project in ledger.projects.values():
        if project.tenant_id != document.tenant_id and project.id in alive:
            strangers = await _found(clients[project.tenant_id], project.id, document.word, within)
            if any(item["document_id"] == str(document.id) for item in strangers):
                wrong.append(f"document {document.id} is found by tenant {project.tenant_id}")
            break
    return wrong


async def _found(client: httpx.AsyncClient, project_id: object, word: str, within: float) -> list[dict[str, Any]]:
    body = {"query": word, "mode": "keyword", "limit": 20}
    answer = await _asked(client, "POST", f"/v1/projects/{project_id}/search", within, json=body)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def _asked(client: httpx.AsyncClient, method: str, path: str, within: float, **more: Any) -> httpx.Response:
    """The first answer that is no 5xx: breakers and pools recover in their own time."""

    async def known() -> list[httpx.Response]:
        try:
            answer = await client.request(method, path, **more)
        except httpx.HTTPError:
            return []
        return [answer] if answer.status_code < 500 else []

    (answer,) = await eventually(known, within=within, every=0.2)
    return answer
