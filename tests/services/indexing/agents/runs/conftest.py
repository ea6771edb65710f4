"""The service with an answerer that does as it is told."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from services.indexing import resources
from services.indexing.agents.answerers.base import (
    AnswerPiece,
    Draft,
    Finished,
    ProposedCitation,
    Refusal,
    TextDelta,
)
from services.indexing.agents.chat.client import ChatModel
from services.indexing.agents.contracts import Answer, Citation, Claim, ModelBudget, Passage, Texts, Usage
from services.indexing.agents.writing import Writing, writing_of
from services.indexing.main import create_app
from services.indexing.search.engine import SearchEngine
from shared.auth import ALL_SCOPES
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.serving import StartedApp, in_process

Running = tuple[StartedApp, httpx.AsyncClient]
Environment = dict[str, str]


@dataclass
class Script:
    """What the answerer does. `calls`: tokens of each call of a model; `gate`: waited for after the first piece."""

    pieces: list[str] = field(default_factory=lambda: ["Granite ", "built ", "the wall."])
    calls: list[int] = field(default_factory=list)
    refusal: str | None = None
    pause: float = 0.0
    gate: asyncio.Event | None = None
    error: Exception | None = None
    began: int = 0
    closed: int = 0
    questions: list[tuple[str, tuple[Passage, ...]]] = field(default_factory=list)


class ScriptedAnswerer:
    """Quotes the whole first passage."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def answer(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        tenant_id: uuid.UUID,
        language: str | None,
        budget: ModelBudget,
    ) -> AsyncIterator[AnswerPiece]:
        script = self.script
        script.began += 1
        script.questions.append((question, tuple(passages)))
        try:
            if script.error is not None:
                raise script.error
            for tokens in script.calls:
                reservation = await budget.reserve(tokens)
                await budget.settle(reservation, Usage(input_tokens=tokens // 4, output_tokens=tokens // 4))
            if script.refusal is not None or not passages:
                yield Refusal(script.refusal or "no_evidence")
                yield Finished()
                return
            for piece in script.pieces:
                yield TextDelta(piece)
                await asyncio.sleep(script.pause)
                if script.gate is not None:
                    await script.gate.wait()
            length, best = len("".join(script.pieces)), passages[0]
            yield ProposedCitation(0, length, best.document_id, best.version, best.text, best.start, best.end)
            yield Finished()
        finally:
            script.closed += 1


async def verify(draft: Draft, passages: Sequence[Passage], texts: Texts, *, tenant_id: uuid.UUID) -> Answer:
    """Believes quotes that stand where they are said to."""
    citations = []
    for number, proposed in enumerate(draft.citations, start=1):
        assert proposed.start is not None and proposed.end is not None
        pieces = await texts.read(proposed.document_id, proposed.version, proposed.start, proposed.end)
        if [piece.text for piece in pieces] == [proposed.quote]:
            passage = next(passage for passage in passages if passage.document_id == proposed.document_id)
            citations.append(
                Citation(
                    id=f"c{number}",
                    document_id=passage.document_id,
                    document_name=passage.document_name,
                    version=passage.version,
                    sha256=passage.sha256,
                    start=proposed.start,
                    end=proposed.end,
                    quote=proposed.quote,
                    page=passage.page,
                    match="exact",
                )
            )
    claims = (Claim(start=0, end=len(draft.text), citation_ids=tuple(c.id for c in citations)),) if draft.text else ()
    return Answer(
        text=draft.text,
        citations=tuple(citations),
        claims=claims,
        grounding="full" if citations else "none",
        refusal=draft.refusal,
    )


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


@pytest.fixture(autouse=True)
def as_written(script: Script) -> None:
    """Each test begins with the same answerer."""
    script.__init__()  # type: ignore[misc]


@pytest.fixture(scope="module")
def model() -> str | None:
    """The model that the answerer is said to use."""
    return None


@pytest.fixture(scope="module")
async def running(environment: Environment, script: Script, model: str | None) -> AsyncIterator[Running]:
    with pytest.MonkeyPatch.context() as patch:

        def scripted(search: SearchEngine, _: ChatModel | None) -> Writing:
            return replace(writing_of(search, None), answerer=ScriptedAnswerer(script), verify=verify, model=model)

        patch.setattr(resources, "writing_of", scripted)
        async with in_process(create_app, environment) as (app, client):
            yield app, client


@dataclass
class Caller:
    """A client of one project."""

    client: httpx.AsyncClient
    path: str
    headers: dict[str, str]

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.post(f"{self.path}/{path}", headers=self.headers, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(f"{self.path}/{path}", headers=self.headers, **options)

    async def delete(self, path: str) -> httpx.Response:
        return await self.client.delete(f"{self.path}/{path}", headers=self.headers)

    async def ask(self, question: str = "What built the wall?", **options: Any) -> httpx.Response:
        return await self.post("ask", json={"question": question, "stream": False, **options})

    async def start(self, question: str = "What built the wall?", **options: Any) -> str:
        """Start a run; its id."""
        answer = await self.post("runs", json={"agent": "answer", "input": {"question": question}, **options})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def run(self, run_id: str) -> dict[str, Any]:
        answer = await self.get(f"runs/{run_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def ended(self, run_id: str) -> dict[str, Any]:
        async def has_ended() -> dict[str, Any] | None:
            found = await self.run(run_id)
            return None if found["status"] in ("queued", "running") else found

        found = await eventually(has_ended)
        assert found is not None
        return found


CallerOf = Callable[..., Caller]


@pytest.fixture
def caller_of(client: httpx.AsyncClient, tokens: IdentityDouble) -> CallerOf:
    """A caller in a library: the owner of its tenant, or as told."""

    def make(library: Library, **who: Any) -> Caller:
        options: dict[str, Any] = {"tenant_id": library.tenant_id, "user_id": uuid.uuid4(), "scopes": ALL_SCOPES}
        headers = tokens.headers("indexing", **{**options, **who})
        return Caller(client, f"/v1/projects/{library.project_id}", headers)

    return make


@pytest.fixture
def caller(caller_of: CallerOf, library: Library) -> Caller:
    return caller_of(library)


Index = Callable[..., Awaitable[uuid.UUID]]


@pytest.fixture
def index(library: Library) -> Index:
    """Upload a text and wait until it can be found."""

    async def upload(text: str = "Granite from the eastern face built the harbour wall.", **options: Any) -> uuid.UUID:
        document_id = await library.upload(text, **options)

        async def is_indexed() -> bool:
            return await library.state(document_id) == "indexed"

        await eventually(is_indexed)
        return document_id

    return upload
