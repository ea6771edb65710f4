import pytest

from services.indexing.vectors.ranking import fuse, ranked


def test_the_best_comes_first_and_equal_scores_are_ordered_by_id() -> None:
    assert ranked([(3, 1.0), (1, 1.0), (2, 5.0)]) == [(2, 5.0), (1, 1.0), (3, 1.0)]


def test_reciprocal_ranks_are_summed() -> None:
    fused = dict(fuse([[(1, 9.0), (2, 8.0)], [(2, 0.5), (3, 0.4)]]))

    assert fused == pytest.approx({1: 1 / 61, 2: 1 / 62 + 1 / 61, 3: 1 / 62})


def test_fusing_does_not_look_at_the_scores_themselves() -> None:
    assert fuse([[(1, 1e9), (2, 1e-9)]]) == fuse([[(1, 2.0), (2, 1.0)]])
