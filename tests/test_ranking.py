"""Means, intervals and ties."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from engines.ranking import Rank, Trial, interval, rank

FEW = [24.1, 25.3, 22.8, 26.0, 23.9, 25.5, 24.7, 21.9]
MANY = list(np.round(np.random.default_rng(7).normal(60, 5, 40), 3))


@pytest.mark.parametrize(
    ("values", "seed", "told"),
    [(FEW, 0, (23.3375, 25.1375)), (FEW, 5, (23.325, 25.125)), (MANY, 0, (56.72151625, 59.26323125))],
)
def test_an_interval_is_scipys(values: list[float], seed: int, told: tuple[float, float]) -> None:
    """scipy 1.17.1: stats.bootstrap((values,), mean, n_resamples=9999, method="percentile", rng=default_rng(seed))."""
    assert interval(values, seed) == pytest.approx(told, rel=1e-12)


def test_scipy_itself_agrees_where_it_is_installed() -> None:
    stats = pytest.importorskip("scipy.stats")
    found = stats.bootstrap(
        (np.array(MANY),), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert interval(MANY, 3) == pytest.approx((found.low, found.high), rel=1e-12)


def test_of_one_number_nothing_is_known() -> None:
    assert interval([3.0]) == (-math.inf, math.inf)


def trials(**scores: list[float]) -> list[Trial]:
    return [Trial(who, block, score, 2.0) for who, some in scores.items() for block, score in enumerate(some)]


def by_name(ranks: tuple[Rank, ...]) -> dict[object, Rank]:
    return {one.contender: one for one in ranks}


def test_what_is_paired_tells_apart_what_means_alone_do_not() -> None:
    """The blocks differ by tens, the contenders by one: the difference is sure though the intervals overlap."""
    noise = [random.Random(i).gauss(50, 20) for i in range(20)]
    best, second = rank(trials(a=noise, b=[x + 1 + 0.1 * (i % 3) for i, x in enumerate(noise)]))
    assert (best.contender, second.contender) == ("b", "a") and second.high > best.low
    assert not second.tie and second.behind == pytest.approx(1.095) and 1.0 <= second.behind_low <= second.behind_high
    assert second.wins == 0 and best.wins == 0.5 and best.tie


def test_identical_contenders_are_a_tie() -> None:
    first, second = rank(trials(a=FEW, b=FEW))
    assert (first.contender, second.contender) == ("a", "b"), "in the order in which they came"
    assert second.tie and second.behind == second.behind_low == second.behind_high == 0 and second.wins == 0.5


def test_a_lead_by_chance_is_a_tie() -> None:
    ranks = by_name(rank(trials(a=[10, 20, 30, 40], b=[21, 9, 41, 30])))
    assert ranks["a"].tie and ranks["b"].tie and ranks["a"].wins == 0.5


def test_only_common_blocks_are_compared() -> None:
    ranks = by_name(rank([*trials(a=[50, 60, 70], b=[49, 59]), Trial("c", "elsewhere", 1.0, 1.0)]))
    assert ranks["b"].count == 2 and ranks["b"].behind == 1 and ranks["b"].wins == 0
    assert math.isnan(ranks["c"].behind) and math.isnan(ranks["c"].wins) and ranks["c"].tie, "nothing is known"


def test_who_has_fewer_blocks_does_not_lead() -> None:
    """As after a stop in the middle: the last model has one lucky block."""
    ranks = rank([*trials(a=[30.0, 32.0] * 20, c=[20.0, 22.0] * 20), Trial("b", 0, 33.0, 1.0)])
    assert [(one.contender, one.place) for one in ranks] == [("a", 1), ("c", 2), ("b", 3)]
    assert not ranks[1].tie and ranks[2].tie


def test_what_is_no_number_is_left_out_and_the_later_of_two_counts() -> None:
    (only,) = rank([Trial("a", 1, math.nan, 1.0), Trial("a", 2, 5.0, 1.0), Trial("a", 2, 7.0, 3.0)])
    assert (only.count, only.mean, only.seconds, only.rate) == (1, 7.0, 3.0, 7 / 3)
    assert rank([]) == () == rank([Trial("a", 1, math.inf, 1.0)])


def test_the_same_trials_give_the_same_numbers() -> None:
    some = trials(a=FEW, b=MANY)
    assert rank(some) == rank(some) and rank(some, seed=1) != rank(some, seed=2)
    untimed = rank([Trial("a", 1, 5.0, 0.0)])[0]
    assert math.isnan(untimed.seconds) and math.isnan(untimed.rate)
    assert rank([Trial("a", 1, 5.0, 0.0), Trial("a", 2, 5.0, 2.0)])[0].seconds == 2.0
