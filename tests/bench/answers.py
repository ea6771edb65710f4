"""How good answers are, and how fast: the questions of `tests.bench.questions`, answered without a model.

Thresholds were chosen on one half of the questions; what counts is the other half, which is held out. The questions are
ours, and about documents we wrote: expect less on documents and questions of others.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from services.indexing.agents.answerers.base import Draft, ProposedCitation, Refusal, TextDelta
from services.indexing.agents.answerers.extractive import ExtractiveAnswerer
from services.indexing.agents.contracts import Answer, BudgetExhausted, Passage, Reservation, Usage
from services.indexing.agents.quotes.verification import verify
from tests.bench import made_chunks, quality
from tests.bench.questions import collection, library
from tests.bench.questions.collection import Question
from tests.bench.questions.library import Library
from tests.support.system import Json, System, create_project, settled, upload

PASSAGES = 12
WARM = 5
OTHERS = 100_000


@dataclass(frozen=True, slots=True)
class Answered:
    """`seconds`: of the search, the answer and its verification."""

    question: Question
    answer: Answer
    seconds: tuple[float, float, float]

    @property
    def is_right(self) -> bool:
        return self.question.answered_by(self.answer.text)

    @property
    def is_refused(self) -> bool:
        return self.answer.refusal is not None


async def quoted(folder: Path) -> None:
    """In this process, from the question to the verified answer."""
    documents = collection.documents()
    async with library.opened(folder, documents, folder / "models") as opened:
        chunks = sum(map(len, opened.chunks.values()))
        print(f"answers: {len(documents)} documents, {chunks} chunks, search in process")
        answerer = ExtractiveAnswerer(opened.embedder, opened.shares)
        answered = [await _answered(answerer, opened, question) for question in collection.questions()]
        for half, name in ((False, "tuning half"), (True, "held-out half")):
            _tell_quality(name, [each for each in answered if each.question.held_out is half])
        _tell_seconds(answered)
        print(f"beside {OTHERS} other chunks:")
        await opened.fill(OTHERS)
        _tell_seconds([await _answered(answerer, opened, question) for question in collection.questions()])


async def asked(system: System, client: httpx.AsyncClient) -> None:
    """Through the gateway: from the request to the finished run, one after the other."""
    project = await create_project(client, "answers")
    documents = collection.documents()
    for name, content in documents.items():
        await upload(client, project, name, content, "application/octet-stream")
    await settled(client, project, len(documents))
    questions = [question.text for question in collection.questions()]
    _tell(
        "ask through the gateway, to the finished run", [took for took, _ in await _asked(client, project, questions)]
    )
    await made_chunks.fill(system, project, OTHERS)
    answers = await _asked(client, project, questions)
    _tell(f"  beside {OTHERS} other chunks", [took for took, _ in answers])
    right = [
        question.answered_by(output["text"])
        for question, (_, output) in zip(collection.questions(), answers, strict=True)
        if question.answer is not None
    ]
    print(f"  beside them the known answer is in {sum(right)} of {len(right)} answers")


async def asked_judged(_: System, client: httpx.AsyncClient) -> None:
    """The queries of a judged collection as questions, through the gateway; nobody knows their answers, but which
    documents are about them."""
    if (judged := await quality.judged()) is None:
        print(f"ask-judged: not measured, {quality.COLLECTION} names no collection")
        return
    project = await create_project(client, "judged")
    names = await quality.uploaded(client, project, judged)
    answers = await _asked(client, project, list(judged.queries.values()))
    _tell(f"ask about {len(names)} judged documents, to the finished run", [took for took, _ in answers])
    cited = {
        query: {names[citation["document_id"]] for citation in output["citations"]}
        for query, (_, output) in zip(judged.queries, answers, strict=True)
        if output["refusal"] is None
    }
    relevant = sum(
        any(judged.grades.get(query, {}).get(name, 0) > 0 for name in found) for query, found in cited.items()
    )
    print(f"  answered {len(cited)} of {len(answers)}; {relevant} of these cite a document judged relevant")


async def _asked(client: httpx.AsyncClient, project: str, questions: Sequence[str]) -> list[tuple[float, Json]]:
    """Seconds and output of each, after a few to warm up."""
    answers = []
    for question in [*questions[:WARM], *questions]:
        began = time.perf_counter()
        response = await client.post(f"/v1/projects/{project}/ask", json={"question": question, "stream": False})
        took = time.perf_counter() - began
        assert response.status_code == 200, response.text
        answers.append((took, response.json()["output"]))
    return answers[WARM:]


async def _answered(answerer: ExtractiveAnswerer, opened: Library, question: Question) -> Answered:
    began = time.perf_counter()
    passages = await opened.passages(question.text, PASSAGES)
    searched = time.perf_counter()
    draft = await _draft(answerer, opened, question.text, passages)
    drafted = time.perf_counter()
    answer = await verify(draft, passages, opened, compute=partial(opened.shares.compute, opened.tenant_id))
    return Answered(question, answer, (searched - began, drafted - searched, time.perf_counter() - drafted))


async def _draft(answerer: ExtractiveAnswerer, opened: Library, question: str, passages: Sequence[Passage]) -> Draft:
    text, refusal = "", None
    citations: list[ProposedCitation] = []
    async for piece in answerer.answer(
        question, passages, tenant_id=opened.tenant_id, language=None, budget=_NoModel()
    ):
        match piece:
            case TextDelta():
                text += piece.text
            case ProposedCitation():
                citations.append(piece)
            case Refusal():
                refusal = piece.code
    return Draft(text, tuple(citations), refusal)


class _NoModel:
    """A budget for no calls at all."""

    seconds = 60.0

    async def reserve(self, tokens: int) -> Reservation:
        raise BudgetExhausted("model_calls")

    async def settle(self, reservation: Reservation, usage: Usage) -> None:
        raise AssertionError("nothing was reserved")


def _tell_seconds(answered: Sequence[Answered]) -> None:
    _tell("question to verified answer", [sum(each.seconds) for each in answered])
    for number, part in enumerate(("search", "answer", "verification")):
        _tell(f"  {part}", [each.seconds[number] for each in answered])


def _tell(what: str, seconds: Sequence[float]) -> None:
    cuts = statistics.quantiles(seconds, n=100)
    print(f"{what} over {len(seconds)}: p50 {cuts[49] * 1000:.1f}, p95 {cuts[94] * 1000:.1f}")


def _tell_quality(name: str, answered: Sequence[Answered]) -> None:
    answerable = [each for each in answered if each.question.answer is not None]
    refused = [each for each in answered if each.is_refused]
    rightly = sum(each.question.answer is None for each in refused)
    unanswerable = len(answered) - len(answerable)
    cited = [each for each in answered if not each.is_refused]
    assert all(each.answer.grounding == "full" for each in cited)
    print(
        f"{name}: the known answer is in {sum(each.is_right for each in answerable)} of {len(answerable)} answers "
        f"({100 * sum(each.is_right for each in answerable) / len(answerable):.0f}%), "
        f"{sum(len(each.answer.claims) for each in cited) / len(cited):.1f} sentences each; "
        f"refusals: {rightly} of {len(refused)} right (precision {rightly / len(refused):.2f}), "
        f"{rightly} of {unanswerable} unanswerable questions refused (recall {rightly / unanswerable:.2f})"
    )
