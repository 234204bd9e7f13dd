"""The acceptance ratio in pieces, and the sign of its increments, for laws of any sharpness."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from powercut import Trace
from powercut.cuts import CutLaw, EntropyJump, Uniform
from powercut.target import (
    LogRatio,
    Power,
    effective_sample_size,
    log_accept_tries,
    log_mean_weight,
    log_ratio,
    normalise,
)
from tests.strategies import consistent_traces, log_weights, traces

ALPHAS = st.one_of(st.sampled_from([1.0, 4.0, 5.0, 7.0, 49.0, 1e6]), st.floats(1, 100))
WEIGHTS = st.sampled_from([Uniform(), EntropyJump(0.0), EntropyJump(1.0), EntropyJump(4.0)])
LAWS = st.builds(CutLaw, WEIGHTS, st.sampled_from([0.0, 0.3, 1.0]))


@st.composite
def monotone_targets(draw):
    """Targets with 1 <= 1/tau <= alpha; often tau = 1/alpha itself, the default."""
    alpha = draw(ALPHAS)
    where = draw(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)))
    return Power(alpha, 1 / alpha if where == 0 else min(1.0, 1 / alpha + where * (1 - 1 / alpha)))


@st.composite
def moves(draw, targets):
    """A target, a cut law, a current completion, a cut that the law can make, and a proposal's tail."""
    target, law = draw(targets), draw(LAWS)
    current = draw(consistent_traces(target.temperature))
    cut = draw(st.sampled_from(np.flatnonzero(law.probs(current.entropy)).tolist()))
    tail = draw(consistent_traces(target.temperature, max_size=60))
    entropy = tail.entropy.copy()
    entropy[0] = current.entropy[cut]  # a function of the shared prefix
    return target, law, current, cut, Trace(tail.tokens, tail.logp, tail.logq, entropy)


ANY_TARGET = st.builds(Power, st.one_of(ALPHAS, st.just(math.inf)), st.floats(0.05, 5))
MONOTONE = st.one_of(monotone_targets(), st.builds(Power, st.just(math.inf), st.floats(0.05, 5)))


def pieces_of(trace, cuts):
    ends = sorted(min(cut, len(trace)) for cut in cuts)
    return [trace[a:b] for a, b in zip([0, *ends], [*ends, len(trace)], strict=True)]


@given(moves(ANY_TARGET), st.lists(st.integers(0, 60)))
def test_the_ratio_does_not_depend_on_how_the_proposal_arrives(move, cuts):
    target, law, current, cut, tail = move
    at_once = LogRatio(target, law, current, cut)
    at_once.add(tail)
    in_pieces = LogRatio(target, law, current, cut)
    for piece in pieces_of(tail, cuts):
        in_pieces.add(piece)
    assert in_pieces.length == at_once.length == len(tail)
    assert in_pieces.value == at_once.value  # to the last bit
    assert log_ratio(target, law, current, current.splice(cut, tail), cut) == at_once.value


def test_sums_run_in_token_order_whatever_the_pieces():
    """Long proposals, where another order of summing would show in the last bit."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        zeros = np.zeros(80)
        trace = Trace(zeros, zeros, zeros, rng.random(80))  # the cut law alone makes the ratio
        ratios = [LogRatio(Power(1, 1), CutLaw(EntropyJump(1.0)), trace, 0) for _ in range(3)]
        ratios[0].add(trace)
        for piece in pieces_of(trace, rng.integers(81, size=3).tolist()):
            ratios[1].add(piece)
        for t in range(80):
            ratios[2].add(trace[t : t + 1])
        assert ratios[0].value == ratios[1].value == ratios[2].value


@given(moves(ANY_TARGET))
def test_the_ratio_is_its_formula(move):
    target, law, current, cut, tail = move
    kept = law.probs(current.entropy)[cut]
    assume(kept > 1e-300)
    proposal = current.splice(cut, tail)
    if math.isinf(target.alpha):
        want = math.fsum(tail.logp) - math.fsum(current.logp[cut:])
    else:
        gain = math.fsum(target.alpha * tail.logp - tail.logq)
        loss = math.fsum(target.alpha * current.logp[cut:] - current.logq[cut:])
        new = law.probs(proposal.entropy)[cut]
        assume(new > 1e-300)
        want = gain - loss + math.log(new) - math.log(kept)
    assert log_ratio(target, law, current, proposal, cut) == pytest.approx(want, rel=1e-9, abs=1e-9)


@given(moves(MONOTONE))
def test_the_partial_ratio_never_rises(move):
    target, law, current, cut, tail = move
    assert target.monotone
    ratio = LogRatio(target, law, current, cut)
    values = [ratio.value, *(ratio.add(tail[t : t + 1]) for t in range(len(tail)))]
    assert values[0] == math.inf
    assert values == sorted(values, reverse=True)


@given(moves(ANY_TARGET))
def test_adding_nothing_changes_nothing(move):
    target, law, current, cut, tail = move
    ratio = LogRatio(target, law, current, cut)
    assert ratio.add(Trace.empty()) == math.inf
    value = ratio.add(tail)
    assert ratio.add(Trace.empty()) == value


@given(moves(ANY_TARGET))
def test_a_proposal_of_the_same_tokens_is_always_accepted(move):
    target, law, current, cut, _ = move
    assert log_ratio(target, law, current, current, cut) == pytest.approx(0, abs=1e-9)


@given(st.data(), monotone_targets())
def test_increments_are_never_positive_and_clamping_changes_only_rounding(data, target):
    trace = data.draw(consistent_traces(target.temperature))
    raw = target.alpha * trace.logp - trace.logq
    got = target.increments(trace)
    assert (got <= 0).all()
    np.testing.assert_allclose(got, raw, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(trace.logq).max()))


@given(ALPHAS, st.data())
def test_at_the_default_temperature_an_increment_is_the_log_normaliser(alpha, data):
    """g_t = log sum_v p(v)^alpha, whatever the token."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    logp = rng.normal(size=5)
    logp -= np.log(np.exp(logp).sum())
    scores = alpha * logp
    top = scores.max()
    want = top + math.log(np.exp(scores - top).sum())
    logq = scores - want
    n = np.zeros(5)
    got = Power(alpha, 1 / alpha).increments(Trace(n, logp, logq, n))
    np.testing.assert_allclose(got, min(want, 0), atol=1e-9 * alpha)


@given(st.floats(1, 1e12))
def test_one_over_alpha_is_within_the_bound_however_it_rounds(alpha):
    assert Power(alpha, 1 / alpha).monotone
    assert Power(alpha, 1.0).monotone


@given(st.floats(1, 1e6), st.floats(1e-6, 0.5))
def test_beyond_the_bound_is_beyond(alpha, share):
    assert not Power(alpha, 1 + share).monotone
    assert not Power(alpha, (1 - share) / alpha).monotone


@given(traces(), st.floats(0.05, 5))
def test_at_infinite_alpha_an_increment_is_the_log_probability(trace, temperature):
    target = Power(math.inf, temperature)
    assert target.monotone
    assert target.increments(trace).tolist() == trace.logp.tolist()


@given(log_weights(), st.floats(-500, 500))
def test_weights_are_normalised_whatever_their_factor(log_weights, shift):
    weights = normalise(log_weights)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert normalise(log_weights + shift) == pytest.approx(weights, abs=1e-9)
    assert ((weights == 0) | (log_weights > -math.inf)).all()
    size = effective_sample_size(log_weights)
    assert 1 - 1e-9 <= size <= len(weights) + 1e-9
    assert size == pytest.approx(1 / math.fsum(weights**2))


@given(st.integers(1, 30), st.integers(0, 30), st.floats(-500, 500))
def test_k_equal_weights_are_worth_k_particles(k, zeros, value):
    log_weights = np.array([value] * k + [-math.inf] * zeros)
    assert effective_sample_size(log_weights) == pytest.approx(k)
    assert log_mean_weight(log_weights) == pytest.approx(value + math.log(k) - math.log(k + zeros))


@given(hnp.arrays(np.float64, st.integers(1, 6), elements=st.floats(-30, 30)))
def test_the_tries_ratio_is_its_formula(log_ratios):
    w = np.exp(log_ratios)
    want = [math.log(w.sum()) - math.log(np.delete(w, j).sum() + 1) for j in range(len(w))]
    assert log_accept_tries(log_ratios) == pytest.approx(want, abs=1e-9)


@given(st.floats(-1e6, 1e6))
def test_of_one_try_it_is_the_ratio_to_the_last_bit(log_ratio):
    for value in (log_ratio, math.inf, -math.inf):
        assert log_accept_tries(np.array([value])).tolist() == [value]


@given(hnp.arrays(np.float64, st.integers(2, 6), elements=st.floats(-40, 40)), st.data())
def test_a_tries_ratio_below_one_only_falls_as_values_fall(log_ratios, data):
    """What early rejection rests on, up to rounding."""
    falls = data.draw(hnp.arrays(np.float64, len(log_ratios), elements=st.floats(0, 40)))
    before = np.minimum(log_accept_tries(log_ratios), 0)
    assert (np.minimum(log_accept_tries(log_ratios - falls), 0) <= before + 1e-12).all()


def test_tries_that_cannot_be_are_rejected():
    assert log_accept_tries(np.full(3, -math.inf)).tolist() == [-math.inf] * 3
    assert log_accept_tries(np.array([1.0, -math.inf]))[0] == 1.0
