"""The studentized range: how far apart the best and the worst of several equal means lie by chance alone.

For k means of independent normal values and a standard deviation that is itself estimated with v degrees of freedom, it
is the largest difference of two means over the estimated standard deviation of one (Tukey, The Problem of Multiple
Comparisons, 1953). Computed from its definition as an integral; the tests hold it against published tables.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MOST = 1_000_000
"Degrees of freedom above which the standard deviation counts as known."
_REACH = 8.0
"Standard deviations beyond which a density is nothing in double precision."


@lru_cache(maxsize=1024)
def quantile(level: float, means: int, freedom: int) -> float:
    """What the range stays below with this probability.

    Args:
        level: above 0 and below 1.
        means: how many there are, at least 2.
        freedom: degrees of freedom of the standard deviation, at least 1.

    Returns:
        In standard deviations of one mean, to four digits.
    """
    if not 0 < level < 1 or means < 2 or freedom < 1:
        raise ValueError(f"no studentized range of {means} means with {freedom} degrees of freedom at {level}")
    low, high = 0.0, 2.0
    while _below(high, means, freedom) < level:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, means, freedom) < level else (low, middle)
    return (low + high) / 2


def _below(reach: float, means: int, freedom: int) -> float:
    """The probability that the range is below `reach`: over the estimated deviation, and over the smallest value."""
    import numpy as np

    z, weights, phi, table = _grid()
    deviations, shares = _deviations(min(freedom, MOST))
    upper = np.interp(z[None, :] + reach * deviations[:, None], z, phi, left=0.0, right=1.0)
    # all others lie between the smallest and `reach` above it
    ranges = means * (np.clip(upper - phi, 0.0, 1.0) ** (means - 1) * table * weights).sum(axis=1)
    return float((shares * ranges).sum())


@lru_cache(maxsize=1)
def _grid() -> tuple[np.ndarray[Any, Any], float, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Points of the normal distribution, their distance, its cumulative probabilities there, and its density."""
    import numpy as np

    z = np.linspace(-_REACH, _REACH, 1025)
    phi = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in z])
    return z, float(z[1] - z[0]), phi, np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


@lru_cache(maxsize=64)
def _deviations(freedom: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Estimated deviations over the true one, and the share of each: the chi distribution by Gauss and Legendre."""
    import numpy as np

    spread = _REACH / math.sqrt(2 * freedom)
    low, high = max(0.0, 1 - spread), 1 + spread
    x, weights = np.polynomial.legendre.leggauss(
        40 if freedom > 3 else 400
    )  # of few degrees much depends on the smallest
    s = low + (high - low) * (x + 1) / 2
    log = math.log(2) + freedom / 2 * math.log(freedom / 2) - math.lgamma(freedom / 2)
    density = np.exp(log + (freedom - 1) * np.log(s) - freedom * s**2 / 2)
    return s, density * weights * (high - low) / 2
