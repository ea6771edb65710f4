"""How long an answer of identity counts."""

import uuid

from services.gateway.token_cache import STALE_SECONDS, Exchange, Refused, TokenCache
from shared.auth import Principal, PrincipalKind


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _exchange(clock: Clock, *, lifetime: float = 50, **ids: uuid.UUID) -> Exchange:
    principal = Principal(
        kind=PrincipalKind.API_KEY,
        subject="x",
        user_id=ids.get("user_id", uuid.uuid4()),
        tenant_id=ids.get("tenant_id", uuid.uuid4()),
        tenant_role=None,
        limit=frozenset(),
        credential_id=ids.get("credential_id", uuid.uuid4()),
    )
    return Exchange(principal, {}, None, fetched_at=clock.now, usable_until=clock.now + lifetime)


def test_an_entry_is_not_used_when_revocations_have_not_been_heard_for_long() -> None:
    clock = Clock()
    cache = TokenCache(clock=clock)
    entry = _exchange(clock)
    cache.put(b"a", entry, generation=0)
    clock.now += STALE_SECONDS - 0.1
    assert cache.get(b"a") is entry
    clock.now += 0.2
    assert cache.get(b"a") is None


def test_an_entry_lives_until_its_end_while_revocations_are_heard() -> None:
    clock = Clock()
    cache = TokenCache(clock=clock)
    entry = _exchange(clock, lifetime=20)
    cache.put(b"a", entry, generation=0)
    for _ in range(19):
        clock.now += 1
        cache.heard()
        assert cache.get(b"a") is entry
    clock.now += 1
    cache.heard()
    assert cache.get(b"a") is None


def test_a_revocation_ends_every_entry_of_its_subject_and_no_other() -> None:
    clock = Clock()
    cache = TokenCache(clock=clock)
    user = uuid.uuid4()
    for name, entry in {
        b"a": _exchange(clock, user_id=user),
        b"b": _exchange(clock, user_id=user),
        b"c": _exchange(clock),
    }.items():
        cache.put(name, entry, generation=0)
    cache.revoke(user)
    assert [cache.get(name) is None for name in (b"a", b"b", b"c")] == [True, True, False]
    cache.revoke(uuid.uuid4())
    assert len(cache) == 1


def test_an_answer_asked_for_before_a_revocation_is_not_kept() -> None:
    clock = Clock()
    cache = TokenCache(clock=clock)
    before = cache.generation
    cache.revoke(uuid.uuid4())
    cache.put(b"a", _exchange(clock), generation=before)
    assert cache.get(b"a") is None
    before = cache.generation
    cache.clear()
    cache.put(b"a", _exchange(clock), generation=before)
    assert cache.get(b"a") is None


def test_the_one_used_longest_ago_goes_first() -> None:
    clock = Clock()
    cache = TokenCache(most=2, clock=clock)
    for name in (b"a", b"b"):
        cache.put(name, _exchange(clock), generation=0)
    assert cache.get(b"a") is not None
    cache.put(b"c", Refused(clock.now + 1), generation=0)
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    assert isinstance(cache.get(b"c"), Refused)


def test_a_refusal_counts_for_a_moment_whatever_is_heard() -> None:
    clock = Clock()
    cache = TokenCache(clock=clock)
    cache.put(b"a", Refused(clock.now + 1), generation=0)
    assert isinstance(cache.get(b"a"), Refused)
    clock.now += 1
    assert cache.get(b"a") is None
