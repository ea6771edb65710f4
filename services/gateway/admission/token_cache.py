"""A cache of internal tokens, by the fingerprint of the credential they were issued for.

Guarantees: an entry is used only while this process holds identity's lease (`shared.invalidations`). Once a client has
the response to a revocation or a change of role, it is therefore in effect at every gateway. A refusal is cached for
`REFUSAL_SECONDS`. The number of entries is bounded; the least recently used goes first.
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from shared.auth import Principal

REFUSAL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a credential was exchanged for: one internal token per audience, and who it speaks for.

    `usable_until` and `credential_until`, by the event loop's clock, end the tokens and the credential itself.
    `generation` is the cache's when identity was asked.
    """

    principal: Principal
    tokens: Mapping[str, str]
    csrf_token: str | None
    usable_until: float
    credential_until: float | None = None
    generation: int = 0

    def subjects(self) -> tuple[uuid.UUID, ...]:
        """The ids whose revocation ends it."""
        ids = (self.principal.credential_id, self.principal.user_id, self.principal.tenant_id)
        return tuple(value for value in ids if value is not None)


@dataclass(frozen=True, slots=True)
class Refused:
    """Identity has said that the credential is not valid."""

    usable_until: float


class TokenCache:
    """Responses of identity, used while `current()`. `generation` counts revocations: a response requested before one
    of its own subjects was revoked is `outdated`. `hits` and `misses` count what `get` found and did not find."""

    def __init__(
        self, current: Callable[[], bool], *, most: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.current = current
        self._most = most
        self._clock = clock
        self._entries: OrderedDict[bytes, Exchange | Refused] = OrderedDict()
        self._by_subject: dict[uuid.UUID, set[bytes]] = {}
        self._revoked: OrderedDict[uuid.UUID, int] = OrderedDict()
        self._oldest_known = 0
        self.generation = 0
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, fingerprint: bytes) -> bool:
        entry = self._entries.get(fingerprint)
        return entry is not None and self._counts(entry)

    def _counts(self, entry: Exchange | Refused) -> bool:
        return self._clock() < entry.usable_until and (isinstance(entry, Refused) or self.current())

    def get(self, fingerprint: bytes) -> Exchange | Refused | None:
        entry = self._entries.get(fingerprint)
        if entry is None or not self._counts(entry):
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(fingerprint)
        return entry

    def outdated(self, entry: Exchange) -> bool:
        """Whether it has ended, or was requested before one of its subjects was revoked."""
        revoked = max((self._revoked.get(subject, 0) for subject in entry.subjects()), default=0)
        return self._clock() >= entry.usable_until or entry.generation < max(revoked, self._oldest_known)

    def put(self, fingerprint: bytes, entry: Exchange | Refused) -> None:
        """Remember a response, unless it is outdated."""
        if isinstance(entry, Exchange) and self.outdated(entry):
            return
        self._remove(fingerprint)
        self._entries[fingerprint] = entry
        if isinstance(entry, Exchange):
            for subject in entry.subjects():
                self._by_subject.setdefault(subject, set()).add(fingerprint)
        while len(self._entries) > self._most:
            self._remove(next(iter(self._entries)))

    def revoke(self, subject: uuid.UUID) -> None:
        """Forget the entries of a credential, a user or a tenant."""
        self.generation += 1
        self._revoked[subject] = self.generation
        self._revoked.move_to_end(subject)
        if len(self._revoked) > self._most:
            _, self._oldest_known = self._revoked.popitem(last=False)
        for fingerprint in self._by_subject.pop(subject, set()):
            self._remove(fingerprint)

    def clear(self) -> None:
        """Forget everything: revocations may have been missed."""
        self.generation += 1
        self._oldest_known = self.generation
        self._entries.clear()
        self._by_subject.clear()

    def _remove(self, fingerprint: bytes) -> None:
        entry = self._entries.pop(fingerprint, None)
        if isinstance(entry, Exchange):
            for subject in entry.subjects():
                fingerprints = self._by_subject.get(subject, set())
                fingerprints.discard(fingerprint)
                if not fingerprints:
                    self._by_subject.pop(subject, None)
