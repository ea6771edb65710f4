"""Which quotes of a draft stand in the stored text. Uses no model.

Guarantees: every citation of the answer was found in the text that is stored of its version while the caller may read
it, `text[start:end] == quote`, and its version is one of those the answerer was given. A quote that stands in another
of them than was said is moved there; one that stands nowhere is dropped, and its claim has one citation less. How
quotes are compared: `quote_search`.

Bounded: the first `MAX_QUOTES` quotes of a draft are looked for, in the first `MAX_PASSAGES` passages and `MAX_TEXT`
characters. Texts are read once, and only when a quote is to be looked for in them.
"""

import uuid
from collections.abc import Awaitable, Generator, Sequence
from typing import Final, Protocol, TypeVar

from services.indexing.agents.answerers.base import Draft, ProposedCitation
from services.indexing.agents.contracts import Answer, Citation, Claim, Grounding, Passage, Texts
from services.indexing.agents.quotes.quote_search import SHORTEST, Found, SearchableText, find_part, find_whole

MAX_QUOTES: Final = 64
MAX_PASSAGES: Final = 64
MAX_TEXT: Final = 100_000

# Ranges this close are read together.
_CLOSE: Final = 200

T = TypeVar("T")
_Version = tuple[uuid.UUID, int]


class Compute(Protocol):
    """Runs CPU-heavy work in turn with that of other tenants, off the event loop; see `SearchShares.compute`."""

    def __call__(self, work: Generator[None, None, T], /) -> Awaitable[T]: ...


async def verify(draft: Draft, passages: Sequence[Passage], texts: Texts, *, compute: Compute) -> Answer:
    """The draft with the citations that hold.

    Args:
        passages: those that the answerer was given.

    Raises:
        whatever `texts` raises when the caller may not read them any more.
    """
    if draft.refusal is not None:
        return Answer(text="", citations=(), claims=(), grounding="none", refusal=draft.refusal)
    versions = _Versions(passages, texts)
    citations: dict[tuple[uuid.UUID, int, int, int], Citation] = {}
    claims: dict[tuple[int, int], list[str]] = {}
    for number, proposed in enumerate(draft.citations):
        ids = claims.setdefault(_claim(proposed, draft.text), [])
        located = await _locate(proposed, versions, compute) if number < MAX_QUOTES else None
        if located is not None:
            passage, found = located
            key = (passage.document_id, passage.version, found.start, found.end)
            citation = citations.setdefault(key, _citation(f"c{len(citations) + 1}", passage, found))
            if citation.id not in ids:
                ids.append(citation.id)
    supported = tuple(
        Claim(start=start, end=end, citation_ids=tuple(ids)) for (start, end), ids in claims.items() if start < end
    )
    return Answer(
        text=draft.text,
        citations=tuple(citations.values()),
        claims=supported,
        grounding=_grounding(supported),
        refusal=None,
    )


def _claim(proposed: ProposedCitation, text: str) -> tuple[int, int]:
    end = min(max(proposed.claim_end, 0), len(text))
    return min(max(proposed.claim_start, 0), end), end


def _grounding(claims: Sequence[Claim]) -> Grounding:
    cited = sum(1 for claim in claims if claim.citation_ids)
    if not cited:
        return "none"
    return "full" if cited == len(claims) else "partial"


def _citation(id: str, passage: Passage, found: Found) -> Citation:
    return Citation(
        id=id,
        document_id=passage.document_id,
        document_name=passage.document_name,
        version=passage.version,
        sha256=passage.sha256,
        start=found.start,
        end=found.end,
        quote=found.quote,
        page=passage.page,
        match=found.match,
    )


async def _locate(proposed: ProposedCitation, versions: "_Versions", compute: Compute) -> tuple[Passage, Found] | None:
    """Where the quote was said to stand, else all of it elsewhere, else enough of it anywhere, the cited text first."""
    if len(proposed.quote) < SHORTEST:
        return None
    cited = (proposed.document_id, proposed.version)
    if (found := await versions.at(proposed)) is not None:
        return versions.passage(cited, found.start), found
    order = sorted(versions.all, key=lambda version: version != cited)
    for key in order:
        if (found := await compute(find_whole(proposed.quote, await versions.texts(key)))) is not None:
            return versions.passage(key, found.start), found
    best = None
    for key in order:
        part = await compute(find_part(proposed.quote, await versions.texts(key)))
        if part is not None and (best is None or part.covered > best[1].covered):
            best = key, part
    return None if best is None else (versions.passage(best[0], best[1].found.start), best[1].found)


class _Versions:
    """The stored text of the passages, by document and version."""

    def __init__(self, passages: Sequence[Passage], texts: Texts) -> None:
        self._texts = texts
        self._read: dict[_Version, list[SearchableText]] = {}
        self._passages: dict[_Version, list[Passage]] = {}
        size = 0
        for passage in passages[:MAX_PASSAGES]:
            size += passage.end - passage.start
            if size > MAX_TEXT:
                break
            self._passages.setdefault((passage.document_id, passage.version), []).append(passage)

    @property
    def all(self) -> Sequence[_Version]:
        """Best first, as the passages were."""
        return list(self._passages)

    async def at(self, proposed: ProposedCitation) -> Found | None:
        """The quote where the draft says that it stands, if it does."""
        start, end = proposed.start, proposed.end
        if start is None or end is None or (proposed.document_id, proposed.version) not in self._passages:
            return None
        for stored in await self._texts.read(proposed.document_id, proposed.version, start, end):
            if (stored.start, stored.text) == (start, proposed.quote):
                return SearchableText(stored).found(0, len(stored.text), proposed.quote)
        return None

    async def texts(self, version: _Version) -> list[SearchableText]:
        if version not in self._read:
            self._read[version] = [
                SearchableText(stored)
                for start, end in _ranges(self._passages[version])
                for stored in await self._texts.read(*version, start, end)
            ]
        return self._read[version]

    def passage(self, version: _Version, position: int) -> Passage:
        """The passage that begins last before the position."""
        passages = sorted(self._passages[version], key=lambda passage: passage.start)
        return next((each for each in reversed(passages) if each.start <= position), passages[0])


def _ranges(passages: Sequence[Passage]) -> list[tuple[int, int]]:
    """The ranges of passages of one version, joined where they are close to each other."""
    ranges: list[tuple[int, int]] = []
    for start, end in sorted((passage.start, passage.end) for passage in passages):
        if ranges and start <= ranges[-1][1] + _CLOSE:
            ranges[-1] = ranges[-1][0], max(ranges[-1][1], end)
        else:
            ranges.append((start, end))
    return ranges
