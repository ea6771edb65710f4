"""Signing keys: made once, rotated in time, useless without the encryption key."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from joserfc.jwk import KeySet

from infra.local.stack import Stack
from services.identity import housekeeping
from services.identity.tokens import signing_keys
from services.identity.tokens.signing_keys import GRACE, LEAD, KeyRing
from shared.settings import Role, SettingsError
from shared.tenancy import Database
from tests.services.identity.admin import as_admin
from tests.support.polling import eventually

KEY = b"k" * 32
DAY = timedelta(days=1)


@pytest.fixture
async def empty(stack: Stack, database: Database) -> AsyncIterator[None]:
    """No keys but the test's own; those of the running service are put back afterwards."""
    kept = await as_admin(stack, "DELETE FROM identity.signing_keys RETURNING kid, private_jwk, activates_at")
    yield
    await as_admin(stack, "DELETE FROM identity.signing_keys")
    for row in kept:
        await as_admin(
            stack,
            "INSERT INTO identity.signing_keys (kid, private_jwk, activates_at) VALUES ($1, $2, $3)",
            *row.values(),
        )


async def make_older(stack: Stack, age: timedelta) -> None:
    await as_admin(stack, "UPDATE identity.signing_keys SET activates_at = activates_at - $1::interval", age)


@pytest.mark.usefixtures("empty")
async def test_processes_that_start_together_make_one_key(database: Database) -> None:
    rings = [KeyRing(database, KEY, rotate_after=DAY) for _ in range(4)]
    await asyncio.gather(*(ring.refresh() for ring in rings))
    assert len({ring.signing_key().kid for ring in rings}) == 1
    assert len(rings[0].published()) == 1


@pytest.mark.usefixtures("empty")
async def test_a_new_key_is_published_before_it_signs(database: Database, stack: Stack) -> None:
    ring = KeyRing(database, KEY, rotate_after=DAY)
    await ring.refresh()
    first = ring.signing_key().kid
    await make_older(stack, DAY)
    ring = KeyRing(database, KEY, rotate_after=DAY)
    await ring.refresh()
    assert ring.signing_key().kid == first
    assert len(ring.published()) == 2
    await make_older(stack, LEAD)
    ring = KeyRing(database, KEY, rotate_after=DAY)
    await ring.refresh()
    assert ring.signing_key().kid != first
    assert isinstance(ring.key_set(first), KeySet)


@pytest.mark.usefixtures("empty")
async def test_a_replaced_key_is_forgotten_when_nobody_can_meet_it(database: Database, stack: Stack) -> None:
    ring = KeyRing(database, KEY, rotate_after=DAY)
    await ring.refresh()
    first = ring.signing_key().kid
    await make_older(stack, DAY)
    await ring.refresh()
    await make_older(stack, LEAD + GRACE)
    ring = KeyRing(database, KEY, rotate_after=DAY)
    await ring.refresh()
    assert ring.key_set(first) is None
    async with database.system() as session:
        await signing_keys.forget_outdated(session)
        await signing_keys.forget_outdated(session)
    rows = await as_admin(stack, "SELECT kid FROM identity.signing_keys")
    assert [row["kid"] for row in rows] == [ring.signing_key().kid]


@pytest.mark.usefixtures("empty")
async def test_a_key_made_by_a_clock_ahead_of_ours_signs_all_the_same(database: Database, stack: Stack) -> None:
    ring = KeyRing(database, KEY, rotate_after=DAY)
    await ring.refresh()
    await make_older(stack, -timedelta(seconds=30))
    ring = KeyRing(database, KEY, rotate_after=DAY)
    await ring.refresh()
    assert ring.signing_key().activates_at > datetime.now(UTC)


@pytest.mark.usefixtures("empty")
async def test_the_stored_keys_are_useless_without_the_encryption_key(database: Database, stack: Stack) -> None:
    await KeyRing(database, KEY, rotate_after=DAY).refresh()
    with pytest.raises(SettingsError, match="QUARRY_IDENTITY_ENCRYPTION_KEY"):
        await KeyRing(database, b"x" * 32, rotate_after=DAY).refresh()
    stored = await as_admin(stack, "SELECT private_jwk FROM identity.signing_keys")
    assert '"d"' not in stored[0]["private_jwk"]


@pytest.mark.usefixtures("empty")
async def test_a_key_under_another_keys_id_is_refused(database: Database, stack: Stack) -> None:
    await KeyRing(database, KEY, rotate_after=DAY).refresh()
    await as_admin(stack, "UPDATE identity.signing_keys SET kid = 'another'")
    with pytest.raises(SettingsError, match="another"):
        await KeyRing(database, KEY, rotate_after=DAY).refresh()


@pytest.mark.usefixtures("empty")
async def test_housekeeping_rotates_and_forgets(database: Database, stack: Stack) -> None:
    ring = KeyRing(database, KEY, rotate_after=timedelta(seconds=-3600))
    await as_admin(
        stack,
        "INSERT INTO identity.login_states "
        "(state_hash, browser_hash, provider, nonce, code_verifier, return_to, expires_at) "
        "VALUES ('old', '', '', '', '', '', now() - interval '1 second')",
    )
    task = asyncio.create_task(housekeeping.run(database, ring, frozenset({Role.JOBS}), every=0.01))

    async def tidy() -> bool:
        states = await as_admin(stack, "SELECT 1 FROM identity.login_states WHERE state_hash = 'old'")
        return not states and len(ring.published()) > 1

    await eventually(tidy)
    task.cancel()
    await asyncio.wait([task])


async def test_housekeeping_waits_for_postgres_to_come_back(database: Database) -> None:
    class Away(KeyRing):
        attempts = 0

        async def refresh(self) -> None:
            self.attempts += 1
            if self.attempts == 1:
                raise ConnectionRefusedError

    ring = Away(database, KEY, rotate_after=DAY)
    task = asyncio.create_task(housekeeping.run(database, ring, frozenset({Role.HTTP}), every=0.01))

    async def tried_again() -> bool:
        return ring.attempts > 2

    await eventually(tried_again)
    task.cancel()
    await asyncio.wait([task])
