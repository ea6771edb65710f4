"""Metadata turned into what an engine can index, whatever keys users choose.

Every field that is filtered on needs a payload index; without one the engine reads the payload of each point
(measured: 330 ms against 3 to 20 ms at 100,000 points). Users choose their own keys, so instead of one index per key
there is one keyword index over a list of *facts*, `<path> NUL <type><value>`:

    {"lang": "en", "year": 2020, "draft": false}  ->  ["lang\\0e", "lang\\0sen", "year\\0e", "year\\0n2020", ...]

Equality, membership, existence and prefix are exact matches or prefix matches on facts. Facts also keep types apart
(this engine compares a boolean as the integer 1) and user-chosen names out of JSON paths. Intervals need values instead
of names, so numbers and dates are stored by path as well, unindexed: the only kind of condition whose time grows with
the project (3 microseconds a point).

A document's name and language are facts as well, under paths that no metadata can have. Texts are in NFC.

Every chunk carries the facts of its document if they are small. Larger ones are kept once, by the first chunk of each
version (marked FIRST), and the others carry AWAY instead: filters on such documents are evaluated on their first
chunks.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from services.indexing.vectors.errors import InvalidPoint
from services.indexing.vectors.filters import MAX_PREFIX, composed, parse_instant

Metadata = Mapping[str, JsonValue]

MAX_FACTS = 10_000
MAX_NESTING = 32

COPIED_BYTES: Final = 1024
"""The largest size of facts that every chunk carries."""

# No metadata has such a fact: paths hold no NUL, and a letter follows the first one.
FIRST: Final = "\x00\x00first"
AWAY: Final = "\x00\x00away"

# Paths of what a document says besides its metadata: no path of metadata holds a NUL.
NAME: Final = "\x00name"
LANGUAGE: Final = "\x00language"


@dataclass(slots=True)
class Facts:
    facts: set[str] = field(default_factory=set)
    numbers: dict[str, list[float]] = field(default_factory=dict)
    instants: dict[str, list[str]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        numbers = sum(len(path) + 16 * len(values) for path, values in self.numbers.items())
        instants = sum(len(path) + 32 * len(values) for path, values in self.instants.items())
        return sum(map(len, self.facts)) + numbers + instants

    def of_chunk(self, index: int) -> dict[str, object]:
        """What the chunk with this index carries."""
        found, mark = self, set[str]()
        if self.size > COPIED_BYTES:
            found, mark = (Facts(), {AWAY}) if index else (self, {FIRST})
        return {
            "facts": sorted(found.facts | mark),
            "numbers": dict(found.numbers),
            "instants": dict(found.instants),
        }


def existence(path: str) -> str:
    return f"{path}\x00e"


def equality(path: str, value: str | bool | int | float) -> str:
    """Only equal values give equal facts. Numbers compare exactly: 5 and 5.0 are one value."""
    if isinstance(value, bool):
        return f"{path}\x00b{int(value)}"
    if isinstance(value, str):
        return text_prefix(path, value if len(value) <= MAX_PREFIX else _shortened(value))
    return f"{path}\x00n{int(value) if float(value).is_integer() else value!r}"


def text_prefix(path: str, prefix: str) -> str:
    """The start of every text fact whose value starts with `prefix` (at most MAX_PREFIX characters)."""
    return f"{path}\x00s{prefix}"


def _shortened(text: str) -> str:
    # NUL cannot be in a short value, so a shortened value never equals one.
    return f"{text[:MAX_PREFIX]}\x00{hashlib.sha256(text.encode()).hexdigest()}"


def of_document(metadata: Metadata, *, name: str = "", language: str | None = None) -> Facts:
    """What filters see of a document.

    Raises:
        InvalidPoint: the metadata has too many values or levels.
    """
    found = Facts()
    _collect_members(found, "", metadata, 0)
    for path, value in ((NAME, name), (LANGUAGE, language)):
        if value:
            found.facts.add(existence(path))
            _collect_scalar(found, path, value)
    return found


def _collect_members(found: Facts, path: str, members: Metadata, depth: int) -> None:
    for key, value in members.items():
        # A key with control characters cannot be named by a filter; left in, NUL could forge the fact of another key.
        if "\x00" not in key:
            _collect(found, f"{path}.{key}" if path else key, value, depth + 1)


def _collect(found: Facts, path: str, value: JsonValue, depth: int) -> None:
    if depth > MAX_NESTING:
        raise InvalidPoint(f"metadata is nested deeper than {MAX_NESTING} levels")
    if value is None or value in ([], {}):
        return
    found.facts.add(existence(path))
    if isinstance(value, dict):
        _collect_members(found, path, value, depth)
    elif isinstance(value, list):
        for element in value:
            _collect(found, path, element, depth + 1)
    else:
        _collect_scalar(found, path, value)
    if len(found.facts) > MAX_FACTS:
        raise InvalidPoint(f"metadata has more than {MAX_FACTS} values")


def _collect_scalar(found: Facts, path: str, value: str | bool | int | float) -> None:
    if isinstance(value, str):
        text: str = composed(value.replace("\x00", "\ufffd").encode(errors="replace").decode())
        value, instant = text, parse_instant(text)
        if instant is not None:
            found.instants.setdefault(path, []).append(instant.isoformat())
    elif not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError as error:
            raise InvalidPoint("metadata has a number that no engine can hold") from error
        if number - number != 0:
            raise InvalidPoint("metadata has a number that is not finite")
        found.numbers.setdefault(path, []).append(number)
    found.facts.add(equality(path, value))
