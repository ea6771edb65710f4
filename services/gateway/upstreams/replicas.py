"""The replicas of one service: found by DNS, chosen by their requests in flight, set aside while they do not respond.

A host name stands for all addresses that DNS gives for it. It is looked up once a second while requests arrive, and the
result replaces the one before. A replica that is gone from it gets no new request: its idle connections age out
(`services.gateway.upstreams.upstream`), and requests under way there may end. While DNS does not respond, the last
result counts. A name with one address, or an address in place of a name, is a service with one replica.

A replica that cannot be reached, breaks off or stays silent is set aside by its circuit breaker: at the first failure
when another can take its place, after several in a row when it is the last. After a pause one request probes it, one
that may be repeated elsewhere as long as there is another replica.

Does not guarantee: that a known replica responds. Callers must be ready to try the next.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from services.gateway.routes import Flow
from shared.circuit_breaker import Breaker, State
from shared.telemetry import get_logger

LOOKUP_SECONDS: Final = 1.0
FIRST_PAUSE_SECONDS: Final = 0.5
MOST_PAUSE_SECONDS: Final = 5.0
FAILURES_OF_THE_LAST: Final = 5

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host. Raises OSError when there is no response."""

_log = get_logger(__name__)


class Replica:
    """One process of a service. `in_flight` counts what is under way there, by flow; `url` names its address."""

    def __init__(self, service: str, url: str) -> None:
        self.url = url
        self.in_flight: dict[Flow, int] = dict.fromkeys(Flow, 0)
        self.breaker = Breaker(
            service,
            threshold=FAILURES_OF_THE_LAST,
            first_pause=FIRST_PAUSE_SECONDS,
            most_pause=MOST_PAUSE_SECONDS,
        )


class Replicas:
    """What is known of the replicas of one service. Made with the service's URL in the lifespan.

    `authority` is what the URL calls the service, whichever replica is asked; `server_name` the name its certificate
    must have, where there is one.
    """

    def __init__(self, service: str, url: str, lookup: Lookup) -> None:
        parts = urlsplit(url)
        self._service = service
        self._scheme = parts.scheme
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._lookup = lookup
        self._named = not _is_address(self._host)
        self._replicas: dict[str, Replica] = {} if self._named else {self._host: self._replica(self._host)}
        self._next_lookup = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._turn = 0
        self.authority = parts.netloc
        self.server_name = self._host if self._named and parts.scheme == "https" else None

    @property
    def known(self) -> tuple[Replica, ...]:
        return tuple(self._replicas.values())

    async def refresh(self, seconds: float) -> None:
        """Keep addresses fresh. Waits, at most `seconds`, only while none is known."""
        if not self._named:
            return
        if self._looking is None and asyncio.get_running_loop().time() >= self._next_lookup:
            self._looking = asyncio.create_task(self._look(), name=f"addresses of {self._service}")
        if not self._replicas and self._looking is not None:
            await asyncio.wait([self._looking], timeout=seconds)

    def choose(self, flow: Flow, *, tried: Collection[Replica], repeatable: bool) -> Replica | None:
        """The replica for the next attempt of a request, or None when at present there is none to try.

        A set-aside replica whose pause is over goes first, to be probed, where the request can go elsewhere afterwards
        or could not go anywhere else.
        """
        usable = [replica for replica in self._replicas.values() if replica not in tried and replica.breaker.admits]
        if len(usable) < 2:
            return usable[0] if usable else None
        working = [replica for replica in usable if replica.breaker.state is State.CLOSED]
        if not working or (repeatable and len(working) < len(usable)):
            return next(replica for replica in usable if replica not in working)
        self._turn += 1
        start = self._turn % len(working)
        return min(working[start:] + working[:start], key=lambda replica: replica.in_flight[flow])

    def others_than(self, replica: Replica, tried: Collection[Replica] = ()) -> bool:
        """Whether another replica, none of `tried`, is believed to work."""
        return any(
            other is not replica and other not in tried and other.breaker.state is State.CLOSED
            for other in self._replicas.values()
        )

    async def close(self) -> None:
        """End a lookup that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look(self) -> None:
        try:
            addresses = await self._lookup(self._host, self._port)
        except (OSError, UnicodeError) as error:
            _log.warning("addresses_unknown", upstream=self._service, host=self._host, reason=str(error)[:200])
        else:
            self._replace(addresses)
        finally:
            self._looking = None
            self._next_lookup = asyncio.get_running_loop().time() + LOOKUP_SECONDS

    def _replace(self, addresses: Sequence[str]) -> None:
        before = self._replicas
        if not addresses or before.keys() == set(addresses):
            return
        self._replicas = {address: before.get(address) or self._replica(address) for address in addresses}
        _log.info("replicas_changed", upstream=self._service, addresses=sorted(addresses), before=sorted(before))

    def _replica(self, address: str) -> Replica:
        host = f"[{address}]" if ":" in address else address
        return Replica(self._service, f"{self._scheme}://{host}:{self._port}")


async def by_dns(host: str, port: int) -> list[str]:
    """The addresses from the system's resolver. Of a host with both kinds only IPv4 counts: they are one process."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    four = [str(address[0]) for family, _, _, _, address in found if family == socket.AF_INET]
    return list(dict.fromkeys(four or (str(address[0]) for _, _, _, _, address in found)))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
