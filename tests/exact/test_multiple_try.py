"""Multiple-try Metropolis: several proposals from one cut leave the power distribution invariant.

The transition matrix is enumerated twice: from the formulas (all tuples of tries), and from the step itself, run once
for every outcome of its random choices.
"""

import numpy as np
import pytest

import powercut as pc
from powercut.samplers.draw import Draw
from powercut.study.exact import EOS, enumerate_completions, extension_matrix, tries_matrix
from powercut.study.paths import every_path
from tests.checks import chi_square_p, count, grid, random_table

ALARM = 1e-6
PROMPT = (1,)

SETTINGS = [
    *grid(cls=[pc.UniformCut], alpha=[1, 4], temperature=[None, 1.0, 2.5, 0.1]),
    *grid(cls=[pc.EntropyCut], alpha=[4], temperature=[None, 0.6, 2.5, 0.1], uniform_mix=[0.0, 0.3]),
    *grid(cls=[pc.EntropyCut], alpha=[2.5], beta=[0, 1], uniform_mix=[0.0, 1.0]),
]


def make(cls, **settings):
    return cls(**{"max_new_tokens": 3, "blocks": 1, "refine_finished": True} | settings)


def names(value):
    return "-".join(getattr(v, "__name__", str(v)) for v in value.values()) if isinstance(value, dict) else None


@pytest.mark.parametrize("tries", [2, 3])
@pytest.mark.parametrize("settings", SETTINGS, ids=names)
def test_the_power_distribution_is_invariant(settings, tries):
    for seed, vocab, horizon in ((1, 2, 3), (3, 2, 3), (2, 3, 2)):
        sampler = make(**settings, tries=tries, max_new_tokens=horizon)
        probs = random_table(seed, vocab, zeros=True)
        space = enumerate_completions(probs, PROMPT, horizon, sampler.proposal_temperature)
        pi, matrix = space.power(sampler.alpha), tries_matrix(space, sampler)
        assert matrix.min() >= -1e-15
        assert np.abs(pi @ matrix - pi).max() < 1e-12
        flow = pi[:, None] * matrix
        assert np.abs(flow - flow.T).max() < 1e-12  # and reversible


@pytest.mark.parametrize("early_reject", [True, False])
@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (pc.EntropyCut, {"tries": 2}),
        (pc.EntropyCut, {"tries": 2, "temperature": 1.0, "uniform_mix": 0.3}),
        (pc.UniformCut, {"tries": 2, "temperature": 2.5}),
        (pc.UniformCut, {"tries": 3, "max_new_tokens": 2}),
        (pc.UniformCut, {"tries": 1, "temperature": 0.5}),
    ],
    ids=str,
)
def test_the_step_is_that_matrix(cls, settings, early_reject):
    sampler = make(cls, alpha=3, early_reject=early_reject, **settings)
    horizon, probs = sampler.max_new_tokens, random_table(3, 2)
    space = enumerate_completions(probs, PROMPT, horizon, sampler.proposal_temperature)
    got = np.zeros((len(space.traces),) * 2)
    early = 0.0
    for i, x in enumerate(space.traces):

        async def step(engine, rng, x=x):
            async with Draw(engine, np.array(PROMPT), sampler.decoding) as draw:
                if sampler.kernel.nulls(x, 1, rng):
                    return x[:0], None
                return await sampler.kernel.step(draw, x, horizon, rng, differs=True)

        for prob, (tail, step_made) in every_path(probs, step):
            if step_made is None:
                got[i, i] += prob
                continue
            y = x.splice(step_made.cut, tail) if step_made.accepted else x
            got[i, space.index[tuple(y.tokens.tolist())]] += prob
            early += prob * step_made.early
    assert np.abs(got - tries_matrix(space, sampler)).max() < 1e-12
    assert (early > 0) == (early_reject and sampler.target.monotone and horizon == 3)


def never_rejected(log_ratios):
    """W / W: x is not counted."""
    return np.zeros(len(log_ratios))


def each_by_itself(log_ratios):
    """w_j / w_x, as if the selected try had been the only one."""
    return log_ratios


def without_cut_law(target, law, x, y, cut):
    return float(target.increments(y[cut:]).sum() - target.increments(x[cut:]).sum())


@pytest.mark.parametrize(
    "wrong",
    [
        {"log_accept": never_rejected},
        {"log_accept": each_by_itself},
        {"ratio": without_cut_law},
    ],
    ids=lambda wrong: next(iter(wrong.values())).__name__,
)
@pytest.mark.parametrize("cls", [pc.UniformCut, pc.EntropyCut])
def test_negative_controls_fail_the_same_check(cls, wrong):
    sampler = make(cls, alpha=2, temperature=1.0, tries=2)
    space = enumerate_completions(random_table(7, 2), PROMPT, 3, 1.0)
    pi = space.power(2)
    assert np.abs(pi @ tries_matrix(space, sampler) - pi).max() < 1e-12
    assert np.abs(pi @ tries_matrix(space, sampler, **wrong) - pi).max() > 1e-2


@pytest.mark.parametrize("cls", [pc.UniformCut, pc.EntropyCut])
def test_chains_have_their_law(cls):
    """One step, so that the law is far from where it tends to: a matter of the matrix alone."""
    sampler = make(cls, alpha=4, tries=3, steps=1, max_new_tokens=2)
    probs = random_table(48, 3)
    space = enumerate_completions(probs, PROMPT, 2, 0.25)
    start = (np.ones(1) @ extension_matrix(None, space)).ravel()
    law = start @ tries_matrix(space, sampler)
    drawn = pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=3000, seed=1)
    assert chi_square_p(count(space, drawn), law) > ALARM
    alone = start @ tries_matrix(space, make(cls, alpha=4, max_new_tokens=2))
    assert chi_square_p(count(space, drawn), alone) < ALARM  # control: one try


def test_tries_that_the_cut_law_rules_out_are_rejected():
    """All jumps of the current completion vanish to the power of beta, so that it is cut anywhere; a try has one."""

    def probs(context):
        if len(context) == 1:
            return [0, 1 - 1e-5, 1e-5]
        return [1, 0, 0] if context[1] == 1 else [0.4, 0.3, 0.3]

    for tries in (1, 3):
        for early_reject in (True, False):
            sampler = make(
                pc.EntropyCut, alpha=1, beta=100, temperature=50, steps=10, tries=tries, early_reject=early_reject
            )
            drawn = pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=25)
            assert -np.inf in {step.log_accept for c in drawn for step in c.steps}
            assert not any(step.accepted for c in drawn for step in c.steps if step.log_accept == -np.inf)
