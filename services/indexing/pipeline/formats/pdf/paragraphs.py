"""Lines of a page to paragraphs, one line each, with the words that line ends cut in two made whole."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Self

from services.indexing.pipeline.formats.pdf.characters import LINE_HYPHENS
from services.indexing.pipeline.formats.text import clean

_LINE_HYPHEN: Final = re.compile(f"[{LINE_HYPHENS}](?:\r?\n)?")
_LIST_ITEM: Final = re.compile(r"(?:[-*•‣◦▪–—]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s")
_CLOSING: Final = tuple(",.;:)]}»”’、。，．：；！？）」』】〉》")
SENTENCE_END: Final = (".", "!", "?", ":", ";", "。", "！", "？")

# Scripts that put no space between words: Chinese, Japanese, Yi; Thai, Lao, Burmese, Khmer. Full-width forms included.
_UNSPACED: Final = (
    "\u2e80-\u2fdf\u3000-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf"
    "\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff60\uffe0-\uffe6\U00020000-\U0003ffff"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
_BETWEEN_UNSPACED: Final = re.compile(f"[{_UNSPACED}]{{2}}")
# A column of vertical text reaches us as lines of one character, or of two with a bracket or a full stop.
_VERTICAL_LINE: Final = re.compile(f"[{_UNSPACED}]{{1,3}}|[{_UNSPACED}]{{1,2}} [{_UNSPACED}]{{1,2}}")
_VERTICAL_LINES: Final = 5

# A line shorter than this share of the page's widest ones ends its paragraph.
_FULL_LINE_SHARE: Final = 0.7

_HYPHENATED: Final = re.compile(r"\w+(?:-\w+)+")
_WORD: Final = re.compile(r"\w+")
_CUT_WORD: Final = re.compile(r"([\w-]*\w)-$")
# Compounds with these keep their hyphen in English.
_FIRST_PARTS: Final = frozenset({"all", "cross", "ex", "half", "ill", "quasi", "self", "so", "well"})
# These and a second word are usually written as one.
_CLOSED_FIRST_PARTS: Final = frozenset(
    {"any", "back", "down", "every", "fore", "here", "how", "into", "more", "out", "over", "some", "there", "through"}
    | {"under", "upon", "what", "when", "where", "who", "with"}
)
_SHORTEST_PART: Final = 4
_PUNCTUATION: Final = ".,;:!?()[]{}\"'“”‘’«»"
# In "two- and three-day" the hyphen stands for a word that follows.
_AND: Final = frozenset({"and", "or", "to", "und", "oder", "bis", "et", "ou", "y", "o", "e"})
# Long enough for any word.
_TAIL: Final = 80


def reflow(page: str) -> str:
    lines = [line.strip() for line in clean(_LINE_HYPHEN.sub("-\n", page)).split("\n")]
    lines = list(_with_vertical_columns(lines))
    widths = sorted(len(line) for line in lines if line)
    if not widths:
        return ""
    full = _FULL_LINE_SHARE * widths[int(0.9 * (len(widths) - 1))]
    known = Words.of(page) if any(line.endswith("-") for line in lines) else Words()
    pieces: list[str] = []
    open_paragraph = False
    for line in lines:
        if not line:
            open_paragraph = False
            continue
        if pieces and line.startswith(_CLOSING) and not pieces[-1].endswith(_CLOSING):
            # What follows a superscript is no line of its own.
            pieces.append(line)
        elif open_paragraph and not _LIST_ITEM.match(line):
            _append(pieces, line, known)
        else:
            pieces += ["\n", line] if pieces else [line]
        open_paragraph = len(line) >= full
    return "".join(pieces)


class Words(NamedTuple):
    """What a text says about its words, in lower case."""

    compounds: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()

    @classmethod
    def of(cls, *texts: str) -> Self:
        words = [word for text in texts for word in text.lower().split()]
        hyphenated = (word for word in words if "-" in word[1:-1])
        compounds = (found[0] for word in hyphenated for found in _HYPHENATED.finditer(word))
        return cls(frozenset(compounds), frozenset(word.strip(_PUNCTUATION) for word in words))


def cut_word(before: str, after: str, known: Words) -> str | None:
    """What to put for the hyphen at the end of `before`: a hyphen, or nothing; None when it cuts no word.

    The hyphen is the word's own if the text has the word with it elsewhere, and not if it has it without. Otherwise it
    is if both parts are words of the text. Few that are written as one consist of two such words.
    """
    cut, rest = _CUT_WORD.search(before[-_TAIL:]), _WORD.match(after)
    if cut is None or rest is None or rest[0] in _AND or cut[1].startswith("-"):
        return None
    left, right = cut[1].lower(), rest[0]
    if not left[-1].isalpha() or not right[0].islower() or "-" in left or left in _FIRST_PARTS:
        return "-"
    if f"{left}-{right}" in known.compounds:
        return "-"
    if left + right in known.plain or left in _CLOSED_FIRST_PARTS or min(len(left), len(right)) < _SHORTEST_PART:
        return ""
    return "-" if left in known.plain and right in known.plain else ""


def are_unspaced(before: str, after: str) -> bool:
    """Whether the scripts of two pieces of text put no space between them."""
    return _BETWEEN_UNSPACED.fullmatch(before[-1:] + after[:1]) is not None


def _append(pieces: list[str], line: str, known: Words) -> None:
    """Go on with a paragraph."""
    hyphen = cut_word(pieces[-1], line, known) if pieces[-1].endswith("-") else None
    if hyphen is not None:
        pieces[-1] = pieces[-1][:-1] + hyphen
    elif not are_unspaced(pieces[-1], line):
        pieces.append(" ")
    pieces.append(line)


def _with_vertical_columns(lines: Iterable[str]) -> Iterator[str]:
    """Vertical text, which has arrived one character a line, as one line."""
    run: list[str] = []
    for line in [*lines, ""]:
        if _VERTICAL_LINE.fullmatch(line):
            run.append(line)
            continue
        if len(run) >= _VERTICAL_LINES:
            yield "".join(run).replace(" ", "")
        else:
            yield from run
        run = []
        yield line
