"""HTTP shapes of documents' chunks."""

from pydantic import BaseModel

from services.indexing.pipeline.documents import Location


class ChunkOut(BaseModel):
    """A passage of a document's live version, as search finds it.

    `start` and `end` are its place in the text that was extracted from the document, in Unicode code points; passages
    do not overlap, and what lies between two of them is white space, or signs that belong to no word.
    """

    version: int
    chunk_index: int
    start: int
    end: int
    text: str
    page: int | None
    location: Location | None
