"""Requests as fast as a server responds, from a process of its own so that they cost the measuring process nothing.

One connection for each of `requests`, which repeats it for `seconds`. `COUNTER` in a body becomes a number that is
never the same twice. A parser of responses with a `Content-Length` is enough, and takes a tenth of a client library's
time.
"""

import asyncio
import itertools
import json
import statistics
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop

COUNTER: Final = "#counter"
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it. Latencies are in milliseconds; `failed` counts responses other than 2xx by status."""

    count: int
    seconds: float
    p50: float
    p95: float
    failed: Mapping[str, int]

    @property
    def rate(self) -> float:
        return self.count / self.seconds


async def load(url: str, requests: Sequence[Request], seconds: float) -> Load:
    """Run it in a child process."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    order = {"url": url, "requests": [asdict(request) for request in requests], "seconds": seconds}
    told, _ = await child.communicate(json.dumps(order).encode())
    return Load(**json.loads(told))


class _Connection(asyncio.Protocol):
    """Sends the next request when the response to the last one is complete."""

    def __init__(self, head: bytes, body: bytes, took: list[float], statuses: Counter[int], until: float) -> None:
        self._head, self._body = head, body
        self._took, self._statuses, self._until = took, statuses, until
        self._received = bytearray()
        self._numbers = itertools.count()
        self._name = uuid.uuid4().hex.encode()
        self._began = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(_END)
        if not end or len(rest) < _length(head):
            return
        now = time.perf_counter()
        self._statuses[int(head[9:12])] += 1
        self._took.append(now - self._began)
        self._received.clear()
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        number = b"%s-%010d" % (self._name, next(self._numbers))
        body = self._body.replace(COUNTER.encode(), number)
        self._began = time.perf_counter()
        self._transport.write(self._head % len(body) + body)


def _itself(connection: _Connection) -> _Connection:
    return connection


def _length(head: bytes | bytearray) -> int:
    _, found, value = head.lower().partition(b"content-length:")
    return int(value.split(b"\r\n", 1)[0]) if found else 0


async def _run(url: str, requests: Sequence[Request], seconds: float) -> Load:
    address = urlsplit(url)
    host, port = str(address.hostname), int(address.port or 80)
    loop = asyncio.get_running_loop()
    took: list[float] = []
    statuses: Counter[int] = Counter()
    began = time.perf_counter()
    connections = []
    for request in requests:
        lines = [f"{name}: {value}".replace("%", "%%") for name, value in request.headers.items()]
        first = f"{request.method} {request.path} HTTP/1.1".replace("%", "%%")
        head = "\r\n".join([first, f"Host: {address.netloc}", *lines, "Content-Length: %d"]).encode() + _END
        connection = _Connection(head, request.body.encode(), took, statuses, began + seconds)
        await loop.create_connection(partial(_itself, connection), host, port)
        connections.append(connection)
    await asyncio.gather(*(connection.done for connection in connections))
    cuts = statistics.quantiles(took, n=100)
    failed = {str(status): count for status, count in statuses.items() if not 200 <= status < 300}
    return Load(len(took), time.perf_counter() - began, 1000 * cuts[49], 1000 * cuts[94], failed)


if __name__ == "__main__":
    given = json.load(sys.stdin)
    asked = [Request(**each) for each in given["requests"]]
    print(json.dumps(asdict(uvloop.run(_run(given["url"], asked, given["seconds"])))))
