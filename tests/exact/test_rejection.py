"""Rejection sampling draws the power distribution exactly: by enumeration of its paths, and through ``pc.sample``."""

import numpy as np
import pytest

import powercut as pc
from powercut.study.exact import EOS, enumerate_completions
from powercut.study.paths import every_path
from tests.checks import chi_square_p, count, grid, random_table

ALARM = 1e-6
PROMPT = (1,)


@pytest.mark.parametrize(
    "settings", [*grid(alpha=[1, 2, 3.5], temperature=[None, 1.0]), *grid(alpha=[2, 3.5], temperature=[0.8])], ids=str
)
def test_one_try_is_accepted_with_the_power_of_its_probability(settings):
    """P(x is proposed and accepted) = q(x) p(x)^alpha / q(x): the acceptance rate is Z."""
    sampler = pc.Rejection(max_new_tokens=3, max_tries=1, **settings)
    for seed, vocab in ((1, 2), (2, 3)):
        probs = random_table(seed, vocab, zeros=True)
        space = enumerate_completions(probs, PROMPT, 3, sampler.proposal_temperature)
        law = np.zeros(len(space.completions))

        async def one(engine, rng, law=law):
            try:
                return (await sampler(engine, np.array(PROMPT), rng)).tokens
            except pc.BudgetError:
                return None

        for prob, tokens in every_path(probs, one):
            if tokens is not None:
                law[space.index[tuple(tokens.tolist())]] += prob
        assert np.abs(law - np.exp(sampler.alpha * space.logp)).max() < 1e-12


def test_draws_have_the_power_distribution_and_their_tries_tell_z():
    probs = random_table(48, 3)
    space = enumerate_completions(probs, PROMPT, 4, 0.25)
    engine = pc.TableEngine(probs, EOS)
    drawn = pc.sample(engine, pc.Rejection(alpha=4, max_new_tokens=4), [PROMPT], n=600, seed=3)
    assert chi_square_p(count(space, drawn), space.power(4)) > ALARM
    low = pc.sample(engine, pc.LowTemperature(alpha=4, max_new_tokens=4), [PROMPT], n=600, seed=3)
    assert chi_square_p(count(space, low), space.power(4)) < ALARM  # control
    tries = np.array([c.stats.tries for c in drawn])
    z = np.exp(4 * space.logp).sum()
    estimate = (len(tries) - 1) / (tries.sum() - 1)
    assert abs(estimate / z - 1) < 5 / np.sqrt(len(tries))  # five standard errors: chance below 1e-6
    assert abs(estimate / z**0.5 - 1) > 5 / np.sqrt(len(tries))  # control


def test_doomed_proposals_stop_early():
    """The first of eight tokens decides, the others are forced: what is rejected costs one token."""

    def probs(context):
        return np.full(8, 1 / 8) if len(context) == 1 else np.eye(8)[1]

    drawn = pc.sample(pc.TableEngine(probs, EOS), pc.Rejection(alpha=2, max_new_tokens=6, stop=()), [PROMPT], n=30)
    long = [c for c in drawn if len(c.tokens) == 6]  # token 0 is the stop
    assert len(long) > 20
    assert all(c.stats.tokens_decoded == c.stats.tries - 1 + 6 for c in long)


def test_a_bound_on_the_tries_is_an_error_and_no_other_law():
    probs = random_table(48, 3)
    with pytest.raises(pc.BudgetError, match="none of 1 proposals was accepted: raise max_tries, or lower alpha"):
        pc.sample(pc.TableEngine(probs, EOS), pc.Rejection(alpha=6, max_tries=1, max_new_tokens=8), [PROMPT], n=20)


@pytest.mark.parametrize("temperature", [0.2, 1.5])
def test_temperatures_without_a_bound_on_the_weight_are_refused(temperature):
    with pytest.raises(pc.SettingError, match="temperature must be from 1/alpha to 1 for rejection sampling"):
        pc.Rejection(alpha=4, temperature=temperature)
