"""Which services have to be restarted when a file changes."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import watchfiles

from shared.topology import SERVICES


def concerned(path: Path, root: Path) -> frozenset[str]:
    """Services that have loaded the file: its own, or all when it is shared.

    Migrations concern no service: one that is being written must not be applied half-way; `uv run migrate` does it.
    """
    place, *rest = path.relative_to(root).parts
    if "migrations" in rest:
        return frozenset()
    if place == "services" and len(rest) > 1:
        return frozenset(rest[:1]) & frozenset(SERVICES)
    return frozenset(SERVICES)


async def changes(root: Path) -> AsyncIterator[tuple[frozenset[str], Path]]:
    """Each burst of changes in `services` and `shared`: the services concerned and one of the files."""
    async for burst in watchfiles.awatch(root / "services", root / "shared"):
        files = sorted(Path(name) for _, name in burst)
        services = _union(concerned(path, root) for path in files)
        if services:
            yield services, files[0].relative_to(root)


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)
