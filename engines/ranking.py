"""Who is better, and how sure that is: means with intervals, and every contender against the leader.

A *block* is what all contenders were given alike, one prompt with one seed; a contender has one score in each. What is
compared is paired: a block that draws badly for one draws badly for all. Intervals are the percentile bootstrap's
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13) over blocks.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np  # 70 ms, which whoever only shows ranks need not wait for

RESAMPLES = 9_999
"How often blocks are drawn anew; scipy's default."
LEVEL = 0.95
"The share of means that an interval holds."
AT_ONCE = 4_000_000
"Numbers that are drawn at a time: 32 MB."


@dataclass(frozen=True, slots=True)
class Trial:
    """One picture of one contender."""

    contender: Hashable
    "Whose it is: a model, a setting, a pair of them."
    block: Hashable
    "The prompt and the seed."
    score: float
    "By one scorer."
    seconds: float
    "That the picture took, without loading and scoring."
    peak: int = 0
    "Bytes of memory that it took at most; 0 where that is not known."


@dataclass(frozen=True, slots=True)
class Rank:
    """How one contender stands."""

    contender: Hashable
    "As in Trial."
    place: int
    "From 1; contenders that tie with the leader keep their own places, by mean."
    count: int
    "Blocks in which it has a score."
    mean: float
    "Of its scores."
    low: float
    "Lower end of the mean's interval."
    high: float
    "Its upper end."
    behind: float
    "The leader's mean minus its own, over the blocks that both have; 0 for the leader."
    behind_low: float
    "Lower end of that difference's interval."
    behind_high: float
    "Its upper end."
    wins: float
    "The share of those blocks in which it beats the leader, an equal score being half a win; 0.5 for the leader."
    tie: bool
    "Whether the leader may well lead by chance: the difference's interval holds 0, or no block is shared. True for it."
    seconds: float
    "A picture, the median; NaN where no picture tells."
    peak: int = 0
    "Bytes of memory that one of its pictures took at most; 0 where none tells."

    @property
    def rate(self) -> float:
        """Score a second: the mean over the seconds that a picture takes; NaN where these are not known."""
        return self.mean / self.seconds


def rank(trials: Sequence[Trial], seed: int = 0) -> tuple[Rank, ...]:
    """Contenders by their mean score, the best first; equal ones in the order in which they came.

    Who has scores in fewer blocks than others comes after all of them: a mean over easy blocks is none over all.

    Args:
        trials: in any order. Of two of one contender in one block the later one counts. Scores that are not finite are
            left out.
        seed: what the bootstrap draws from: the same trials give the same numbers.
    """
    import numpy as np

    by: dict[Hashable, dict[Hashable, Trial]] = {}
    for trial in trials:
        if math.isfinite(trial.score):
            by.setdefault(trial.contender, {})[trial.block] = trial
    if not by:
        return ()
    means = {contender: float(np.mean([t.score for t in blocks.values()])) for contender, blocks in by.items()}
    most = max(map(len, by.values()))
    order = sorted(by, key=lambda contender: (len(by[contender]) < most, -means[contender]))
    leader = by[order[0]]
    return tuple(_rank(place, one, by[one], means[one], leader, seed) for place, one in enumerate(order, 1))


def _rank(
    place: int,
    contender: Hashable,
    own: Mapping[Hashable, Trial],
    mean: float,
    leader: Mapping[Hashable, Trial],
    seed: int,
) -> Rank:
    import numpy as np

    low, high = interval([trial.score for trial in own.values()], seed)
    both = [block for block in leader if block in own]
    ahead = np.array([leader[block].score - own[block].score for block in both])
    behind_low, behind_high = interval(ahead, seed) if both else (float("nan"),) * 2
    wins = float(np.mean(np.where(ahead < 0, 1.0, np.where(ahead == 0, 0.5, 0.0)))) if both else float("nan")
    known = [trial.seconds for trial in own.values() if trial.seconds > 0]
    seconds = float(np.median(known)) if known else float("nan")
    unsure = not both or bool(behind_low <= 0 <= behind_high)
    return Rank(
        contender, place, len(own), mean, low, high, float(np.mean(ahead)) if both else float("nan"), behind_low,
        behind_high, wins, place == 1 or unsure, seconds, max(trial.peak for trial in own.values()),
    )  # fmt: skip


def interval(values: Sequence[float] | np.ndarray[Any, Any], seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap's interval of a mean, at LEVEL.

    Args:
        values: one for each block, at least one. Of a single one nothing is known: both ends are infinite.
        seed: what is drawn from.
    """
    import numpy as np

    numbers = np.asarray(values, dtype=np.float64)
    count = len(numbers)
    if count < 2:
        return float("-inf"), float("inf")
    drawing = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    step = max(1, AT_ONCE // count)
    for start in range(0, RESAMPLES, step):
        end = min(start + step, RESAMPLES)
        means[start:end] = numbers[drawing.integers(0, count, (end - start, count))].mean(axis=1)
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
