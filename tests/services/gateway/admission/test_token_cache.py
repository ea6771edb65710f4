"""How long an answer of identity counts."""

import uuid

from services.gateway.admission.token_cache import Exchange, Refused, TokenCache
from shared.auth import Principal, PrincipalKind


class Clock:
    """Time, and whether the cache has its lease."""

    now = 100.0
    leased = True

    def __call__(self) -> float:
        return self.now

    def cache(self, *, most: int = 10) -> TokenCache:
        return TokenCache(lambda: self.leased, most=most, clock=self)


def _exchange(clock: Clock, *, lifetime: float = 50, generation: int = 0, **ids: uuid.UUID) -> Exchange:
    principal = Principal(
        kind=PrincipalKind.API_KEY,
        subject="x",
        user_id=ids.get("user_id", uuid.uuid4()),
        tenant_id=ids.get("tenant_id", uuid.uuid4()),
        tenant_role=None,
        limit=frozenset(),
        credential_id=ids.get("credential_id", uuid.uuid4()),
    )
    return Exchange(principal, {}, None, usable_until=clock.now + lifetime, generation=generation)


def test_an_entry_is_not_used_without_the_lease_of_identity() -> None:
    clock = Clock()
    cache = clock.cache()
    entry = _exchange(clock)
    cache.put(b"a", entry)
    assert cache.get(b"a") is entry
    clock.leased = False
    assert cache.get(b"a") is None
    clock.leased = True
    assert cache.get(b"a") is entry  # what was revoked meanwhile has been told before the lease was there again


def test_an_entry_lives_until_its_end() -> None:
    clock = Clock()
    cache = clock.cache()
    entry = _exchange(clock, lifetime=20)
    cache.put(b"a", entry)
    clock.now += 19.9
    assert cache.get(b"a") is entry
    clock.now += 0.1
    assert cache.get(b"a") is None


def test_a_revocation_ends_every_entry_of_its_subject_and_no_other() -> None:
    clock = Clock()
    cache = clock.cache()
    user = uuid.uuid4()
    for name, entry in {
        b"a": _exchange(clock, user_id=user),
        b"b": _exchange(clock, user_id=user),
        b"c": _exchange(clock),
    }.items():
        cache.put(name, entry)
    cache.revoke(user)
    assert [cache.get(name) is None for name in (b"a", b"b", b"c")] == [True, True, False]
    cache.revoke(uuid.uuid4())
    assert len(cache) == 1


def test_an_answer_asked_for_before_a_revocation_of_its_own_is_not_kept() -> None:
    clock = Clock()
    cache = clock.cache()
    user = uuid.uuid4()
    early = _exchange(clock, user_id=user)
    others = _exchange(clock)
    cache.revoke(user)
    for name, entry in {b"a": early, b"b": others, b"c": _exchange(clock, user_id=user, generation=1)}.items():
        cache.put(name, entry)
    assert [cache.outdated(early), cache.outdated(others)] == [True, False]
    assert [cache.get(name) is None for name in (b"a", b"b", b"c")] == [True, False, False]
    cache.clear()
    cache.put(b"b", others)
    assert cache.get(b"b") is None


def test_revocations_beyond_the_bound_outdate_what_was_asked_for_before_them() -> None:
    clock = Clock()
    cache = clock.cache(most=2)
    user = uuid.uuid4()
    early = _exchange(clock, user_id=user)
    for subject in (user, uuid.uuid4(), uuid.uuid4()):
        cache.revoke(subject)
    assert cache.outdated(early)
    assert not cache.outdated(_exchange(clock, generation=cache.generation))


def test_the_one_used_longest_ago_goes_first() -> None:
    clock = Clock()
    cache = clock.cache(most=2)
    for name in (b"a", b"b"):
        cache.put(name, _exchange(clock))
    assert cache.get(b"a") is not None
    cache.put(b"c", Refused(clock.now + 1))
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    assert isinstance(cache.get(b"c"), Refused)


def test_a_refusal_counts_for_a_moment_with_or_without_the_lease() -> None:
    clock = Clock()
    clock.leased = False
    cache = clock.cache()
    cache.put(b"a", Refused(clock.now + 1))
    assert isinstance(cache.get(b"a"), Refused)
    clock.now += 1
    assert cache.get(b"a") is None
