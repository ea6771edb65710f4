"""What a model writes, taken apart as it arrives: text, and quotes in tags.

    Opened in 1932. <cite passage="2">The bridge was opened on 19 March 1932</cite> Its arch ...

Tags may be split between any two pieces. What only looks like the beginning of one is text. A tag that is not closed
ends where the next begins, or the text does. Bounded: no more of a quote is kept than is ever compared, and of text
only what may still become a tag.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from services.indexing.agents.quotes.quote_search import LONGEST

_OPENING: Final = re.compile(r"<cite\b([^<>]{0,60}?)(/?)>", re.IGNORECASE)
_CLOSING: Final = re.compile(r"</cite\s{0,8}>", re.IGNORECASE)
_NO_ANSWER: Final = re.compile(r"<no_answer\s{0,8}/?\s{0,8}>", re.IGNORECASE)
_NAMES: Final = ("<cite", "</cite", "<no_answer")
_LONGEST_TAG: Final = 80
_NUMBER: Final = re.compile(r"\d{1,4}")


@dataclass(frozen=True, slots=True)
class Quoted:
    """A tag: the number of the passage, if it has one, and what it says stands there."""

    passage: int | None
    quote: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The tag that stands for an answer where there is none."""


class CitationTags:
    """Of one text. `feed` it, then take the `rest`."""

    def __init__(self) -> None:
        self._waiting = ""
        # Inside a tag: the number of its passage and its quote so far.
        self._passage: int | None = None
        self._quote: str | None = None

    def feed(self, text: str) -> Iterator[str | Quoted | NoAnswer]:
        """What is certain by now."""
        text, at = self._waiting + text, 0
        while at < len(text):
            begins = text.find("<", at)
            end = len(text) if begins < 0 else begins
            yield from self._take(text[at:end])
            if begins < 0:
                at = end
            elif (tag := _tag(text, begins)) is not None:
                yield from self._met(tag)
                at = tag.end()
            elif _may_become_tag(text[begins : begins + _LONGEST_TAG + 1]):
                at = begins
                break
            else:
                yield from self._take("<")
                at = begins + 1
        self._waiting = text[at:]

    def rest(self) -> Iterator[str | Quoted | NoAnswer]:
        """What remains when no more text comes."""
        yield from self._take(self._waiting)
        self._waiting = ""
        yield from self._close()

    def _met(self, tag: re.Match[str]) -> Iterator[str | Quoted | NoAnswer]:
        yield from self._close()
        if tag.re is _NO_ANSWER:
            yield NoAnswer()
        elif tag.re is _OPENING:
            number = _NUMBER.search(tag.group(1))
            self._passage, self._quote = None if number is None else int(number.group()), ""
            if tag.group(2):
                yield from self._close()

    def _take(self, text: str) -> Iterator[str]:
        """Text, or part of a quote."""
        if self._quote is not None:
            self._quote += text[: LONGEST - len(self._quote)]
        elif text:
            yield text

    def _close(self) -> Iterator[Quoted]:
        if self._quote is not None:
            yield Quoted(self._passage, self._quote)
            self._quote = None


def _tag(text: str, at: int) -> re.Match[str] | None:
    return next((found for tag in (_OPENING, _CLOSING, _NO_ANSWER) if (found := tag.match(text, at))), None)


def _may_become_tag(begun: str) -> bool:
    if len(begun) > _LONGEST_TAG or ">" in begun or "<" in begun[1:]:
        return False
    begun = begun.lower()
    return any(begun.startswith(name) or name.startswith(begun) for name in _NAMES)
