"""Text as quotes are compared: what a copyist changes without changing a word is folded, with the way back.

Folded are: compatibility and composition (NFKD on both sides, which makes equal exactly what NFKC does), runs of white
space to one space, soft hyphens and other characters of no width to nothing, typographic quotation marks and dashes to
plain ones. Case, accents and letters that merely look alike are not.

Time is linear in the length of the text: a cluster of more marks than Unicode's Stream-Safe Text Format (UAX #15)
allows is folded in pieces, since ordering marks is quadratic.
"""

import unicodedata
from dataclasses import dataclass
from typing import Final

_MOST_MARKS: Final = 30
# Soft hyphen, zero width space, non-joiner, joiner, word joiner, byte order mark.
_NO_WIDTH: Final = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff")
_PLAIN: Final = str.maketrans(
    {**dict.fromkeys("‘’‚‛′", "'"), **dict.fromkeys("“”„‟″«»", '"'), **dict.fromkeys("‐‑‒–—―−", "-")}
)


@dataclass(frozen=True, slots=True)
class FoldedText:
    """`text`, and the range of the original that each of its characters stands for."""

    text: str
    starts: list[int]
    ends: list[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The range of the original for a range that is not empty."""
        return self.starts[start], self.ends[end - 1]


def fold(original: str) -> FoldedText:
    folded: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    while at < len(original):
        start, at = at, _end_of_cluster(original, at)
        for character in _folded(original[start:at]):
            if character == " " and folded and folded[-1] == " ":
                ends[-1] = at
                continue
            folded.append(character)
            starts.append(start)
            ends.append(at)
    return FoldedText("".join(folded), starts, ends)


def length(folded: str) -> int:
    """Characters as a reader counts them: without white space around, letters with their accents."""
    return len(unicodedata.normalize("NFC", folded.strip()))


def _end_of_cluster(text: str, start: int) -> int:
    end = start + 1
    latest = min(len(text), end + _MOST_MARKS)
    while end < latest and text[end] > "\u02ff" and unicodedata.combining(text[end]):
        end += 1
    return end


def _folded(cluster: str) -> str:
    if cluster.isspace():
        return " "
    if cluster in _NO_WIDTH:
        return ""
    if cluster.isascii():
        return cluster
    return unicodedata.normalize("NFKD", cluster).translate(_PLAIN)
