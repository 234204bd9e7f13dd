"""The kernel leaves the power distribution invariant: pi P = pi to 1e-12, by enumeration."""

import math

import numpy as np
import pytest

from powercut import EntropyCut, UniformCut
from powercut.study.exact import enumerate_completions, kappa, kernel_matrix
from powercut.study.reference import published_matrix
from powercut.target import log_ratio
from tests.checks import grid, random_table

SETTINGS = [
    *grid(cls=[UniformCut], alpha=[1, 1.7, 4, 9], temperature=[None, 1.0, 0.6], uniform_mix=[0.0]),
    *grid(cls=[EntropyCut], alpha=[1, 4], beta=[0, 1, 4], temperature=[None, 0.6, 1.0], uniform_mix=[0.0, 0.3, 1.0]),
    # proposals hotter than the base model, and colder than 1/alpha
    *grid(cls=[UniformCut, EntropyCut], alpha=[1, 4], temperature=[0.1, 2.5], uniform_mix=[0.0, 0.3]),
]


def make(cls, **settings):
    return cls(max_new_tokens=4, blocks=1, **settings)


@pytest.mark.parametrize(
    "settings", SETTINGS, ids=lambda s: "-".join(f"{getattr(v, '__name__', v)}" for v in s.values())
)
def test_the_power_distribution_is_invariant(settings):
    sampler = make(**settings)
    for seed, vocab, top_k in [(1, 3, None), (2, 3, None), (3, 2, None), (4, 4, 2)]:
        probs = random_table(seed, vocab, zeros=True)
        space = enumerate_completions(probs, (1,), 4, sampler.proposal_temperature, top_k)
        pi = space.power(sampler.alpha)
        matrix = kernel_matrix(space, sampler)
        assert np.allclose(matrix.sum(axis=1), 1, atol=1e-12)
        assert matrix.min() >= -1e-15
        assert np.abs(pi @ matrix - pi).max() < 1e-12


@pytest.mark.parametrize("beta", [None, 0, 1, 4])
@pytest.mark.parametrize("mix", [0.0, 0.25, 1.0])
def test_the_cut_law_is_its_definition(beta, mix):
    sampler = make(UniformCut, uniform_mix=mix) if beta is None else make(EntropyCut, beta=beta, uniform_mix=mix)
    for seed in range(5):
        for trace in enumerate_completions(random_table(seed, 3, zeros=True), (1,), 5, 0.25).traces:
            assert np.allclose(sampler.cut_law.probs(trace.entropy), kappa(trace, beta, mix), atol=1e-14)


def test_the_ratio_is_that_of_the_whole_densities():
    """A = log [pi(y) kappa_y(c) q(x|c)] / [pi(x) kappa_x(c) q(y|c)], from the definitions."""
    for sampler in (make(UniformCut, alpha=3), make(EntropyCut, alpha=3, temperature=0.7, uniform_mix=0.1)):
        beta = getattr(sampler, "beta", None)
        space = enumerate_completions(random_table(7, 3), (2,), 4, sampler.proposal_temperature)
        for x in space.traces[:20]:
            for y in space.traces:
                for cut in range(min(len(x), len(y))):
                    if tuple(x.tokens[:cut]) != tuple(y.tokens[:cut]):
                        break
                    k_x, k_y = (kappa(t, beta, sampler.uniform_mix)[cut] for t in (x, y))
                    if k_x == 0:
                        continue
                    log_pi = 3 * (y.logp.sum() - x.logp.sum())
                    log_q = x.logq[cut:].sum() - y.logq[cut:].sum()
                    want = log_pi + log_q + math.log(k_y) - math.log(k_x)
                    assert log_ratio(sampler.target, sampler.cut_law, x, y, cut) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("cls", [UniformCut, EntropyCut])
def test_the_mode_seeking_variant_only_climbs(cls):
    """At alpha = inf a step that is possible gains log p, and with uniform cuts only a mode absorbs."""
    sampler = make(cls, alpha=math.inf, temperature=0.5)
    space = enumerate_completions(random_table(5, 3), (1,), 4, 0.5)

    def log_accept(x, y, cut):
        return 0.0 if log_ratio(sampler.target, sampler.cut_law, x, y, cut) > 0 else -math.inf

    matrix = kernel_matrix(space, sampler, log_accept)
    moves = matrix - np.diag(np.diag(matrix))
    gain = space.logp[None, :] - space.logp[:, None]
    assert (gain[moves > 0] > 0).all()
    if cls is UniformCut:
        assert list(np.flatnonzero(moves.sum(axis=1) == 0)) == [int(space.logp.argmax())]


def test_the_published_ratio_is_over_the_overlap_and_the_cut_law_over_both_chains():
    for sampler in (make(UniformCut, alpha=3, rule="published"), make(EntropyCut, alpha=3, rule="published")):
        beta, shorter = getattr(sampler, "beta", None), 0
        space = enumerate_completions(random_table(7, 3), (2,), 4, sampler.proposal_temperature)
        for x in space.traces:
            for y in space.traces:
                for cut in range(min(len(x), len(y))):
                    if tuple(x.tokens[:cut]) != tuple(y.tokens[:cut]) or len(y) > len(x):
                        break
                    k_x, k_y = (kappa(t, beta, 0.0)[cut] for t in (x, y))
                    if k_x == 0:
                        continue
                    g_x, g_y = (3 * t.logp[cut : len(y)] - t.logq[cut : len(y)] for t in (x, y))
                    want = g_y.sum() - g_x.sum() + math.log(k_y) - math.log(k_x)
                    got = log_ratio(sampler.target, sampler.cut_law, x, y, cut, sampler.rule)
                    assert got == pytest.approx(want, abs=1e-12)
                    shorter += len(y) < len(x)
        assert shorter


@pytest.mark.parametrize("cls", [UniformCut, EntropyCut])
def test_negative_control_the_published_step_fails_the_same_check(cls):
    failures = []
    for seed in range(6):
        sampler = make(cls, alpha=4, rule="published")
        space = enumerate_completions(random_table(seed, 3), (1,), 4, sampler.proposal_temperature)
        states, matrix = published_matrix(space, sampler)
        pi = dict(zip(space.completions, space.power(4), strict=True))
        law = np.array([pi.get(x, 0.0) for x in states])
        assert np.allclose(matrix.sum(axis=1), 1, atol=1e-12)
        failures.append(np.abs(law @ matrix - law).max())
    assert min(failures) > 1e-4


def test_negative_control_dropping_the_cut_law_fails_the_same_check():
    sampler = make(UniformCut, alpha=4)
    space = enumerate_completions(random_table(1, 3), (1,), 4, sampler.proposal_temperature)

    def without_lengths(x, y, cut):
        return float(sampler.target.increments(y[cut:]).sum() - sampler.target.increments(x[cut:]).sum())

    pi = space.power(4)
    assert np.abs(pi @ kernel_matrix(space, sampler, without_lengths) - pi).max() > 1e-4
