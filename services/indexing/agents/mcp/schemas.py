"""What tools take and give. Clients are shown these as JSON Schemas, and language models read the descriptions.

Everything that a tool gives is bounded: a model's context is small, whatever a document or its metadata holds.
"""

import uuid
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, Field

from services.indexing.agents.mcp.identifiers import MAX_LENGTH
from services.indexing.vectors.filters import storable
from shared.request_bodies import Input

MOST_RESULTS: Final = 20
MOST_LISTED: Final = 25
MOST_CHARACTERS: Final = 32_000
"""Of one fetched text; a longer one is read in parts."""
MOST_METADATA: Final = 2_048
"""Bytes of one document's metadata, as JSON; larger metadata is left out."""
MOST_DESCRIPTION: Final = 500

ProjectId = Annotated[
    uuid.UUID | None,
    Field(
        description="The project to look in, an id from list_projects. May be left out when the credential is for one "
        "project only, or sees only one."
    ),
]
Cursor = Annotated[
    str | None, Field(max_length=3000, description="next_cursor of the page before, for the page after it.")
]
DocumentMetadata = Annotated[
    dict[str, Any] | None, Field(description=f"The document's own; null when larger than {MOST_METADATA} bytes.")
]
Id = Annotated[str, Field(description="For fetch.")]


class SearchInput(Input):
    query: Annotated[
        str,
        Field(min_length=1, max_length=2000, description="A question, or words to look for."),
        AfterValidator(storable),
    ]
    project_id: ProjectId = None
    mode: Annotated[
        Literal["hybrid", "semantic", "keyword"],
        Field(description="By meaning (semantic), by words (keyword), or by both (hybrid)."),
    ] = "hybrid"
    limit: Annotated[int, Field(ge=1, le=MOST_RESULTS, description="How many results at most.")] = 8
    filter: Annotated[
        dict[str, Any] | None,
        Field(
            description='Only documents that match, such as {"field": "metadata.lang", "eq": "en"}, or several '
            'conditions in {"all": [...]}, {"any": [...]} and {"not": ...}. Fields: metadata.<name>, document_id, '
            "name, content_type, language, created_at. Operators: eq, ne, in, gt, gte, lt, lte, exists, prefix."
        ),
    ] = None
    cursor: Cursor = None


class SearchResult(BaseModel):
    """A passage. `text` is all of it, `title` the name of its document."""

    id: Id
    title: str
    text: str
    url: str
    project_id: uuid.UUID
    document_id: uuid.UUID
    version: int
    chunk_index: int
    page: int | None
    score: float
    metadata: DocumentMetadata


class SearchOutput(BaseModel):
    """Best first. `partial`: found by words alone, since the query could not be embedded in time."""

    results: list[SearchResult]
    next_cursor: str | None
    partial: bool


class AskInput(Input):
    question: Annotated[
        str, Field(min_length=1, max_length=2000, description="A question in plain words."), AfterValidator(storable)
    ]
    project_id: ProjectId = None
    filter: Annotated[
        dict[str, Any] | None, Field(description="Only documents that match; conditions as search takes them.")
    ] = None
    language: Annotated[str | None, Field(max_length=35, description="Of the answer, such as en or pt-BR.")] = None


class AskCitation(BaseModel):
    """A quote that stands in the document: from `start` to `end` of its extracted text."""

    id: Id
    title: str
    url: str
    version: int
    start: int
    end: int
    quote: str
    page: int | None
    match: Literal["exact", "normalised"]


class AskOutput(BaseModel):
    """An answer with the quotes it rests on. `text` is null where there is none: `refusal` says why, or `status` that
    the run goes on. `grounding`: whether all, some or none of the text is supported; `exhausted`: which budget ended
    it."""

    run_id: uuid.UUID
    status: str
    exhausted: str | None
    text: str | None
    refusal: str | None
    grounding: Literal["full", "partial", "none"] | None
    citations: list[AskCitation]


class FetchInput(Input):
    id: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_LENGTH,
            description="An id from search or list_documents. Of a long document, the id of a passage gives the part "
            "around it, that of a document its beginning.",
        ),
    ]
    from_chunk: Annotated[
        int | None, Field(ge=0, le=999_999_999, description="next_chunk of the part before, to read on.")
    ] = None


class FetchOutput(BaseModel):
    """The text that was extracted from a document, or a part of it: from `start` to `end` of `characters`."""

    id: Id
    title: str
    text: str
    url: str
    project_id: uuid.UUID
    document_id: uuid.UUID
    version: int
    content_type: str
    created_at: datetime
    start: int
    end: int
    characters: int
    next_chunk: Annotated[int | None, Field(description="For from_chunk; null at the end of the document.")]
    metadata: DocumentMetadata


class ListProjectsInput(Input):
    limit: Annotated[int, Field(ge=1, le=MOST_LISTED, description="How many projects at most.")] = MOST_LISTED
    cursor: Cursor = None


class ListedProject(BaseModel):
    id: Annotated[uuid.UUID, Field(description="For project_id.")]
    name: str
    description: str
    role: str
    document_count: int
    updated_at: datetime


class ListProjectsOutput(BaseModel):
    """Newest first."""

    projects: list[ListedProject]
    next_cursor: str | None


class ListDocumentsInput(Input):
    project_id: ProjectId = None
    status: Annotated[
        Literal["queued", "indexing", "indexed", "failed", "cancelled"] | None,
        Field(description="Only documents in this state; those that are indexed can be searched."),
    ] = None
    name: Annotated[
        str | None,
        Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f]*$", description="Only documents of this name."),
    ] = None
    limit: Annotated[int, Field(ge=1, le=MOST_LISTED, description="How many documents at most.")] = MOST_LISTED
    cursor: Cursor = None


class ListedDocument(BaseModel):
    id: Id
    name: str
    document_id: uuid.UUID
    version: int
    status: str
    content_type: str
    size: Annotated[int, Field(description="In bytes.")]
    created_at: datetime
    indexed_at: datetime | None
    metadata: DocumentMetadata


class ListDocumentsOutput(BaseModel):
    """Newest first."""

    project_id: uuid.UUID
    documents: list[ListedDocument]
    next_cursor: str | None
