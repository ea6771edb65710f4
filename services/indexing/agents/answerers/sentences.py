"""Sentences of passages that can be quoted, with what is beside them. Each is an exact slice."""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final

from services.indexing.agents.answerers.base import Draft, ProposedCitation
from services.indexing.agents.contracts import Passage
from services.indexing.agents.quotes.folded_text import length
from services.indexing.agents.quotes.quote_search import SHORTEST
from services.indexing.analysis.sentences import spans

_UNFINISHED: Final = re.compile(r"^[^\t|]*[^\t|.!?:;。！？…][\"'”’»)\]]*$")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence that can be quoted, and its neighbours.

    Args:
        rank: of its passage among those given, from 0.
        start, end: in the extracted text.
        heading: whether it is the first line of more, without a full stop.
        beside: the sentences before and after it in the passage, and the passage's first, which may be its heading.
    """

    passage: Passage
    rank: int
    start: int
    end: int
    text: str
    heading: bool
    beside: str


def of_passages(
    passages: Sequence[Passage], *, language: str | None, most: int
) -> Generator[None, None, list[Sentence]]:
    """The first `most` sentences of at least `SHORTEST` characters, without repetitions; `yield`s now and then."""
    found: dict[str, Sentence] = {}
    for rank, passage in enumerate(passages):
        inside = list(spans(passage.text, language))
        for number, (start, end) in enumerate(inside):
            text = passage.text[start:end]
            if len(found) == most:
                return list(found.values())
            if text not in found and length(text) >= SHORTEST:
                near = {0, max(number - 1, 0), min(number + 1, len(inside) - 1)} - {number}
                beside = " ".join(passage.text[slice(*inside[each])] for each in sorted(near))
                heading = number == 0 and len(inside) > 1 and _UNFINISHED.search(text) is not None
                found[text] = Sentence(passage, rank, passage.start + start, passage.start + end, text, heading, beside)
        yield
    return list(found.values())


def in_document_order(sentences: Sequence[Sentence]) -> list[Sentence]:
    """Documents as they were ranked, each from its beginning on."""
    order: dict[object, int] = {}
    for sentence in sorted(sentences, key=lambda each: each.rank):
        order.setdefault(sentence.passage.document_id, len(order))
    return sorted(sentences, key=lambda each: (order[each.passage.document_id], each.start))


def drafted(sentences: Sequence[Sentence]) -> Draft:
    """The sentences one after the other, each a claim that it supports itself."""
    text, citations = "", []
    for sentence in sentences:
        if text:
            text += " "
        citations.append(
            ProposedCitation(
                claim_start=len(text),
                claim_end=len(text) + len(sentence.text),
                document_id=sentence.passage.document_id,
                version=sentence.passage.version,
                quote=sentence.text,
                start=sentence.start,
                end=sentence.end,
            )
        )
        text += sentence.text
    return Draft(text, tuple(citations))
