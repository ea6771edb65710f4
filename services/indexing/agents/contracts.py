"""What agents take and give: frozen, versioned, and the same in memory, in the journal and over HTTP.

Offsets are code points of the extracted text of one version of a document; text itself is stored as chunks, which do
not overlap and leave out what is between them: white space, and signs that stand beside no word.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from services.indexing.agents.forms import form_of
from services.indexing.vectors.filters import Filter, storable
from shared.request_bodies import Input

Language = Annotated[str, Field(pattern=r"^[a-zA-Z]{2,3}(?:-[a-zA-Z0-9]{2,8}){0,3}$")]
"""A BCP 47 tag, such as `en` or `pt-BR`."""
Question = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(storable)]
Grounding = Literal["full", "partial", "none"]
Exhausted = Literal["seconds", "model_calls", "model_tokens"]


class Value(BaseModel):
    """Base of everything that agents give."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


# --- knowledge -------------------------------------------------------------------------------------------------------


class Passage(Value):
    """A chunk of the live version of a document, as found for a question: `text` is `extracted_text[start:end]`."""

    document_id: uuid.UUID
    document_name: str
    version: int
    sha256: str | None
    """Hash of the version's bytes; null for versions from before hashes were kept."""
    chunk_index: int
    start: int
    end: int
    text: str
    page: int | None
    score: float


@dataclass(frozen=True, slots=True)
class StoredText:
    """A contiguous piece of the extracted text of a version."""

    start: int
    text: str

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class Texts(Protocol):
    """The stored text of documents that the caller of a run may read; each call is checked anew."""

    async def read(self, document_id: uuid.UUID, version: int, start: int, end: int) -> Sequence[StoredText]:
        """What is stored of `[start, end)`, cut to it, in order.

        Chunks that follow each other without a gap are one piece, so a quote stands contiguously in the stored text
        only if one piece holds it. Empty when the version is not the live one of a document in the run's project. A
        call reads at most 100,000 characters, from `start` on.

        Raises:
            NotFound, Forbidden, Unavailable: the caller may not read the project any more, or it cannot be checked.
        """
        ...


# --- answers ---------------------------------------------------------------------------------------------------------


class Citation(Value):
    """A quote that stands in the stored text: for `exact`, `text[start:end] == quote`; for `normalised`, the same once
    both are in NFKC with white space and soft hyphens folded, and `quote` is still the text as it is stored."""

    id: str
    """Unique in the answer; claims refer to it."""
    document_id: uuid.UUID
    document_name: str
    version: int
    sha256: str | None
    start: int
    end: int
    quote: str
    page: int | None
    match: Literal["exact", "normalised"]


class Claim(Value):
    """A part of an answer's text that was meant to be supported; without citations, none of its quotes was found."""

    start: int
    """In code points of the answer's text."""
    end: int
    citation_ids: tuple[str, ...]


class Answer(Value):
    """An answer whose citations were all found in the stored text."""

    text: str
    citations: tuple[Citation, ...]
    claims: tuple[Claim, ...]
    grounding: Grounding
    """`full`: every claim has a citation; `partial`: some have; `none`: none has, or there is no claim."""
    refusal: str | None
    """Why there is no answer, such as `no_evidence`; null when there is one."""


class Extraction(Value):
    """Values found for the fields of a schema, each with the quotes that support it."""

    values: dict[str, JsonValue]
    """As the schema says, but null for what was not found or has no quote that was; so is an object that lacks a
    required value. Arrays hold only what was found."""
    citations: tuple[Citation, ...]
    fields: dict[str, tuple[str, ...]]
    """JSON Pointers (RFC 6901) of the single values in `values` to the ids of their citations."""
    grounding: Grounding
    """`full`: every value that was filled in has a citation; `partial`: some have; `none`: none has."""
    refusal: str | None


# --- inputs ----------------------------------------------------------------------------------------------------------


class AnswerInput(Input):
    """A question about the documents of a project that match the filter."""

    question: Question
    filter: Filter | None = None
    language: Language | None = None


class SummariseInput(Input):
    """A summary of one document, or of the documents that match the filter, in about `length` sentences."""

    document_id: uuid.UUID | None = None
    filter: Filter | None = None
    length: Annotated[int, Field(ge=1, le=20)] = 5
    language: Language | None = None


def _form(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    form_of(schema)
    return schema


class ExtractInput(Input):
    """Values for the fields of a schema, found in the documents that match the filter."""

    schema_: Annotated[dict[str, JsonValue], Field(alias="schema"), AfterValidator(_form)]
    """JSON Schema (draft 2020-12) of an object: objects, arrays and values; `$ref` leads into `$defs`."""
    filter: Filter | None = None
    language: Language | None = None


# --- budgets ---------------------------------------------------------------------------------------------------------


class Usage(Value):
    """What a model consumed, as its endpoint reports it."""

    input_tokens: int = 0
    output_tokens: int = 0


class BudgetExhausted(Exception):
    """The next call would exceed the run's budget: it is not made, and the run ends as `incomplete`."""

    def __init__(self, budget: Exhausted) -> None:
        super().__init__(budget)
        self.budget = budget


@dataclass(frozen=True, slots=True)
class Reservation:
    """One call that may be made, of at most `tokens` tokens of input and output together."""

    id: int
    tokens: int


class ModelBudget(Protocol):
    """What a run may still use of models. A reservation is durable before the call is made: a call whose process died
    counts in full."""

    async def reserve(self, tokens: int) -> Reservation:
        """One call of at most `tokens` tokens, of input (estimated high) and output (`max_tokens`) together.

        Raises:
            BudgetExhausted: there are not that many left, or no calls, or no time.
        """
        ...

    async def settle(self, reservation: Reservation, usage: Usage) -> None:
        """Give back what the call did not use. Not called for a call whose usage is unknown: it counts in full."""
        ...

    @property
    def seconds(self) -> float:
        """Time that is left; a call must not take longer."""
        ...
