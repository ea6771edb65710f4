"""Internal tokens, remembered by the fingerprint of the credential they were given for.

Guarantees: an answer is used for at most `STALE_SECONDS` past the last moment at which this process is known to have
heard every revocation: the later of when it was fetched and when the stream of identity's events was last read. So a
revocation takes effect within that time whether Redis works, hangs or is gone. A refusal is remembered for
`REFUSAL_SECONDS`. The number of entries is bounded; the one used longest ago goes first.
Does not guarantee: to outrun identity. A revocation whose event identity cannot publish lives until the token expires.
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from shared.auth import Principal

STALE_SECONDS: Final = 5.0
REFUSAL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a credential was exchanged for: one internal token per audience, and who it speaks for."""

    principal: Principal
    tokens: Mapping[str, str]
    csrf_token: str | None
    fetched_at: float
    usable_until: float

    def subjects(self) -> tuple[uuid.UUID, ...]:
        """The ids whose revocation ends it."""
        ids = (self.principal.credential_id, self.principal.user_id, self.principal.tenant_id)
        return tuple(value for value in ids if value is not None)


@dataclass(frozen=True, slots=True)
class Refused:
    """Identity has said that the credential does not count."""

    usable_until: float


class TokenCache:
    """Answers of identity. `generation` changes with every revocation: an answer asked for before it is not kept.
    `hits` and `misses` count what `get` found and did not find."""

    def __init__(self, *, most: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._entries: OrderedDict[bytes, Exchange | Refused] = OrderedDict()
        self._by_subject: dict[uuid.UUID, set[bytes]] = {}
        self._heard_at = float("-inf")
        self.generation = 0
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, fingerprint: bytes) -> Exchange | Refused | None:
        entry = self._entries.get(fingerprint)
        if entry is not None and not self._counts(entry):
            self._remove(fingerprint)
            entry = None
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(fingerprint)
        return entry

    def put(self, fingerprint: bytes, entry: Exchange | Refused, *, generation: int) -> None:
        """Remember an answer, unless something was revoked since it was asked for (`generation`)."""
        if generation != self.generation:
            return
        self._remove(fingerprint)
        self._entries[fingerprint] = entry
        if isinstance(entry, Exchange):
            for subject in entry.subjects():
                self._by_subject.setdefault(subject, set()).add(fingerprint)
        while len(self._entries) > self._most:
            self._remove(next(iter(self._entries)))

    def heard(self) -> None:
        """All revocations known to Redis by now have been passed to `revoke`."""
        self._heard_at = self._clock()

    def revoke(self, subject: uuid.UUID) -> None:
        """Forget what was given to a credential, a user or a tenant."""
        self.generation += 1
        for fingerprint in self._by_subject.pop(subject, set()):
            self._remove(fingerprint)

    def clear(self) -> None:
        """Forget everything: revocations may have been missed."""
        self.generation += 1
        self._entries.clear()
        self._by_subject.clear()

    def _counts(self, entry: Exchange | Refused) -> bool:
        now = self._clock()
        if now >= entry.usable_until:
            return False
        return isinstance(entry, Refused) or max(entry.fetched_at, self._heard_at) + STALE_SECONDS > now

    def _remove(self, fingerprint: bytes) -> None:
        entry = self._entries.pop(fingerprint, None)
        if isinstance(entry, Exchange):
            for subject in entry.subjects():
                fingerprints = self._by_subject.get(subject, set())
                fingerprints.discard(fingerprint)
                if not fingerprints:
                    self._by_subject.pop(subject, None)
