"""How many questions a wished-for difference needs, and which difference so many questions can show.

The test is a two-sided paired one at 5%: each question gives one difference, the mean of its turns.
"""

import math
from statistics import NormalDist

LEVEL = 0.05


def questions(difference: float, spread: float, power: float = 0.8, comparisons: int = 1) -> int:
    """Questions that show a true `difference` with a chance of `power`.

    `spread` is the standard deviation of the differences between questions, in the same unit. Of several comparisons
    the strictest counts: the level is divided by their number, as Holm's correction does for the smallest p-value.
    """
    sure, wished = _deviations(power, comparisons)
    found = ((sure + wished) * spread / difference) ** 2 + sure**2 / 2  # the second term: the spread is measured too
    return max(2, math.ceil(found))


def detectable(count: int, spread: float, power: float = 0.8, comparisons: int = 1) -> float | None:
    """The smallest true difference that `count` questions show with that chance; None where they are too few."""
    sure, wished = _deviations(power, comparisons)
    left = count - sure**2 / 2
    return (sure + wished) * spread / math.sqrt(left) if left > 0 else None


def _deviations(power: float, comparisons: int) -> tuple[float, float]:
    normal = NormalDist()
    return normal.inv_cdf(1 - LEVEL / comparisons / 2), normal.inv_cdf(power)
