"""Intervals of figures that come in groups: the rows of a prompt or a problem depend on each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from powercut.trace import FloatArray


def clustered_interval(
    groups: Sequence[FloatArray],
    statistic: Callable[[FloatArray], float],
    rng: np.random.Generator,
    draws: int = 1000,
) -> tuple[float, float, float]:
    """A statistic of all groups' rows together, with a 95% bootstrap interval over groups.

    ``groups`` are arrays ``[rows, columns]``; whole groups are drawn again, since the rows of one depend on each other.
    Samples where the statistic is NaN are left out; all NaN with fewer than two groups.
    """
    value = statistic(np.concatenate(list(groups)))
    if len(groups) < 2:
        return value, float("nan"), float("nan")
    again = []
    for _ in range(draws):
        picked = rng.integers(len(groups), size=len(groups))
        again.append(statistic(np.concatenate([groups[i] for i in picked])))
    kept = np.array(again)[~np.isnan(again)]
    low, high = np.quantile(kept, (0.025, 0.975)) if len(kept) else (np.nan, np.nan)
    return value, float(low), float(high)
