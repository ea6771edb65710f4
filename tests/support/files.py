"""The files below a folder that others add to and remove from meanwhile."""

import os
from pathlib import Path


def files_below(root: Path) -> list[Path]:
    """Every file below `root`; a folder that is removed during the walk is passed over (`Path.rglob` fails there)."""
    return [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
