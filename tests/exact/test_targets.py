"""Targets with a shape, exact: by enumeration, and in law. False-alarm probability of each test: ALARM.

Chains are drawn with few steps, whose exact law is enumerated, and by enumeration many steps have the target's.
"""

from dataclasses import replace

import numpy as np
import pytest

import powercut as pc
from powercut.engines.transformers import TransformersEngine
from powercut.study.exact import EOS, enumerate_completions, kernel_matrix, procedure_law
from tests.checks import ALARM, chi_square_p, count, draws_to_tell, grid, random_table
from tests.tiny import tiny_model

PROMPT = (1,)
LONG = {"blocks": 1, "refine_finished": True}


def space_of(sampler, probs, horizon=None):
    horizon = sampler.max_new_tokens if horizon is None else horizon
    return enumerate_completions(
        probs, PROMPT, horizon, sampler.proposal_temperature, sampler.top_k, sampler.min_new_tokens
    )


def draw(sampler, probs, n):
    return pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=n)


def law_of(sampler, space, pi):
    """The law that a sampler has exactly; with as many steps as it takes, that of its target ``pi``."""
    if isinstance(sampler, pc.Rejection):
        return pi
    assert np.abs(procedure_law([space], replace(sampler, steps=32)) - pi).sum() / 2 < 1e-3
    return procedure_law([space], sampler)


@pytest.mark.parametrize(
    "settings", grid(cls=[pc.UniformCut, pc.EntropyCut], min_new_tokens=[1, 2, 3], uniform_mix=[0.0, 0.3]), ids=str
)
def test_a_base_model_without_early_stops_keeps_its_power_invariant(settings):
    cls, *_ = settings.values()
    sampler = cls(alpha=3, max_new_tokens=4, blocks=1, top_k=3, **{k: v for k, v in settings.items() if k != "cls"})
    for seed, vocab in [(1, 3), (2, 4)]:
        space = space_of(sampler, random_table(seed, vocab))
        assert min(map(len, space.completions)) == sampler.min_new_tokens + 1  # the stop counts
        matrix, pi = kernel_matrix(space, sampler), space.power(3)
        assert np.abs(pi @ matrix - pi).max() < 1e-12


@pytest.mark.parametrize(
    "settings",
    grid(cls=[pc.UniformCut, pc.EntropyCut], length_bonus=[-2.0, 0.4, 3.0], temperature=[None, 0.6], uniform_mix=[0.2]),
    ids=str,
)
def test_a_bonus_on_length_is_in_the_ratio(settings):
    cls, bonus, *_ = settings.values()
    sampler = cls(alpha=3, max_new_tokens=3, blocks=1, **{k: v for k, v in settings.items() if k != "cls"})
    for seed, vocab in [(3, 2), (8, 3)]:
        space = space_of(sampler, random_table(seed, vocab))
        matrix, pi = kernel_matrix(space, sampler), space.power(3, bonus)
        assert np.abs(pi @ matrix - pi).max() < 1e-12
        assert np.abs(space.power(3) @ matrix - space.power(3)).max() > 1e-4  # control


@pytest.mark.parametrize("bonus", [-1.0, 1.0])
@pytest.mark.parametrize("cls", [pc.UniformCut, pc.EntropyCut, pc.Rejection])
def test_completions_with_a_bonus_have_the_targets_law(cls, bonus):
    probs = random_table(12, 3)
    long = {} if cls is pc.Rejection else {"steps": 8, "uniform_mix": 0.3, **LONG}
    sampler = cls(alpha=2, max_new_tokens=3, length_bonus=bonus, **long)
    space = space_of(sampler, probs)
    law = law_of(sampler, space, space.power(2, bonus))
    without = law_of(replace(sampler, length_bonus=0.0), space, space.power(2))
    drawn = draw(sampler, probs, draws_to_tell(without, law))
    assert chi_square_p(count(space, drawn), law) > ALARM
    assert chi_square_p(count(space, drawn), without) < ALARM  # control
    if cls is pc.Rejection:  # tries tell Z over the bound on a weight; five standard errors: chance below 1e-6
        tries = np.array([c.stats.tries for c in drawn])
        z = np.exp(
            2 * space.logp + bonus * np.array([len(x) - (3 if bonus > 0 else 0) for x in space.completions])
        ).sum()
        assert abs((len(tries) - 1) / (tries.sum() - 1) / z - 1) < 5 / np.sqrt(len(tries))


NO_EARLY_STOP = {"alpha": 2, "max_new_tokens": 4, "min_new_tokens": 2, "top_k": 3}
SAMPLERS = [
    pc.UniformCut(steps=6, **NO_EARLY_STOP, **LONG),
    pc.EntropyCut(steps=6, uniform_mix=0.3, **NO_EARLY_STOP, **LONG),
    pc.Rejection(**NO_EARLY_STOP),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_completions_without_early_stops_have_the_power_distribution(sampler):
    probs = random_table(5, 4)
    space = space_of(sampler, probs)
    law = law_of(sampler, space, space.power(2))
    # control: the power of the plain law, restricted to what is long enough, is another law
    plain = enumerate_completions(probs, PROMPT, 4, 0.5, sampler.top_k)
    logp = np.array([plain.traces[plain.index[x]].logp.sum() for x in space.completions])
    control = np.exp(2 * logp) / np.exp(2 * logp).sum()
    drawn = draw(sampler, probs, draws_to_tell(control, law))
    assert chi_square_p(count(space, drawn), law) > ALARM
    assert chi_square_p(count(space, drawn), control) < ALARM
    for c in drawn[:50]:  # with the laws of the model without stops
        want = space.traces[space.index[tuple(c.tokens.tolist())]]
        for name in ("logp", "logq", "entropy"):
            np.testing.assert_allclose(getattr(c.trace, name), getattr(want, name), atol=1e-12)


def test_where_all_that_can_follow_are_stops_one_line_says_so():
    probs = lambda context: np.array([0.9, 0.1])  # noqa: E731
    with pytest.raises(
        pc.EngineError, match=r"^after 1 tokens all that can follow \(top_k=1\) are stops, which min_new"
    ) as e:
        draw(pc.Standard(max_new_tokens=4, min_new_tokens=2, top_k=1), probs, n=1)
    assert "\n" not in str(e.value)
    [c] = draw(pc.Standard(max_new_tokens=4, min_new_tokens=3, top_k=2), probs, n=1)
    assert c.tokens.tolist()[:3] == [1, 1, 1]
    assert c.trace.logp[:3].tolist() == [0, 0, 0]


def test_the_transformers_engine_says_so_too():
    model = tiny_model("llama", vocab_size=4)
    engine = TransformersEngine(model, stop_tokens=[0, 1, 2, 3], slots=2, context_length=16)
    for top_k in (None, 2):
        sampler = pc.Standard(max_new_tokens=4, min_new_tokens=1, top_k=top_k)
        with pytest.raises(pc.EngineError, match=rf"^after 1 tokens all that can follow \(top_k={top_k}\) are stops"):
            pc.sample(engine, sampler, [PROMPT])
    assert engine.idle == 2
    [c] = pc.sample(engine, pc.Standard(max_new_tokens=4, top_k=2), [PROMPT])  # and the engine goes on
    assert len(c.tokens) == 1
