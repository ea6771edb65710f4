"""The keys that sign internal tokens: made on first need, rotated, kept encrypted.

Protocol. A key is published from the moment it exists, signs from `activates_at` until the next one activates, and
stays published for `GRACE` after that, which is longer than any token lives. A new key is made `LEAD` before it
activates; every process reads the table more often than that, so any process that serves `/internal/jwks` knows every
key that any of them signs with. Keys are made under an advisory lock: processes starting together make one.

Fails by: a process that cannot read the table for `LEAD` may sign with a key that has been replaced (verifiers still
accept it for `GRACE`) and may not publish the newest one; it logs each failed reading.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey, OKPKey
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.tokens import repository
from services.identity.tokens.models import SigningKey
from shared.settings import SettingsError
from shared.tenancy import Database

LEAD: Final = timedelta(minutes=2)
GRACE: Final = timedelta(minutes=10)
_ENCRYPTION: Final = {"alg": "dir", "enc": "A256GCM"}


@dataclass(frozen=True, slots=True)
class LoadedKey:
    kid: str
    activates_at: datetime
    private: OKPKey
    public: dict[str, Any]


class KeyRing:
    """The signing keys as last read. `refresh` reads them; everything else is memory."""

    def __init__(self, database: Database, encryption_key: bytes, *, rotate_after: timedelta) -> None:
        self._database = database
        self._encryption_key = OctKey.import_key(encryption_key)
        self._rotate_after = rotate_after
        self._keys: Sequence[LoadedKey] = ()

    async def refresh(self) -> None:
        """Read the table; make the first key, or the next one when its time has come."""
        async with self._database.system() as session:
            rows = await repository.all_keys(session)
            if self._is_due(rows):
                await repository.lock(session)
                rows = await repository.all_keys(session)
                if self._is_due(rows):
                    await self._make(session, first=not rows)
                    rows = await repository.all_keys(session)
        known = {key.kid: key for key in self._keys}
        self._keys = [known.get(row.kid) or self._load(row) for row in rows]

    def signing_key(self) -> LoadedKey:
        """The newest key that is active; the first one, if the clock of the process that made it is ahead of ours."""
        now = datetime.now(UTC)
        return [self._keys[0], *(key for key in self._keys if key.activates_at <= now)][-1]

    def published(self) -> list[dict[str, Any]]:
        """Public keys (RFC 7517) that a verifier may meet."""
        return [key.public for key in self._keys[_outdated(self._keys) :]]

    def key_set(self, kid: str) -> KeySet | None:
        """The published key of that id."""
        found = [key for key in self.published() if key["kid"] == kid]
        return KeySet.import_key_set({"keys": found}) if found else None

    def _is_due(self, rows: Sequence[SigningKey]) -> bool:
        return not rows or rows[-1].activates_at + self._rotate_after < datetime.now(UTC)

    async def _make(self, session: AsyncSession, *, first: bool) -> None:
        kid = uuid.uuid4().hex
        key = OKPKey.generate_key("Ed25519", {"kid": kid, "use": "sig", "alg": "Ed25519"})
        # The kid is authenticated with the ciphertext: rows cannot be swapped.
        sealed = jwe.encrypt_compact(
            {**_ENCRYPTION, "kid": kid}, orjson.dumps(key.as_dict(private=True)), self._encryption_key
        )
        now = datetime.now(UTC)
        await repository.add(
            session, SigningKey(kid=kid, private_jwk=sealed, activates_at=now if first else now + LEAD)
        )

    def _load(self, row: SigningKey) -> LoadedKey:
        try:
            opened = jwe.decrypt_compact(row.private_jwk, self._encryption_key, algorithms=list(_ENCRYPTION.values()))
        except JoseError as error:
            raise SettingsError("QUARRY_IDENTITY_ENCRYPTION_KEY cannot decrypt the stored signing keys") from error
        private = OKPKey.import_key(orjson.loads(opened.plaintext or b""))
        if opened.protected.get("kid") != row.kid:
            raise SettingsError(f"the signing key {row.kid} is stored under another key's id")
        return LoadedKey(row.kid, row.activates_at, private, dict(private.as_dict(private=False)))


async def forget_outdated(session: AsyncSession) -> None:
    """Delete the keys that no verifier can meet any more."""
    rows = await repository.all_keys(session)
    await repository.delete(session, [row.kid for row in rows[: _outdated(rows)]])


def _outdated(keys: Sequence[LoadedKey] | Sequence[SigningKey]) -> int:
    """How many of the first keys, in order of activation, were replaced more than `GRACE` ago."""
    limit = datetime.now(UTC) - GRACE
    return sum(1 for successor in keys[1:] if successor.activates_at < limit)
