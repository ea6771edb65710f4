"""The mutation run itself: every mutation still fits the source and names tests that exist, and one is carried out.

All of them by `uv run mutate`.
"""

import ast

import pytest

from infra.local.home import ROOT
from tests.isolation.attacks import exists
from tests.isolation.mutations.guards import ALL
from tests.isolation.mutations.model import Change, Mutation, Outcome, Verdict, replace
from tests.isolation.mutations.report import PAGE, table
from tests.isolation.mutations.running import StaleMutation, copied_tree, judged, outcome_of, patched


@pytest.mark.parametrize("mutation", ALL, ids=lambda mutation: mutation.name)
def test_a_mutation_fits_the_source_and_names_its_tests(mutation: Mutation) -> None:
    texts: dict[str, str] = {}
    for change in mutation.changes:
        before = texts.get(change.path) or (ROOT / change.path).read_text(encoding="utf-8")
        texts[change.path] = patched(before, change)
        assert ast.dump(ast.parse(texts[change.path])) != ast.dump(ast.parse(before)), "nothing is taken away"
    assert mutation.tests
    assert [test for test in mutation.tests if not exists(test)] == []


def test_names_are_unique_and_areas_are_many() -> None:
    assert len({mutation.name for mutation in ALL}) == len(ALL)
    assert len({mutation.area for mutation in ALL}) >= 10


def test_a_guard_that_has_moved_is_said_to_have() -> None:
    with pytest.raises(StaleMutation, match="0 places"):
        patched("a = 1\n", Change("x.py", "b = 1", "b = 2"))
    with pytest.raises(StaleMutation, match="2 places"):
        patched("a = 1\na = 1\n", Change("x.py", "a = 1", "a = 2"))
    with pytest.raises(SyntaxError):
        patched("a = 1\n", Change("x.py", "a = 1", "a = = 2"))


def test_a_test_that_could_not_begin_proves_nothing() -> None:
    assert judged([]) == (Verdict.SURVIVED, "every test passed")
    assert judged([("t", "failed")]) == (Verdict.KILLED, "t")
    assert judged([("t", "error: no server")])[0] is Verdict.BROKEN
    assert judged([("pytest", "did not end")])[0] is Verdict.BROKEN


@pytest.mark.timeout(300)
async def test_a_guard_taken_away_is_missed_and_a_blank_is_not() -> None:
    """Three runs in a copy of the tree: a real mutation, one that changes nothing that counts, one without its test."""
    (real,) = (mutation for mutation in ALL if mutation.name == "token-audience")
    harmless = Mutation(
        "token-comment",
        "nothing",
        replace("shared/auth.py", "MAX_TOKEN_BYTES: Final = 8192", "MAX_TOKEN_BYTES: Final = 8193"),
        real.tests,
    )
    missing = Mutation("token-nothing", "nothing", real.changes, ["tests/shared/test_auth.py::test_that_is_not_there"])
    before = (ROOT / "shared/auth.py").read_text(encoding="utf-8")
    async with copied_tree() as tree:
        verdicts = [(await outcome_of(tree, mutation)).verdict for mutation in (real, harmless, missing)]
        assert (tree.root / "shared/auth.py").read_text(encoding="utf-8") == before
    assert verdicts == [Verdict.KILLED, Verdict.SURVIVED, Verdict.BROKEN]
    assert (ROOT / "shared/auth.py").read_text(encoding="utf-8") == before


def test_the_page_has_a_line_for_every_mutation_and_no_survivor() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [mutation.name for mutation in ALL if f"| `{mutation.name}` |" not in page] == []
    assert [line for line in page.splitlines() if line.startswith("| `") and "| killed |" not in line] == []


def test_the_table_names_who_noticed() -> None:
    lines = table([Outcome("a-b", "nobody gets in", Verdict.KILLED, "tests/x.py::test_y", 1.0)]).splitlines()
    assert lines[0] == "1 of 1 guards were noticed missing: 100 %."
    assert lines[-1] == "| `a-b` | nobody gets in | killed | `x.py::test_y` |"
