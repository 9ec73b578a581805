"""Who is better, and how sure that is: means with intervals, and every contender against the leader.

A *block* is what all contenders were given alike, one prompt with one seed; a contender has one score in each. What is
compared is paired: a block that draws badly for one draws badly for all.

Intervals are the percentile bootstrap's (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13) over
*units*. Blocks of one prompt resemble each other, so that a prompt with all its seeds is a unit where there are FEW or
more (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8); where there are fewer, a block
is, and what is found holds for these prompts.

The leader leads partly by chance, the more so the more contenders there are and the fewer units. The interval of a
difference to it is therefore widened by what the studentized range of so many means and units is wider than the normal
distribution (Games and Howell, Journal of Educational Statistics 1(2), 1976: each difference has its own deviation).
Where all contenders are equal, one of them is told from the leader on 5 % of the boards of 2 contenders, 7 % of those
of 5 and 10 to 12 % of those of 20, of 8 to 24 units, as simulated with normal scores; more where very many meet in few
(20 in 5 units: 19 %, 100 in 8: 28 %), for then the deviations themselves are uncertain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from engines import studentized

if TYPE_CHECKING:
    import numpy as np  # 70 ms, which whoever only shows ranks need not wait for

RESAMPLES = 9_999
"How often blocks are drawn anew; scipy's default."
LEVEL = 0.95
"The share of means that an interval holds."
FEW = 5
"Units below which the bootstrap's intervals are too narrow: of three values it draws 27 samples, of which 10 differ."
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
    prompt: Hashable = None
    "What blocks that resemble each other share."


@dataclass(frozen=True, slots=True)
class Rank:
    """How one contender stands."""

    contender: Hashable
    "As in Trial."
    place: int
    "From 1; contenders that tie with the leader keep their own places, by mean."
    count: int
    "Blocks in which it has a score."
    shared: int
    "Of these, such in which the leader has one, too."
    units: int
    "What these are when they are drawn anew: prompts, or blocks."
    mean: float
    "Of its scores."
    low: float
    "Lower end of the mean's interval."
    high: float
    "Its upper end."
    behind: float
    "The leader's mean minus its own, over the blocks that both have; 0 for the leader."
    behind_low: float
    "Lower end of that difference's interval, which is widened for the number of contenders."
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
    prompts: int = 1
    "How many different ones its blocks are of."

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
    several = len({trial.prompt for blocks in by.values() for trial in blocks.values()}) >= FEW
    unit = (lambda trial: trial.prompt) if several else (lambda trial: trial.block)
    leader = by[order[0]]
    rivals = sum(any(block in leader for block in by[contender]) for contender in order)
    return tuple(
        _rank(place, one, by[one], means[one], leader, unit, rivals, seed) for place, one in enumerate(order, 1)
    )


def _rank(
    place: int,
    contender: Hashable,
    own: Mapping[Hashable, Trial],
    mean: float,
    leader: Mapping[Hashable, Trial],
    unit: Callable[[Trial], Hashable],
    rivals: int,
    seed: int,
) -> Rank:
    import numpy as np

    low, high = interval([trial.score for trial in own.values()], seed, [unit(trial) for trial in own.values()])
    both = [block for block in leader if block in own]
    ahead = np.array([leader[block].score - own[block].score for block in both])
    units = [unit(leader[block]) for block in both]
    count = len(set(units))
    behind, behind_low, behind_high, wins = (float("nan"),) * 4
    if both:
        behind = float(np.mean(ahead))
        ends = interval(ahead, seed, units)
        wider = widened(rivals, count)
        behind_low, behind_high = (behind + (end - behind) * wider for end in ends)
        wins = float(np.mean(np.where(ahead < 0, 1.0, np.where(ahead == 0, 0.5, 0.0))))
    known = [trial.seconds for trial in own.values() if trial.seconds > 0]
    seconds = float(np.median(known)) if known else float("nan")
    unsure = not both or bool(behind_low <= 0 <= behind_high)
    return Rank(
        contender, place, len(own), len(both), count, mean, low, high, behind, behind_low, behind_high, wins,
        place == 1 or unsure, seconds, max(trial.peak for trial in own.values()),
        len({trial.prompt for trial in own.values()}),
    )  # fmt: skip


def widened(contenders: int, units: int) -> float:
    """How much wider than the percentile bootstrap's the interval of a difference to the best of several has to be.

    Of two contenders it is Student's t over the normal distribution's quantile, and what the bootstrap's standard
    deviation is too small (Hesterberg, What Teachers Should Know About the Bootstrap, 2015, section 5.3).

    Args:
        contenders: how many are compared.
        units: how many differences are drawn from.

    Returns:
        At least 1; 1 also where there is nothing to compare.
    """
    if contenders < 2 or units < 2:
        return 1.0
    reach = studentized.quantile(LEVEL, contenders, units - 1) / math.sqrt(2)
    return max(1.0, reach / NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(units / (units - 1)))


def interval(
    values: Sequence[float] | np.ndarray[Any, Any], seed: int = 0, units: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    """The percentile bootstrap's interval of a mean, at LEVEL.

    Args:
        values: at least one.
        seed: what is drawn from.
        units: for each value what it belongs to: values of one unit are drawn together. Each its own, if not given.

    Returns:
        Lower and upper end. Of a single unit nothing is known: both are infinite.
    """
    import numpy as np

    numbers = np.asarray(values, dtype=np.float64)
    sizes = np.ones(len(numbers))
    if units is not None:
        known: dict[Hashable, int] = {}
        which = np.array([known.setdefault(unit, len(known)) for unit in units])
        sizes = np.bincount(which).astype(np.float64)
        numbers = np.bincount(which, weights=numbers) / sizes
    count = len(numbers)
    if count < 2:
        return float("-inf"), float("inf")
    drawing = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    step = max(1, AT_ONCE // count)
    uneven = sizes.min() < sizes.max()
    for start in range(0, RESAMPLES, step):
        end = min(start + step, RESAMPLES)
        drawn = drawing.integers(0, count, (end - start, count))
        if uneven:
            weights = sizes[drawn]
            means[start:end] = (numbers[drawn] * weights).sum(axis=1) / weights.sum(axis=1)
        else:
            means[start:end] = numbers[drawn].mean(axis=1)
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
