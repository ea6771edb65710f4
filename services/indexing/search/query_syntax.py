"""What a query says besides its words: `"in this order"`, `-without`, `-"not in this order"`.

Only what is unmistakable counts: a minus begins a word that begins with a letter; a single quotation mark, and a query
of nothing but exclusions, are as any other text. At most `MAX_CONDITIONS` count.
"""

import re
from collections.abc import Generator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from services.indexing.analysis.phrases import sequence_of

MAX_CONDITIONS: Final = 16

_OPERATOR: Final = re.compile(
    r"""(?<!\S)(?P<minus>-?)(?:"(?P<straight>[^"]+)"|[“„](?P<curly>[^“”„]+)[”“]|«(?P<angled>[^«»]+)»)"""
    r"""|(?<!\S)-(?P<word>[^\W\d_][^\s"]*)"""
)
_QUOTED: Final = ("straight", "curly", "angled")


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """`text` is ranked by; passages must contain each of `phrases` and none of `excluded` (see `sequence_of`)."""

    text: str
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @property
    def has_conditions(self) -> bool:
        return bool(self.phrases or self.excluded)

    def matching(self, texts: list[str]) -> Generator[None, None, list[bool]]:
        """Which of the texts fulfil the conditions; `yield`s after each."""
        fulfilled = []
        for text in texts:
            sequence = sequence_of(text)
            fulfilled.append(
                all(phrase in sequence for phrase in self.phrases)
                and not any(phrase in sequence for phrase in self.excluded)
            )
            yield
        return fulfilled


def parsed(query: str) -> ParsedQuery:
    phrases: list[str] = []
    excluded: list[str] = []
    kept: list[str] = []
    end = 0
    for operator in islice(_OPERATOR.finditer(query), MAX_CONDITIONS):
        quoted = next((operator[name] for name in _QUOTED if operator[name] is not None), None)
        sequence = sequence_of(operator["word"] or quoted or "")
        if not sequence:
            continue
        kept.append(query[end : operator.start()])
        end = operator.end()
        if operator["word"] is not None or operator["minus"]:
            excluded.append(sequence)
        else:
            phrases.append(sequence)
            kept.append(f" {quoted} ")
    text = "".join((*kept, query[end:]))
    return ParsedQuery(text, tuple(phrases), tuple(excluded)) if sequence_of(text) else ParsedQuery(query)
