"""Means, intervals and ties."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from engines import ranking
from engines.ranking import Rank, Trial, interval, rank, widened
from engines.studentized import quantile

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


def test_who_shares_no_block_with_the_first_widens_nothing() -> None:
    some = trials(a=FEW, b=[x - 0.3 * (i % 2) for i, x in enumerate(FEW)])
    strangers = [Trial(f"c{i}", f"elsewhere {i}", 1.0, 1.0) for i in range(20)]
    alone, among = by_name(rank(some))["b"], by_name(rank([*some, *strangers]))["b"]
    assert (alone.behind_low, alone.behind_high) == (among.behind_low, among.behind_high)
    rivals = trials(**{f"c{i}": [x - 9 for x in FEW] for i in range(20)})
    assert by_name(rank([*some, *rivals]))["b"].behind_high > alone.behind_high


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


@pytest.mark.parametrize(
    ("means", "freedom", "told"),
    [
        (2, 1, 17.97), (2, 5, 3.635), (3, 2, 8.331), (3, 10, 3.877), (5, 4, 6.287), (5, 10, 4.654), (10, 20, 5.008),
        (20, 1, 59.56), (20, 4, 9.233), (20, 60, 5.241), (10, 10**7, 4.474), (20, 10**7, 5.012), (100, 10**7, 6.085),
    ],
)  # fmt: skip
def test_the_studentized_range_is_that_of_the_tables(means: int, freedom: int, told: float) -> None:
    assert quantile(0.95, means, freedom) == pytest.approx(told, abs=6e-4 * max(1, told / 5))


def test_of_two_an_interval_is_widened_to_students_t() -> None:
    """t of 7 degrees of freedom is 2.364624, of 29 it is 2.045230; the normal distribution's quantile 1.959964."""
    assert widened(2, 8) == pytest.approx(2.364624 / 1.959964 * math.sqrt(8 / 7), rel=1e-4)
    assert widened(2, 30) == pytest.approx(2.045230 / 1.959964 * math.sqrt(30 / 29), rel=1e-4)
    assert widened(1, 30) == widened(2, 1) == 1 and widened(20, 30) > widened(5, 30) > widened(2, 30) > 1
    for wrong in ((1.0, 2, 2), (0.95, 1, 2), (0.95, 2, 0)):
        with pytest.raises(ValueError, match="no studentized range"):
            quantile(*wrong)


def equals(contenders: int, blocks: int, seed: int) -> list[Trial]:
    """Scores of contenders of which none is better."""
    drawing = random.Random(seed)
    noise = [drawing.gauss(50, 5) for _ in range(blocks)]
    return [Trial(c, b, noise[b] + drawing.gauss(0, 1), 1.0) for c in range(contenders) for b in range(blocks)]


def test_of_many_equal_ones_none_is_told_from_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of twenty leads by chance: by intervals as of two alone, one would be told from it on nine boards of
    ten."""
    monkeypatch.setattr(ranking, "RESAMPLES", 499)
    told = sum(any(not one.tie for one in rank(equals(20, 8, seed))) for seed in range(40))
    assert told <= 10


def test_seeds_of_one_prompt_are_drawn_together_where_there_are_several_prompts() -> None:
    """Twenty seeds of a prompt tell little of other prompts: the interval is that of the prompts' means."""
    drawing = random.Random(3)
    worth = {p: drawing.gauss(20, 5) for p in range(8)}
    scores = {(p, s): worth[p] + drawing.gauss(0, 0.1) for p in worth for s in range(20)}
    (only,) = rank([Trial("a", block, score, 1.0, 0, block[0]) for block, score in scores.items()])
    means = [sum(scores[p, s] for s in range(20)) / 20 for p in worth]
    assert (only.low, only.high) == pytest.approx(interval(means), rel=1e-12) and only.units == 8
    few = [Trial("a", block, score, 1.0, 0, block[0]) for block, score in scores.items() if block[0] < 4]
    (only,) = rank(few)
    assert (only.low, only.high) == interval([trial.score for trial in few]) and only.units == 80
    uneven = interval([1.0, 1.0, 1.0, 5.0], 0, ["x", "x", "x", "y"])
    assert uneven == (1.0, 5.0), "a mean of all values that are drawn, not of units"


def test_few_is_told_of_what_is_compared() -> None:
    """Eight blocks of its own, of which the leader has two."""
    own = [Trial("b", block, 10.0 + block % 3, 1.0) for block in range(6, 14)]
    first, second = rank([*trials(a=[30.0, 31.0] * 4), *own])
    assert (first.contender, first.count, first.shared, first.units) == ("a", 8, 8, 8)
    assert (second.count, second.shared, second.units) == (8, 2, 2)
