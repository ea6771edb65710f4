import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from services.indexing.documents.models import VectorChange
from services.indexing.generations.models import Generation, GenerationDocument
from services.indexing.search.dependencies import SearchResources
from services.indexing.vectors.store import ProjectVectors, VectorStore
from shared.auth import ALL_SCOPES
from shared.tenancy import Database
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
QUERIES = ("granite walls of the harbour", "who pays the invoice", "storm in november", "number 3")
MODES = ("hybrid", "semantic", "keyword")
_TOPICS = (
    "The harbour wall number {n} is made of granite and holds since winter {n}.",
    "Invoice number {n} is paid by the tenant of house {n} within thirty days.",
    "The storm of november {n} took the roof of barn number {n} and two trees.",
)

Answers = dict[tuple[str, str], list[tuple[str, int, str]]]


@dataclass
class Project:
    """A library as its owner sees it through HTTP."""

    client: httpx.AsyncClient
    tokens: IdentityDouble
    library: Library
    user_id: uuid.UUID = field(default_factory=uuid.uuid4)

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        who = {"tenant_id": self.library.tenant_id, "user_id": self.user_id, "scopes": ALL_SCOPES}
        headers = {**self.tokens.headers("indexing", **who), **options.pop("headers", {})}
        url = f"/v1/projects/{self.library.project_id}/{path}"
        return await self.client.request(method, url, headers=headers, **options)

    async def search(self, query: str, mode: str = "hybrid", **options: object) -> list[dict[str, Any]]:
        answer = await self.call("POST", "search", json={"query": query, "mode": mode, "limit": 20, **options})
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def answers(self) -> Answers:
        """What some queries find, in order."""
        return {
            (query, mode): [
                (item["document_id"], item["chunk_index"], item["text"]) for item in await self.search(query, mode)
            ]
            for query in QUERIES
            for mode in MODES
        }

    async def reindex(self, path: str = "", **options: Any) -> dict[str, Any]:
        answer = await self.call("POST", f"reindex{path}", **options)
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def fill(self, documents: int) -> list[uuid.UUID]:
        ids = [await self.library.upload(_TOPICS[n % 3].format(n=n), name=f"{n}.txt") for n in range(documents)]
        for document_id in ids:
            await ends(self.library, document_id)
        return ids

    async def states(self) -> dict[int, str]:
        return {number: row.state for number, row in (await self.library.generations()).items()}

    async def becomes(self, states: dict[int, str], within: float = 30) -> None:
        async def reached() -> bool:
            return await self.states() == states

        try:
            await eventually(reached, within=within)
        except AssertionError:
            rows = await self.library.generations()
            raise AssertionError({n: (row.state, row.phase, row.done, row.error) for n, row in rows.items()}) from None

    async def settled(self) -> None:
        """Nothing is lacking, and the vector store has followed."""

        async def nothing_waits() -> bool:
            async with self.library.database.tenant(self.library.tenant_id) as session:
                lacking = (await session.scalars(select(GenerationDocument))).all()
                changes = (await session.scalars(select(VectorChange))).all()
            return not lacking and not changes

        await eventually(nothing_waits, within=30)


async def make_due(database: Database, library: Library, *, state: str = "active", **values: object) -> None:
    """The next step of the library's generation in that state is due now."""
    async with database.tenant(library.tenant_id) as session:
        await session.execute(
            update(Generation)
            .where(Generation.project_id == library.project_id, Generation.state == state)
            .values(due_at=func.now(), **values)
            .execution_options(synchronize_session=False)
        )


@pytest.fixture
def project(client: httpx.AsyncClient, tokens: IdentityDouble, library: Library) -> Project:
    return Project(client, tokens, library)


@pytest.fixture
def store(running: Running) -> VectorStore:
    found: VectorStore = running[0].resources(SearchResources).search.store
    return found


@pytest.fixture
def vectors(store: VectorStore, library: Library) -> ProjectVectors:
    return store.project(library.tenant_id, library.project_id)


@pytest.fixture
def per_generation(vectors: ProjectVectors) -> Callable[[], Awaitable[dict[int, int]]]:
    """How many points there are of each generation."""

    async def count() -> dict[int, int]:
        counts: dict[int, int] = {}
        for tally in await vectors.tally():
            counts[tally.generation] = counts.get(tally.generation, 0) + tally.points
        return counts

    return count
