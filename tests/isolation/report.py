"""What the suite has tried: endpoints x attackers with counts, printed at the end of `uv run test --isolation`.

A test counts what it has checked; an endpoint without a count is not covered. Endpoints are declared by whoever can
list all of them: routes and parameters from the OpenAPI document, tables from the catalogue, the others from their
registry. Counts live in the process: the matrix is that of a run without xdist.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal

EndpointKind = Literal["route", "parameter", "table", "stream", "store"]
KINDS: tuple[EndpointKind, ...] = ("route", "parameter", "table", "stream", "store")

_declared: dict[EndpointKind, dict[str, str]] = defaultdict(dict)
_checks: Counter[tuple[EndpointKind, str, str]] = Counter()


def declare(endpoint_kind: EndpointKind, endpoints: Iterable[str], *, group: str | None = None) -> None:
    """Say which endpoints there are. In the matrix they share the row `group`; each has its own without one."""
    for endpoint in endpoints:
        _declared[endpoint_kind][endpoint] = group or endpoint


def count(endpoint_kind: EndpointKind, endpoint: str, attacker: str, checks: int = 1) -> None:
    """Note that `attacker` was tried at `endpoint` and found it closed."""
    _checks[endpoint_kind, endpoint, attacker] += checks


def forget(endpoint_kind: EndpointKind, endpoint: str) -> None:
    """Take an endpoint back, with what was counted for it."""
    _declared[endpoint_kind].pop(endpoint, None)
    for key in [key for key in _checks if key[:2] == (endpoint_kind, endpoint)]:
        del _checks[key]


def uncovered(endpoint_kind: EndpointKind) -> list[str]:
    """Declared endpoints that nobody has tried."""
    tried = {endpoint for kind, endpoint, _ in _checks if kind == endpoint_kind}
    return sorted(set(_declared[endpoint_kind]) - tried)


def totals() -> dict[EndpointKind, tuple[int, int]]:
    """For each kind: endpoints covered, of how many."""
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


def _table(kind: EndpointKind) -> Iterator[str]:
    cells: Counter[tuple[str, str]] = Counter()
    for (found, endpoint, attacker), checks in _checks.items():
        if found == kind:
            cells[_declared[kind].get(endpoint, endpoint), attacker] += checks
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
