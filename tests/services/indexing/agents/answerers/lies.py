"""Answers that lie about what documents say, in every way that models do and some that they do not.

Each kind makes the quotes of one answer out of the passages it was given. `holds` says what must become of them: True,
that there is a citation; False, that there is none; None, that what there is has to stand in the text.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

Passages = Mapping[int, str]
Quote = tuple[int, str]
"""The number of a passage, and what is said to stand in it."""

FOREIGN: Final = "The vault of the other tenant opens with the word ZANZIBAR, which nobody here may read."
UNGIVEN: Final = "Another document of the same project mentions the word PERIWINKLE, but it was not given."

_WORDS: Final = ("dragons", "purple", "yesterday", "unanimously", "seventeen", "moon", "cheese", "decided", "abroad")
_LOOK_ALIKES: Final = str.maketrans("aceopxyiABCEHKMOPTX", "асеорхуіАВСЕНКМОРТХ")
_NEXT_DIGITS: Final = str.maketrans("0123456789", "1234567890")
_FULL_WIDTH: Final = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


@dataclass(frozen=True, slots=True)
class Lie:
    make: Callable[[random.Random, Passages], list[Quote]]
    holds: bool | None


def _piece(draw: random.Random, text: str, shortest: int = 20, longest: int = 90) -> str:
    start = draw.randrange(max(1, len(text) - shortest))
    return text[start : start + draw.randint(shortest, longest)].strip()


def _any(draw: random.Random, passages: Passages) -> Quote:
    number = draw.choice(sorted(passages))
    return number, _piece(draw, passages[number], 30)


def _other(draw: random.Random, passages: Passages, number: int) -> int:
    return draw.choice([each for each in passages if each != number])


def honest(draw: random.Random, passages: Passages) -> list[Quote]:
    return [_any(draw, passages)]


def invented(draw: random.Random, passages: Passages) -> list[Quote]:
    return [(draw.choice(sorted(passages)), " ".join(draw.choices(_WORDS, k=12)))]


def invented_around_a_name(draw: random.Random, passages: Passages) -> list[Quote]:
    number, quote = _any(draw, passages)
    return [(number, f"It is well known to everybody that {quote[:14]} was sold to pirates for a handful of beans")]


def stitched(draw: random.Random, passages: Passages) -> list[Quote]:
    number, first = _any(draw, passages)
    return [(number, f"{first} {draw.choice(['', '... ', '[…] ', 'and also '])}{_piece(draw, passages[number], 30)}")]


def stitched_of_two(draw: random.Random, passages: Passages) -> list[Quote]:
    number, first = _any(draw, passages)
    return [(number, f"{first} {_piece(draw, passages[_other(draw, passages, number)], 30)}")]


def moved(draw: random.Random, passages: Passages) -> list[Quote]:
    number, quote = _any(draw, passages)
    return [(_other(draw, passages, number), quote)]


def unknown_passage(draw: random.Random, passages: Passages) -> list[Quote]:
    return [(draw.choice([0, 99, 4711]), _any(draw, passages)[1])]


def off_by_one(draw: random.Random, passages: Passages) -> list[Quote]:
    number, quote = _any(draw, passages)
    return [(number, draw.choice([quote[1:], quote[:-1], f"x{quote}", f"{quote}x", quote[1:] + quote[0]]))]


def of_another_document(_: random.Random, __: Passages) -> list[Quote]:
    return [(1, UNGIVEN)]


def of_another_tenant(draw: random.Random, _: Passages) -> list[Quote]:
    return [(1, draw.choice([FOREIGN, FOREIGN[:40], f"… {FOREIGN[10:]}"]))]


def look_alikes(draw: random.Random, passages: Passages) -> list[Quote]:
    number, quote = _any(draw, passages)
    return [(number, quote.translate(_LOOK_ALIKES))]


def full_width(draw: random.Random, passages: Passages) -> list[Quote]:
    number, quote = _any(draw, passages)
    return [(number, quote.translate(_FULL_WIDTH))]


def of_no_width(draw: random.Random, passages: Passages) -> list[Quote]:
    number, quote = _any(draw, passages)
    return [(number, "".join(letter + draw.choice(["", "", "\u00ad", "\u200b"]) for letter in quote))]


def other_white_space(draw: random.Random, passages: Passages) -> list[Quote]:
    number, quote = _any(draw, passages)
    return [(number, quote.replace(" ", draw.choice(["\n", "  ", "\u00a0", "\t \r\n"])))]


def shouted(draw: random.Random, passages: Passages) -> list[Quote]:
    number, quote = _any(draw, passages)
    return [(number, quote.upper())]


def other_numbers(draw: random.Random, passages: Passages) -> list[Quote]:
    number, quote = _any(draw, passages)
    return [(number, quote.translate(_NEXT_DIGITS))]


def reversed_words(draw: random.Random, passages: Passages) -> list[Quote]:
    number, quote = _any(draw, passages)
    return [(number, " ".join(reversed(quote.split())))]


def too_short(draw: random.Random, passages: Passages) -> list[Quote]:
    number = draw.choice(sorted(passages))
    return [(number, _piece(draw, passages[number])[: draw.randint(0, 11)])]


def endless(draw: random.Random, passages: Passages) -> list[Quote]:
    number, quote = _any(draw, passages)
    return [(number, draw.choice([quote * 200, quote[0] * 20_000, "ab" * 10_000]))]


def many(draw: random.Random, passages: Passages) -> list[Quote]:
    return [(draw.choice(sorted(passages)), f"invented quote number {number}, of many") for number in range(80)]


LIES: Final[dict[str, Lie]] = {
    make.__name__: Lie(make, holds)
    for make, holds in (
        (honest, True),
        (moved, True),
        (unknown_passage, True),
        (full_width, True),
        (of_no_width, True),
        (other_white_space, True),
        (stitched, None),
        (stitched_of_two, None),
        (off_by_one, True),
        (other_numbers, None),
        (reversed_words, None),
        (endless, None),
        (look_alikes, None),
        (shouted, None),
        (invented, False),
        (invented_around_a_name, False),
        (of_another_document, False),
        (of_another_tenant, False),
        (too_short, False),
        (many, False),
    )
}
