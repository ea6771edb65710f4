"""The checks of the source find what they are for."""

import pytest

from infra.checks.failpoints import problems_of

DECLARED = 'POINT = failpoint("a.b", "state")\n'


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("await redis.xadd(stream, fields)", "`xadd` publishes"),
        ("pipeline.xack(stream, group, entry)", "`xack` acknowledges"),
        ("await redis.xtrim(stream, minid=floor)", "`xtrim` removes what was published"),
        ("await connection.commit()", "`commit` commits"),
        ("session.begin()", "`begin` commits when its block ends"),
    ],
)
def test_a_site_without_a_failpoint_is_found(call: str, sentence: str) -> None:
    source = f"async def work():\n    {call}\n"
    assert problems_of(source, "m.py") == [f"m.py:2: {sentence}, and work reaches no failpoint"]
    guarded = f"{DECLARED}async def work():\n    {call}\n    await POINT.reach()\n"
    assert problems_of(guarded, "m.py") == []


def test_a_failpoint_of_another_function_does_not_count() -> None:
    inner = "    async def inner():\n        await POINT.reach()\n"
    source = f"{DECLARED}async def work():\n{inner}    await redis.xadd(stream, fields)\n"
    assert [problem.split(",")[1] for problem in problems_of(source, "m.py")] == [" and work reaches no failpoint"]


def test_an_exempt_function_needs_none_in_its_own_module_alone() -> None:
    source = "async def _wake_the_leader():\n    await redis.xadd(stream, fields)\n"
    assert problems_of(source, "shared/relay.py") == []
    assert problems_of(source, "shared/stream_consumer.py") != []


def test_a_failpoint_nobody_reaches_is_found() -> None:
    assert problems_of(DECLARED, "m.py") == ["m.py:1: the failpoint POINT is never reached"]


def test_what_is_no_session_may_begin() -> None:
    assert problems_of("def work():\n    transactions.begin()\n", "m.py") == []
