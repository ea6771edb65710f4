"""`uv run contracts`: write `docs/events.md` and `docs/asyncapi.json`; with `--check` only say which of them is stale.

Both follow from `shared.events`, the golden files and `preamble.md` beside this file, and from nothing else: the same
input gives the same bytes.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.contracts.asyncapi import document
from infra.contracts.catalogue import GOLDEN, ROOT, ContractError, Message, messages
from infra.contracts.page import page


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status: 1 when something is stale, or cannot be documented."""
    parser = argparse.ArgumentParser(prog="contracts", description="Write docs/events.md and docs/asyncapi.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when one of them is stale")
    check: bool = parser.parse_args(arguments).check
    try:
        wanted = documents(messages(GOLDEN))
    except ContractError as error:
        _say(str(error))
        return 1
    stale = [name for name, content in wanted.items() if not _holds(ROOT / name, content)]
    for name in stale:
        if check:
            _say(f"{name} is stale: uv run contracts")
        else:
            (ROOT / name).write_text(wanted[name], encoding="utf-8")
            _say(f"{name} written")
    return 1 if check and stale else 0


def documents(told: Sequence[Message]) -> Mapping[str, str]:
    """Content of each document by its path in the project."""
    return {
        "docs/events.md": page(told),
        "docs/asyncapi.json": json.dumps(document(told), indent=2, ensure_ascii=False) + "\n",
    }


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _holds(path: Path, content: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == content
