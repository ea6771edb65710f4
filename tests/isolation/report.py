"""What the suite has tried: doors x attackers with counts, printed at the end of `uv run test --isolation`.

A test counts what it has checked; a door without a count is not covered. Doors are declared by whoever can list all of
them: routes and parameters from the OpenAPI document, tables from the catalogue, the others from their registry.
Counts live in the process: the matrix is that of a run without xdist.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal

DoorKind = Literal["route", "parameter", "table", "stream", "store"]
KINDS: tuple[DoorKind, ...] = ("route", "parameter", "table", "stream", "store")

_declared: dict[DoorKind, dict[str, str]] = defaultdict(dict)
_checks: Counter[tuple[DoorKind, str, str]] = Counter()


def declare(door_kind: DoorKind, doors: Iterable[str], *, group: str | None = None) -> None:
    """Say which doors there are. In the matrix they share the row `group`; each has its own without one."""
    for door in doors:
        _declared[door_kind][door] = group or door


def count(door_kind: DoorKind, door: str, attacker: str, checks: int = 1) -> None:
    """Note that `attacker` was tried at `door` and found it closed."""
    _checks[door_kind, door, attacker] += checks


def forget(door_kind: DoorKind, door: str) -> None:
    """Take a door back, with what was counted for it."""
    _declared[door_kind].pop(door, None)
    for key in [key for key in _checks if key[:2] == (door_kind, door)]:
        del _checks[key]


def uncovered(door_kind: DoorKind) -> list[str]:
    """Declared doors that nobody has tried."""
    tried = {door for kind, door, _ in _checks if kind == door_kind}
    return sorted(set(_declared[door_kind]) - tried)


def totals() -> dict[DoorKind, tuple[int, int]]:
    """For each kind: doors covered, of how many."""
    return {kind: (len(_declared[kind]) - len(uncovered(kind)), len(_declared[kind])) for kind in KINDS}


def lines() -> Iterator[str]:
    """The matrix as text; nothing when nothing was counted."""
    if not _checks:
        return
    for kind in KINDS:
        yield from _table(kind)
    yield "covered: " + ", ".join(f"{covered} of {of} {kind}s" for kind, (covered, of) in totals().items() if of)
    for kind in KINDS:
        if missing := uncovered(kind):
            yield f"not covered: {kind}s {', '.join(missing)}"
    yield f"{sum(_checks.values())} checks"


def _table(kind: DoorKind) -> Iterator[str]:
    cells: Counter[tuple[str, str]] = Counter()
    for (found, door, attacker), checks in _checks.items():
        if found == kind:
            cells[_declared[kind].get(door, door), attacker] += checks
    if not cells:
        return
    rows = sorted({row for row, _ in cells})
    attackers = sorted({attacker for _, attacker in cells})
    width = max(len(row) for row in (*rows, kind)) + 2
    yield ""
    yield f"{kind}s"
    yield from (f"{number:>4}  {attacker}" for number, attacker in enumerate(attackers, 1))
    yield f"{'':{width}}" + "".join(f"{number:>5}" for number in range(1, len(attackers) + 1)) + "  total"
    for row in (*rows, "total"):
        counts = [sum(n for (r, a), n in cells.items() if a == who and row in (r, "total")) for who in attackers]
        yield f"{row:{width}}" + "".join(f"{n or '.':>5}" for n in counts) + f"{sum(counts):>7}"
