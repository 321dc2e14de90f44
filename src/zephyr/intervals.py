"""Intervals of shares."""

import math

NORMAL = 1.959964
"""Standard deviations within which 95% of a normal distribution lie."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """95% interval of a share of `count` independent yes-or-no results (Wilson's score interval)."""
    z = NORMAL
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (middle - spread) / scale, (middle + spread) / scale
