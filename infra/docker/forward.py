"""Forwards connections on one address to another, for the development sign-in.

    python -m infra.docker.forward 127.0.0.1:9400 oidc:9400

A provider has one address for all clients. The browser's is on loopback of the machine; for identity the same address
is loopback of its container, where this process listens. Nothing is read, changed or kept; a connection that one side
ends is ended on the other.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence

_READ_BYTES = 64 * 1024


async def forward(listen: str, target: str) -> None:
    """Forward connections until told to stop by SIGTERM or SIGINT."""
    host, port = _address(listen)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*_address(target))
            with contextlib.closing(far_writer):
                await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))

    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    server = await asyncio.start_server(connected, host, port)
    await stopped.wait()
    server.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(_READ_BYTES):
        writer.write(part)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2:
        sys.exit("usage: python -m infra.docker.forward HOST:PORT TARGET:PORT")
    asyncio.run(forward(*arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
