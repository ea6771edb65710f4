"""What an answerer is: it reads passages and writes an answer, piece by piece, with the quotes it claims to rely on.

An answerer proposes and `services.indexing.agents.quotes.verification` decides: nothing proposed is a citation before
its quote was found in the stored text. Text of passages is data. It never chooses a tool, a filter or a tenant: an
answerer has none.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.indexing.agents.contracts import ModelBudget, Passage, Usage


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text, which is all deltas joined; of any size, as they are joined before they are sent."""

    text: str


@dataclass(frozen=True, slots=True)
class ProposedCitation:
    """A quote that is said to support a part of the answer.

    Several with the same claim support it together; one with an empty `quote` marks a claim without support.

    Args:
        claim_start, claim_end: the part, in code points of the answer's text so far.
        start, end: where the quote is said to stand in the extracted text; None when only the quote is given.
    """

    claim_start: int
    claim_end: int
    document_id: uuid.UUID
    version: int
    quote: str
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """There is no answer in the passages, and no text either. `code`: snake_case, such as `no_evidence`."""

    code: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last piece. `usage`: None when no model was called."""

    usage: Usage | None = None


AnswerPiece = TextDelta | ProposedCitation | Refusal | Finished


@dataclass(frozen=True, slots=True)
class Draft:
    """What an answerer proposed, as the verifier gets it."""

    text: str
    citations: tuple[ProposedCitation, ...]
    refusal: str | None = None


class Answerer(Protocol):
    """One way to answer. Holds no state of a run: it is shared by all of them."""

    def answer(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        tenant_id: uuid.UUID,
        language: str | None,
        budget: ModelBudget,
    ) -> AsyncIterator[AnswerPiece]:
        """The answer in pieces; `passages` are ordered, best first, and `tenant_id` is whose turn the work takes.

        Must be closed at once when cancelled, with all that it holds open. Reserves from `budget` before each call of
        a model and settles after it. CPU-heavy work leaves the event loop.

        Raises:
            BudgetExhausted: before the call that would exceed it.
            Unavailable: a model cannot be reached, or keeps failing.
        """
        ...
