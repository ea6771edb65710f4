"""What kind of answer a question asks for, and whether a sentence has one of that kind.

Shallow on purpose: question words of English, and forms that dates, numbers, names and reasons have in most European
languages. A question of another language, or of no known kind, accepts every sentence.
"""

import re
from enum import StrEnum
from typing import Final


class AnswerType(StrEnum):
    PERSON = "person"
    TIME = "time"
    NUMBER = "number"
    PLACE = "place"
    REASON = "reason"
    ANY = "any"


_MEASURES: Final = (
    r"(?:price|cost|costs|fee|number|percentage|size|weight|height|length|distance|temperature|speed|age|limit"
    r"|population|range|diameter)"
)
# The first that matches the beginning of a question counts.
_QUESTIONS: Final = (
    (
        AnswerType.NUMBER,
        r"how (?:many|much|long|tall|high|deep|far|old|big|large|heavy|fast|wide|often|hot|cold|loud)\b",
    ),
    (AnswerType.TIME, r"(?:(?:since |until )?when\b|(?:in |on |at )?(?:what|which) (?:year|date|days?|month|time)\b)"),
    (AnswerType.PERSON, r"(?:who|whom|whose)\b"),
    (AnswerType.PLACE, r"(?:where\b|(?:in |to |from )?(?:what|which) (?:cit|countr|town|place|room)\w*)"),
    (AnswerType.REASON, r"(?:why\b|for what reason|what (?:caused|was the (?:root )?cause|is the reason))"),
    (AnswerType.NUMBER, rf"(?:(?:within|for|in|at|by) )?(?:what|which) (?:\w+ ){{0,3}}?{_MEASURES}\b"),
    (AnswerType.NUMBER, r"what does (?:.+) cost"),
)
_DETECTED: Final = tuple(
    (kind, re.compile(rf"\W*(?:and |so |but )?{pattern}", re.IGNORECASE)) for kind, pattern in _QUESTIONS
)

_NUMBER_WORDS: Final = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    r"|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundreds?|thousands?|millions?|billions?"
    r"|dozens?|half|twice|once)"
)
_MONTHS: Final = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december"
    r"|monday|tuesday|wednesday|thursday|friday|saturday|sunday)s?"
)
_FORMS: Final = {
    AnswerType.NUMBER: re.compile(rf"\d|\b{_NUMBER_WORDS}\b", re.IGNORECASE),
    AnswerType.TIME: re.compile(
        rf"\b(?:1\d|20)\d\d\b|\b\d{{1,2}}[:.]\d\d\b|\b(?:a|p)\.?m\b|\b{_MONTHS}\b"
        rf"|\b(?:days?|weeks?|months?|years?|hours?|minutes?|morning|noon|evening|night|midnight|winter|spring|summer"
        rf"|autumn|century|always|never|daily)\b",
        re.IGNORECASE,
    ),
    # A capital inside a sentence, or a role.
    AnswerType.PERSON: re.compile(
        r"(?<=[\w,;] )[A-Z][\w’'-]+|^(?:[A-Z]\S+ ){1,3}[A-Z]\S+"
        r"|\b(?:team|department|manager|officer|lead|desk|staff|bank|colleague|doctor|company|committee)\b"
    ),
    AnswerType.PLACE: re.compile(
        r"\b(?:in|at|on|near|to|from|into|of|off|between|through|along|above|below|behind|under)\b", re.IGNORECASE
    ),
    AnswerType.REASON: re.compile(
        r"\b(?:because|since|so that|due to|owing to|therefore|thanks to|in order|cause[sd]?|reasons?|would|means that"
        r"|as a result|to \w+)\b",
        re.IGNORECASE,
    ),
}


def expected(question: str) -> AnswerType:
    return next((kind for kind, pattern in _DETECTED if pattern.match(question)), AnswerType.ANY)


def has(sentence: str, kind: AnswerType) -> bool:
    """Whether the sentence has a form that an answer of this kind takes."""
    form = _FORMS.get(kind)
    return form is None or form.search(sentence) is not None
