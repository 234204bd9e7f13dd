"""Has a chain converged? Pure functions of arrays: figures of chains, or of pairs of coupled chains.

Chains here are short and many, and may not move at all. So what no step has changed counts as not converged: R-hat is
infinite there, and the effective sample size 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from powercut.errors import SettingError
from powercut.trace import FloatArray

_LEAST = 1e-12
"""Relative size below which a variance is rounding."""


@dataclass(frozen=True)
class MeetingBound:
    """Bounds on the total variation between the law after ``steps`` steps and the target, arrays of one shape.

    ``estimate`` is the mean over pairs, ``upper`` its upper confidence limit; both are at most 1, which says nothing.
    """

    steps: FloatArray
    estimate: FloatArray
    upper: FloatArray


def meeting_bound(meetings: ArrayLike, lag: int, steps: ArrayLike, level: float = 0.95) -> MeetingBound:
    """Bound the distance to the target by the meeting times of coupled chains with a lag.

    ``meetings`` ``[pairs]`` is, of each pair, the number of steps of the leading chain when the two met (at least
    ``lag``; inf where they had not when they were stopped). Then d_TV(t) <= E[max(0, ceil((meeting - lag - t) / lag))]
    (Biswas, Jacob and Vanetti 2019, arXiv 1905.09971; Jacob, O'Leary and Atchade 2020).

    The upper limit is Clopper and Pearson's (1934), one-sided at ``level``, for the share of pairs for which that is
    above 0, times the largest such value. It is exact where the lag is so long that no value is above 1, and then for
    the distance between the laws after t and after t + lag steps.

    Raises ValueError for no pairs, a lag below 1, or a meeting before the lag.
    """
    met, at = np.asarray(meetings, dtype=np.float64), np.asarray(steps, dtype=np.float64)
    if not len(met) or lag < 1 or not (met >= lag).all():
        raise ValueError("meetings need at least one pair, each of at least the lag, which is at least 1")
    over = np.maximum(np.ceil((met[:, None] - lag - at[None]) / lag), 0)
    share = np.array([binomial_upper(int(count), len(met), level) for count in (over > 0).sum(0)])
    return MeetingBound(at, np.minimum(over.mean(0), 1), np.minimum(share * np.maximum(over.max(0), 1), 1))


def binomial_upper(hits: int, draws: int, level: float = 0.95) -> float:
    """Clopper and Pearson's upper limit of a chance, one-sided: the p with P(at most ``hits`` of ``draws``) 1 - level.

    Raises ValueError unless 0 <= hits <= draws.
    """
    if not 0 <= hits <= draws or draws < 1:
        raise ValueError(f"hits must be from 0 to draws, which are at least 1 (got {hits} of {draws})")
    if hits == draws:
        return 1.0
    k = np.arange(hits + 1)
    ways = np.array([math.lgamma(draws + 1) - math.lgamma(i + 1) - math.lgamma(draws - i + 1) for i in k])
    low, high = hits / draws, 1.0
    for _ in range(60):
        p = (low + high) / 2
        below = np.exp(ways + k * math.log(p) + (draws - k) * math.log1p(-p)).sum() if p < 1 else 0.0
        low, high = (p, high) if below > 1 - level else (low, p)
    return high


def nested_rhat(chains: ArrayLike) -> float:
    """Nested R-hat of ``[superchains, chains, draws]``; the chains of a superchain have the same start.

    sqrt(1 + B / W): B is the variance between the superchains' means, W the mean within them, between chains and along
    them (Margossian et al. 2024, arXiv 2110.13017). Unlike plain R-hat it can be near 1 for many short chains. Infinite
    where nothing varies within superchains. With one chain in each it is R-hat itself, without n/(n-1) and such, which
    needs long chains. Raises ValueError for fewer than two superchains, or one chain of one draw in each.
    """
    x = np.asarray(chains, dtype=np.float64)
    if x.ndim != 3 or x.shape[0] < 2 or not x.shape[2] or x.shape[1] * x.shape[2] < 2 or not x.shape[1]:
        raise ValueError("nested R-hat needs [superchains, chains, draws], two of the first and of one of the others")
    means = x.mean(2)
    between = float(means.mean(1).var(ddof=1))
    among = means.var(1, ddof=1) if x.shape[1] > 1 else 0.0
    along = x.var(2, ddof=1).mean(1) if x.shape[2] > 1 else 0.0
    within = float(np.mean(among + along))
    if within <= _LEAST * max(between, float(np.square(x).max()), 1e-300):
        return math.inf
    return math.sqrt(1 + between / within)


def autocorrelation(chain: ArrayLike) -> FloatArray:
    """The autocorrelation of ``[draws]`` at each lag from 0, same shape; 1 everywhere where nothing varies."""
    x = np.asarray(chain, dtype=np.float64)
    centred = x - x.mean()
    total = float(np.square(centred).sum())
    if total <= _LEAST * max(float(np.square(x).sum()), 1e-300):
        return np.ones(len(x))
    spectrum = np.fft.rfft(centred, 2 * len(x))
    correlated: FloatArray = np.fft.irfft(spectrum * spectrum.conj(), 2 * len(x))[: len(x)] / total
    return correlated


def effective_draws(chains: ArrayLike) -> float:
    """The effective sample size of the mean over ``[chains, draws]``: so many independent draws would do as well.

    That of arviz-stats (Vehtari et al. 2021, arXiv 1903.08008): each chain is split in two, so that drift counts
    against it. 0 where no chain varies, which is not converged. Raises ValueError for fewer than four draws,
    SettingError where arviz-stats is missing.
    """
    x = np.asarray(chains, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] < 4:
        raise ValueError("the effective sample size needs [chains, draws], at least four of the latter")
    if float(x.var(1, ddof=1).mean()) <= _LEAST * max(float(np.square(x).max()), 1e-300):
        return 0.0
    try:
        from arviz_stats.base import array_stats
    except ImportError as error:
        raise SettingError(f"effective_draws needs {error.name}: pip install 'powercut[report]'") from error
    return float(array_stats.ess(x, method="mean"))
