"""The laws that every cut law keeps, for any entropies."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from powercut.cuts import CutLaw, EntropyJump, Uniform, pick_cut
from tests.strategies import ENTROPIES, entropies

BETAS = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 4.0]), st.floats(0, 20))
WEIGHTS = st.one_of(st.just(Uniform()), st.builds(EntropyJump, BETAS))
MIXES = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))
LAWS = st.builds(CutLaw, WEIGHTS, MIXES)


@given(LAWS, entropies())
def test_probabilities_are_a_distribution(law, entropy):
    probs = law.probs(entropy)
    assert probs.shape == entropy.shape
    assert (probs >= 0).all()
    assert probs.sum() == pytest.approx(1, abs=1e-12)


@given(WEIGHTS, entropies())
def test_weights_are_not_negative(weights, entropy):
    w = weights(entropy)
    assert w.dtype == np.float64
    assert (w >= 0).all()
    assert np.isfinite(w).all()


@given(WEIGHTS, entropies(), entropies())
def test_what_follows_a_prefix_does_not_change_its_weights(weights, prefix, rest):
    whole = np.concatenate((prefix, rest))
    assert weights(whole)[: len(prefix)].tolist() == weights(prefix).tolist()


@given(WEIGHTS, entropies(), st.lists(st.integers(0, 20)))
def test_weights_in_pieces_are_those_at_once(weights, entropy, cuts):
    ends = sorted(min(cut, len(entropy)) for cut in cuts)
    pieces = [entropy[a:b] for a, b in zip([0, *ends], [*ends, len(entropy)], strict=True) if a < b]
    got, previous = [], 0.0
    for piece in pieces:
        got += weights(piece, previous).tolist()
        previous = float(piece[-1])
    assert got == weights(entropy).tolist()  # to the last bit


@given(LAWS, entropies())
def test_log_prob_is_the_log_of_probs(law, entropy):
    weights = law.weights(entropy)
    for weight, prob in zip(weights, law.probs(entropy), strict=True):
        log_prob = law.log_prob(float(weight), float(weights.sum()), len(entropy))
        if prob > 0:
            assert log_prob == pytest.approx(math.log(prob), abs=1e-9)
        else:
            assert log_prob == -math.inf


@given(LAWS, entropies(min_size=2), st.data())
def test_log_prob_never_rises_as_a_completion_grows(law, entropy, data):
    cut = data.draw(st.integers(0, len(entropy) - 1))
    weights = law.weights(entropy)
    totals = np.add.accumulate(weights)
    values = [law.log_prob(float(weights[cut]), float(totals[n - 1]), n) for n in range(cut + 1, len(entropy) + 1)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_log_prob_of_a_weight_that_is_zero_never_rises(mix):
    """A cut at a position of weight 0, in a completion whose first jump comes later."""
    law = CutLaw(EntropyJump(4.0), mix)
    values = [law.log_prob(0.0, 0.0 if n < 3 else 2.0, n) for n in range(1, 6)]
    assert values == sorted(values, reverse=True)
    assert (values[-1] == -math.inf) == (mix == 0)


@given(WEIGHTS, MIXES, entropies())
def test_a_mixture_is_a_mixture(weights, mix, entropy):
    w = weights(entropy)
    assume(w.sum() > 0)
    want = [(1 - mix) * wc / math.fsum(w) + mix / len(w) for wc in w]
    np.testing.assert_allclose(CutLaw(weights, mix).probs(entropy), want, rtol=1e-12)


@given(MIXES, ENTROPIES, st.integers(1, 20), st.floats(0.1, 10))
def test_no_weight_anywhere_means_uniform(mix, drop, n, beta):
    """Entropy that never jumps: all zeros, as in a forced text."""
    law = CutLaw(EntropyJump(beta), mix)
    entropy = np.zeros(n)
    assert law.probs(entropy).tolist() == [1 / n] * n
    assert law.log_prob(0.0, 0.0, n) == -math.log(n)
    falling = EntropyJump(beta)(np.linspace(drop, 0, n), previous=drop)
    assert not falling.any()


@given(entropies())
def test_beta_zero_weighs_every_position_alike(entropy):
    assert EntropyJump(0.0)(entropy).tolist() == [1.0] * len(entropy)
    assert CutLaw(EntropyJump(0.0)).probs(entropy).tolist() == CutLaw(Uniform()).probs(entropy).tolist()


@given(entropies(), st.floats(0.5, 6))
def test_weights_are_jumps_by_their_definition(entropy, beta):
    previous = [0.0, *entropy[:-1]]
    want = [max(0.0, h - g) ** beta for h, g in zip(entropy, previous, strict=True)]
    np.testing.assert_allclose(EntropyJump(beta)(entropy), want, rtol=1e-12)


def test_a_single_position_is_certain():
    for law in (CutLaw(Uniform()), CutLaw(EntropyJump(4.0)), CutLaw(EntropyJump(4.0), 0.3)):
        assert law.probs(np.array([0.7])).tolist() == [1.0]
        assert law.probs(np.array([0.0])).tolist() == [1.0]


def test_a_cut_is_drawn_by_its_law_and_moves_only_to_what_is_new():
    """Chi-square at a false alarm of 1e-6; a law's first positions, scaled, draw the same cut or the whole another."""
    law = np.array([0.1, 0.0, 0.4, -0.0, 0.3, 0.2])
    children = np.random.default_rng(5).spawn(4000)
    again = np.random.default_rng(5).spawn(4000)
    whole = np.array([pick_cut(law, rng) for rng in children])
    part = np.array([pick_cut(law[:5] / law[:5].sum(), rng) for rng in again])
    counts = np.bincount(whole, minlength=6)
    assert counts[[1, 3]].sum() == 0
    possible = law > 0
    assert stats.chisquare(counts[possible], 4000 * law[possible]).pvalue > 1e-6
    assert (whole[whole != part] == 5).all()
    assert [rng.random() for rng in children[:3]] == [rng.random() for rng in again[:3]]
