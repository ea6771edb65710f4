"""What a PDF says about itself: its title, and its outline (bookmarks), which tells the headings of its passages."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

import pypdfium2

from services.indexing.pipeline.documents import Heading, PageSpan
from services.indexing.pipeline.formats.text import clean_title

_DEEPEST: Final = 6
_MOST: Final = 5_000
_HEADING_CHARACTERS: Final = 120
# Programs put the name of the file they print there, or of a file that has no name yet.
_PROGRAM: Final = re.compile(r"^Microsoft (?:Word|PowerPoint|Excel) - ")
_NO_TITLE: Final = re.compile(
    r"(?:untitled|no title|document|presentation|slide|page|microsoft word)[ -]?\d{0,4}|.*\.\w{2,5}", re.IGNORECASE
)


def title(document: pypdfium2.PdfDocument) -> str | None:
    """The title, unless it is a file's name."""
    told = clean_title(document.get_metadata_dict().get("Title"))
    told = _PROGRAM.sub("", told or "")
    return None if not told or _NO_TITLE.fullmatch(told) else told


def headings(document: pypdfium2.PdfDocument, text: str, spans: Sequence[PageSpan]) -> tuple[Heading, ...]:
    """The entries of the outline, each where its words are on its page, or else where the page begins."""
    found: list[Heading] = []
    # A damaged outline ends where the damage is.
    with suppress(pypdfium2.PdfiumError, ValueError, RecursionError):
        for name, level, page in islice(_entries(document), _MOST):
            if page < len(spans):
                span = spans[page]
                place = text.find(name, span.start, span.end)
                found.append(Heading(span.start if place < 0 else place, level, name[:_HEADING_CHARACTERS]))
    return tuple(sorted(found, key=lambda heading: heading.start))


def _entries(document: pypdfium2.PdfDocument) -> Iterator[tuple[str, int, int]]:
    """Names, levels and the indexes of their pages."""
    for bookmark in document.get_toc(max_depth=_DEEPEST):
        destination = bookmark.get_dest()
        page = None if destination is None else destination.get_index()
        name = clean_title(bookmark.get_title())
        if name and page is not None and page >= 0:
            yield name, bookmark.level + 1, page
