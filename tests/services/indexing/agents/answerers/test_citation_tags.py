import random
import time

import pytest

from services.indexing.agents.answerers.citation_tags import CitationTags, NoAnswer, Quoted
from services.indexing.agents.quotes.quote_search import LONGEST

Piece = str | Quoted | NoAnswer

TEXTS: dict[str, list[Piece]] = {
    "plain": ["plain"],
    'One. <cite passage="2">the quote</cite> Two.': ["One. ", Quoted(2, "the quote"), " Two."],
    "<cite passage=3>a</cite><CITE passage='[4]'>b</CITE >": [Quoted(3, "a"), Quoted(4, "b")],
    "<cite>no number</cite>": [Quoted(None, "no number")],
    '<cite passage="1"/>text': [Quoted(1, ""), "text"],
    "a < b and <b>bold</b> <cited> <ci": ["a < b and <b>bold</b> <cited> <ci"],
    "x <cite never closed and long " + "y" * 80: ["x <cite never closed and long " + "y" * 80],
    "</cite>text</cite>": ["text"],
    '<cite passage="1">a < b <i>c</i>': [Quoted(1, "a < b <i>c</i>")],
    '<cite passage="1">first<cite passage="2">second</cite>': [Quoted(1, "first"), Quoted(2, "second")],
    "<no_answer/>": [NoAnswer()],
    "<NO_ANSWER>": [NoAnswer()],
    '<cite passage="1"></cite>': [Quoted(1, "")],
    '<cite passage="12345678901">x</cite>': [Quoted(1234, "x")],
    "": [],
}


def read(*pieces: str) -> list[Piece]:
    """All of it, with text that is beside text joined."""
    tags = CitationTags()
    found: list[Piece] = []
    for piece in [*(each for text in pieces for each in tags.feed(text)), *tags.rest()]:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_tags_are_taken_out_of_the_text(text: str) -> None:
    assert read(text) == TEXTS[text]


@pytest.mark.parametrize("text", TEXTS)
def test_it_does_not_matter_where_a_text_is_split(text: str) -> None:
    draw = random.Random(text)
    assert read(*text) == TEXTS[text]
    for _ in range(50):
        cuts = sorted(draw.choices(range(len(text) + 1), k=4))
        assert (
            read(*(text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True))) == TEXTS[text]
        )


def test_text_is_passed_on_as_soon_as_it_is_known_to_be_text() -> None:
    tags = CitationTags()
    assert list(tags.feed("Some text <")) == ["Some text "]
    assert list(tags.feed("ci")) == []
    assert list(tags.feed("rcle")) == ["<", "circle"]


def test_no_more_of_a_quote_is_kept_than_is_compared() -> None:
    (found,) = read('<cite passage="1">', *["x" * 1000] * 50, "</cite>")
    assert isinstance(found, Quoted)
    assert len(found.quote) == LONGEST


@pytest.mark.parametrize("unit", ["<", "<cite", "<cite ", "</", "<cite><", "< <"])
def test_any_text_takes_linear_time(unit: str) -> None:
    began = time.process_time()
    read(*[unit] * 10_000)
    read(unit * 50_000)
    assert time.process_time() - began < 3
