"""The connections of clients: how many there may be, by address and in all, and which is closed when there are more.

A connection is busy while a request is under way on it, from the end of the request's headers to the end of the
response; the limits on requests bound how many are busy. Otherwise it waits, for a request to begin or for its headers
to end. Waiting costs the client nothing, so:

- an address (an IPv6 /64 is one) may have `SHARE` of them. While it has more, headers have `CROWDED_SECONDS` to come
  instead of the usual time, and it never has more than `most_waiting`: with one more the one that has waited longest
  is closed;
- in all there may be `most` connections, busy or not. With one more the one that has waited longest is closed; where
  none waits, the new one is refused.

A trusted proxy speaks for many clients and has no share of its own: it has to bound what each of them opens.
"""

from collections import OrderedDict
from typing import Final, Protocol

from services.gateway.inbound.request_validation import Network, is_trusted, limit_key

SHARE: Final = 256
CROWDED_SECONDS: Final = 2.0


class Connection(Protocol):
    """What a waiting connection has to support."""

    def close_unused(self) -> None: ...


class Connections:
    """Counts the connections of this process. Made in the lifespan. `closed` and `refused` count what a limit ended."""

    def __init__(self, *, most: int, most_waiting: int, trusted_proxies: tuple[Network, ...] = ()) -> None:
        self._most = most
        self._most_waiting = most_waiting
        self._trusted = trusted_proxies
        self._clients: dict[Connection, str | None] = {}
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._by_client: dict[str, OrderedDict[Connection, None]] = {}
        self.closed = self.refused = 0

    def __len__(self) -> int:
        return len(self._clients)

    def waiting_of(self, address: str) -> int:
        return len(self._by_client.get(limit_key(address), ()))

    def admit(self, connection: Connection, address: str) -> bool:
        """Count a new connection, which waits. False: there are too many, and none to close in its place."""
        if len(self._clients) >= self._most:
            if not self._waiting:
                self.refused += 1
                return False
            self._close(next(iter(self._waiting)))
        self._clients[connection] = None if is_trusted(address, self._trusted) else limit_key(address)
        self.waits(connection)
        return True

    def waits(self, connection: Connection) -> None:
        """A connection waits from now on."""
        if connection not in self._clients or connection in self._waiting:
            return
        self._waiting[connection] = None
        client = self._clients[connection]
        if client is None:
            return
        own = self._by_client.setdefault(client, OrderedDict())
        own[connection] = None
        if len(own) > self._most_waiting:
            self._close(next(iter(own)))

    def is_busy(self, connection: Connection) -> None:
        """A request is under way on a connection."""
        self._waiting.pop(connection, None)
        client = self._clients.get(connection)
        if client is not None and (own := self._by_client.get(client)) is not None:
            own.pop(connection, None)
            if not own:
                del self._by_client[client]

    def is_crowded(self, connection: Connection) -> bool:
        """Whether the client of a connection has more than its share of waiting ones."""
        client = self._clients.get(connection)
        return client is not None and len(self._by_client.get(client, ())) > SHARE

    def leave(self, connection: Connection) -> None:
        """A connection has ended, or is about to. Nothing happens the second time."""
        self.is_busy(connection)
        self._clients.pop(connection, None)

    def _close(self, connection: Connection) -> None:
        self.closed += 1
        self.leave(connection)
        connection.close_unused()
