"""Resampling by weight: unbiased, and what each way promises besides."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powercut.resampling import WEIGHT_RATIO, chopthin, systematic
from powercut.target import normalise
from tests.strategies import log_weights

U = st.one_of(st.sampled_from([0.0, 0.5, 1 - 2**-53]), st.floats(0, 1, exclude_max=True))


@st.composite
def shares(draw):
    """Weights that sum to 1: any, or multiples of 1/n, at whose edges rounding would show."""
    if draw(st.booleans()):
        return normalise(draw(log_weights()))
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=40).filter(any))
    return np.array(counts) / sum(counts)


@given(shares(), U)
def test_systematic_resampling_gives_each_its_share_rounded_up_or_down(weights, u):
    n = len(weights)
    drawn = systematic(weights, u)
    assert drawn.shape == (n,)
    assert drawn.dtype == np.int64
    counts = np.bincount(drawn, minlength=n)
    assert (counts >= np.floor(n * weights - 1e-9)).all()
    assert (counts <= np.ceil(n * weights + 1e-9)).all()
    assert not counts[weights == 0].any()  # not even at the edges, where rounding decides
    assert list(drawn) == sorted(drawn)


@given(shares())
def test_systematic_resampling_is_unbiased(weights):
    """The counts change with u at the fractional parts of n times the running sums only: their mean is a sum."""
    n = len(weights)
    edges = np.unique(np.concatenate(([0.0, 1.0], n * np.cumsum(weights) % 1)))
    middles = (edges[1:] + edges[:-1]) / 2
    mean = sum(
        width * np.bincount(systematic(weights, u), minlength=n)
        for u, width in zip(middles, np.diff(edges), strict=True)
        if width > 1e-12  # the middle of less may be rounded into its neighbour
    )
    assert mean == pytest.approx(n * weights, abs=1e-9)


@pytest.mark.parametrize("u", [0.0, 0.3, 1 - 2**-53])
def test_a_weight_of_zero_is_never_drawn(u):
    for weights in ([0, 1], [1, 0], [0, 0.5, 0, 0.5, 0], [0, 0, 1, 0]):
        drawn = systematic(np.array(weights, dtype=float), u)
        assert all(weights[i] > 0 for i in drawn)
    short = np.array([0.3, 0.7 - 1e-15, 0.0])  # rounding left the sum below 1
    assert set(systematic(short, 1 - 2**-53)) <= {0, 1}


RATIOS = st.sampled_from([4.0, WEIGHT_RATIO, 50.0])


@given(shares(), U, RATIOS)
def test_chopthin_keeps_the_number_and_bounds_the_ratio_of_weights(weights, u, ratio):
    n = len(weights)
    drawn, after = chopthin(weights, u, ratio)
    assert drawn.shape == after.shape == (n,)
    assert list(drawn) == sorted(drawn)
    assert weights[drawn].all()
    assert 0 < after.max() <= ratio * after.min() * (1 + 1e-9)


@given(shares(), RATIOS)
def test_chopthin_is_unbiased(weights, ratio):
    """What its copies weigh together, on average over u, is what a particle weighed: a midpoint sum over a fine grid.

    Together they weigh one of two values, the larger where u is in an arc of the circle: the sum is right to 2 points.
    """
    points = 300
    mean = np.zeros(len(weights))
    most = np.zeros(len(weights))
    for u in (np.arange(points) + 0.5) / points:
        drawn, after = chopthin(weights, u, ratio)
        together = np.bincount(drawn, after, minlength=len(weights))
        mean += together / points
        most = np.maximum(most, together)
    assert (np.abs(mean - weights) <= 2 / points * most + 1e-12).all()


def test_chopthin_leaves_what_is_even_enough_and_chops_and_thins_the_rest():
    even = np.array([0.2, 0.3, 0.5])
    drawn, after = chopthin(even, 0.3)
    assert drawn.tolist() == [0, 1, 2]
    assert after.tolist() == pytest.approx(even)
    drawn, after = chopthin(np.array([0.97, 0.01, 0.01, 0.01]), 0.999)
    assert set(drawn[:3]) == {0}
    assert after[0] == pytest.approx(0.97 / np.count_nonzero(drawn == 0))
    assert math.isclose(chopthin(np.array([1.0, 0.0]), 0.5)[1].sum(), 1)


def test_negative_control_a_thinned_particle_that_keeps_its_weight_is_biased():
    weights, n = np.array([0.9, 0.08, 0.01, 0.01]), 1000
    kept = [np.bincount(d := chopthin(weights, (i + 0.5) / n)[0], weights[d], minlength=4) for i in range(n)]
    assert np.mean(kept, axis=0)[3] < 0.5 * weights[3]
