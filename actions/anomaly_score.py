"""Whether a number is unusual among its like. Pure.

The modified z-score (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993, section 3.5)
is measured with median and median absolute deviation, which outliers themselves hardly move.
"""

from collections.abc import Sequence
from statistics import median

# What makes the deviation of a normal distribution its standard deviation.
_SCALE = 0.6745
LIMIT = 6.0
ENOUGH = 48


def score(value: float, usual: Sequence[float]) -> float:
    """Return the robust standard deviations of `value` above the median; negative below it.

    A deviation of less than one, or than a twentieth of the median, counts as that much: where
    everything is alike, a difference of one is no news.
    """
    middle = median(usual)
    deviation = median(abs(one - middle) for one in usual)
    return _SCALE * (value - middle) / max(deviation, 1.0, abs(middle) / 20)


def is_outlier(value: float, usual: Sequence[float], *, at_least: float) -> bool:
    """Whether `value` stands out above what is usual, and is worth a look at all."""
    return len(usual) >= ENOUGH and value >= at_least and score(value, usual) > LIMIT
