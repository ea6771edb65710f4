import pytest

from services.indexing.vectors.ranking import fuse, ranked


def test_the_best_comes_first_and_equal_scores_are_ordered_by_id() -> None:
    assert ranked([(3, 1.0), (1, 1.0), (2, 5.0)]) == [(2, 5.0), (1, 1.0), (3, 1.0)]


def test_scores_are_summed_as_shares_of_the_best_of_each_ranking() -> None:
    fused = dict(fuse([[(1, 10.0), (2, 5.0)], [(2, 0.4), (3, 0.2)]]))

    assert fused == pytest.approx({1: 0.5, 2: 0.25 + 0.5, 3: 0.25})


def test_what_is_far_ahead_in_one_ranking_stays_ahead() -> None:
    words = [(1, 20.0), (2, 3.0), (3, 3.0)]
    similar = [(2, 0.81), (3, 0.80), (4, 0.79), (5, 0.78), (1, 0.7)]

    assert fuse([words, similar])[0][0] == 1


def test_scores_below_zero_are_nothing_and_a_single_ranking_keeps_its_order() -> None:
    assert fuse([[(1, 0.5), (2, -0.5)]]) == [(1, 1.0), (2, 0.0)]
    assert fuse([[(1, -0.1), (2, -0.5)]]) == [(1, 0.0), (2, 0.0)]
    assert fuse([[], [(3, 2.0), (4, 1.0)]]) == [(3, 0.5), (4, 0.25)]
