"""One log of many processes: each line under the name of its process, in a colour of its own on a terminal."""

import re
import threading
from collections.abc import Mapping
from typing import TextIO

from shared.topology import SERVICES

_WIDTH = max(len(name) for name in (*SERVICES, "postgres", "migrate"))
_COLOURS = (36, 32, 35, 33, 34, 96, 92, 95, 93, 94)

# Routine lines: starts and ends, checkpoints, statements that a service expected to fail.
_EVERYDAY: Mapping[str, re.Pattern[str]] = {
    "postgres": re.compile(r"\t|(LOG|ERROR|DETAIL|HINT|STATEMENT|CONTEXT|QUERY): |FATAL:  the database system is"),
    "redis": re.compile(r".* \* |.*Memory overcommit|.*signal-handler|.*ready to exit"),
    # A library of the provider's warns about another one.
    "oidc": re.compile(r".*AuthlibDeprecationWarning|It will be compatible|  from authlib"),
}
_EVERYDAY_OF_SERVICES = re.compile(r"INFO: +(Started|Waiting for|Application|Uvicorn|Shutting down|Finished)")


class Console:
    """Writes whole lines from any thread.

    Args:
        colour: whether `stream` is a terminal that shows colours.
    """

    def __init__(self, stream: TextIO, *, colour: bool) -> None:
        self._stream = stream
        self._colour = colour
        self._turn = threading.Lock()
        self._numbers: dict[str, int] = {}

    def line(self, name: str, text: str) -> None:
        """A line of a process; its routine lines are left out."""
        if not _EVERYDAY.get(name, _EVERYDAY_OF_SERVICES).match(text):
            self.say(text, name=name)

    def say(self, text: str, *, name: str = "quarry") -> None:
        """Lines of the command itself."""
        with self._turn:
            prefix = self._prefix(name)
            self._stream.write("".join(f"{prefix}{line}\n" for line in text.split("\n")))
            self._stream.flush()

    def _prefix(self, name: str) -> str:
        label = f"{name:<{_WIDTH}} | "
        if not self._colour:
            return label
        number = self._numbers.setdefault(name, len(self._numbers))
        return f"\033[{_COLOURS[number % len(_COLOURS)]}m{label}\033[0m"
