"""Figures of chains, against laws that are known."""

import math

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import stats

from powercut.diagnostics import autocorrelation, binomial_upper, effective_draws, meeting_bound, nested_rhat


def ar1(rho, shape, seed=0):
    """Stationary chains of variance 1 along the last axis."""
    rng = np.random.default_rng(seed)
    x = np.empty(shape)
    x[..., 0] = rng.normal(size=shape[:-1])
    for t in range(1, shape[-1]):
        x[..., t] = rho * x[..., t - 1] + math.sqrt(1 - rho**2) * rng.normal(size=shape[:-1])
    return x


@pytest.mark.parametrize(("hits", "draws"), [(0, 1), (0, 50), (3, 50), (49, 50), (50, 50), (400, 1000)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_the_upper_limit_is_clopper_and_pearsons(hits, draws, level):
    known = 1.0 if hits == draws else stats.beta.ppf(level, hits + 1, draws - hits)
    assert binomial_upper(hits, draws, level) == pytest.approx(known, abs=1e-12)


def test_a_bound_from_meetings():
    bound = meeting_bound([10, 12, 30], 10, [0, 2, 10, 20])
    assert bound.estimate.tolist() == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0])
    assert bound.upper[-1] == pytest.approx(binomial_upper(0, 3))
    assert (bound.upper >= bound.estimate).all()


def test_one_pair_that_never_met_leaves_nothing_to_say():
    bound = meeting_bound([10, 10, math.inf], 10, [0, 1000])
    assert bound.estimate.tolist() == [1, 1]
    assert bound.upper.tolist() == [1, 1]


@pytest.mark.parametrize(("meetings", "lag"), [([], 1), ([3], 0), ([3], 4)])
def test_meetings_that_cannot_be_are_refused(meetings, lag):
    with pytest.raises(ValueError, match="meetings need"):
        meeting_bound(meetings, lag, [0])


def coupled_meetings(stay, pairs, lag, seed):
    """Two states, even target: a step keeps the state with chance ``stay``, else draws it afresh, for both alike."""
    rng = np.random.default_rng(seed)
    return lag + rng.geometric(1 - stay, pairs) * (rng.random(pairs) < 0.5)


def test_the_bound_covers_the_true_distance_at_its_confidence():
    """A start in one state, distance stay^t / 2; pairs meet at the first fresh draw, half of them at the lag.

    Of 400 bounds at 0.9 more than 60 miss with a chance of less than 0.001.
    """
    stay, lag, t = 0.8, 60, 3
    missed = 0
    for seed in range(400):
        meetings = np.maximum(coupled_meetings(stay, 40, lag, seed), lag)
        bound = meeting_bound(meetings, lag, [t], level=0.9)
        missed += bound.upper[0] < stay**t / 2
    assert missed <= 60


def test_nested_rhat_of_chains_that_have_converged_is_near_one_for_few_draws():
    x = np.random.default_rng(1).normal(size=(8, 50, 1))
    assert nested_rhat(x) < 1.03


def test_nested_rhat_of_chains_that_remember_their_start_is_large():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(8, 1, 1)) * 3 + rng.normal(size=(8, 50, 5))
    assert nested_rhat(x) > 2


def test_nested_rhat_of_single_chains_is_that_of_their_means_and_variances():
    x = np.random.default_rng(3).normal(size=(6, 1, 40))
    between, within = x.mean(2).var(ddof=1), x.var(2, ddof=1).mean()
    assert nested_rhat(x) == pytest.approx(math.sqrt(1 + between / within))
    assert nested_rhat(x + 3 * np.arange(6)[:, None, None]) > 3


@pytest.mark.parametrize("shape", [(8, 4, 40), (6, 1, 40), (2, 3, 4)])
def test_nested_rhat_is_that_of_arviz_where_it_has_one(shape):
    """It has none for fewer than four draws."""
    x = np.random.default_rng(4).normal(size=shape) + np.arange(shape[0])[:, None, None]
    starts = np.repeat(np.arange(shape[0]), shape[1])
    theirs = array_stats.rhat_nested(x.reshape(-1, shape[2]), superchain_ids=starts, method="identity")
    assert nested_rhat(x) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("start", [[0.0, 0.0], [0.0, 1.0], [-31.7, -31.7]])
def test_what_does_not_move_has_not_converged(start):
    x = np.broadcast_to(np.array(start)[:, None, None], (2, 10, 20))
    assert nested_rhat(x) == math.inf
    assert effective_draws(x.reshape(20, 20)) == 0
    assert autocorrelation(x[0, 0]).tolist() == [1.0] * 20


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_effective_draws_of_an_autoregression(rho):
    """n (1 - rho) / (1 + rho), within a tenth for 40,000 draws of a fixed seed."""
    found = effective_draws(ar1(rho, (4, 10_000)))
    assert found == pytest.approx(40_000 * (1 - rho) / (1 + rho), rel=0.1)


def test_autocorrelation_of_an_autoregression():
    found = autocorrelation(ar1(0.8, (50_000,)))
    np.testing.assert_allclose(found[:5], 0.8 ** np.arange(5), atol=0.03)


@pytest.mark.parametrize("shape", [(2, 2), (1, 2, 3), (2, 1, 1), (2, 0, 3)])
def test_nested_rhat_needs_several_chains_of_several_starts(shape):
    with pytest.raises(ValueError, match="nested R-hat needs"):
        nested_rhat(np.zeros(shape))


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="at least four"):
        effective_draws(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="hits must be"):
        binomial_upper(3, 2)
