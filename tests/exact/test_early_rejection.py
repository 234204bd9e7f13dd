"""Early rejection changes nothing but the cost: the same chains, step for step and bit for bit."""

import itertools
import math

import numpy as np
import pytest

import powercut as pc
from powercut.study.exact import EOS, enumerate_completions
from powercut.target import LogRatio
from tests.checks import grid, random_table

SETTINGS = [
    *grid(cls=[pc.UniformCut], alpha=[1, 4, math.inf], temperature=[0.5], uniform_mix=[0.0]),
    *grid(cls=[pc.EntropyCut], alpha=[4], temperature=[None, 0.6, 1.0], uniform_mix=[0.0, 0.3]),
    *grid(cls=[pc.EntropyCut], alpha=[4], temperature=[None], uniform_mix=[0.1], tries=[3]),
    *grid(cls=[pc.UniformCut], alpha=[4], temperature=[0.6], tries=[2]),
    *grid(cls=[pc.EntropyCut], alpha=[math.inf], temperature=[0.3, 3.0], uniform_mix=[0.2]),
    *grid(cls=[pc.EntropyCut, pc.UniformCut], alpha=[4], length_bonus=[-0.5, 0.1], min_new_tokens=[3]),
    *grid(cls=[pc.UniformCut], alpha=[4], length_bonus=[0.1], tries=[2]),
]


def chains(settings, early_reject, probs, observe=None, **more):
    cls, *_ = settings.values()
    rest = {k: v for k, v in settings.items() if k != "cls"} | more
    sampler = cls(steps=6, blocks=4, max_new_tokens=24, refine_finished=True, early_reject=early_reject, **rest)
    return pc.sample(pc.TableEngine(probs, EOS), sampler, [(1,)], n=16, seed=5, observe=observe)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_chains_are_identical_step_for_step(settings):
    if settings["alpha"] == 1:
        settings = settings | {"temperature": 1.0}
    paths = {True: {}, False: {}}
    saved = ended = 0
    probs = random_table(21, 5)
    results = {
        early: chains(
            settings, early, probs, lambda i, j, e, early=early: paths[early].setdefault(j, []).append(e.trace)
        )
        for early in (True, False)
    }
    assert paths[True] == paths[False]  # every trace after every event, to the last bit
    for fast, slow in zip(results[True], results[False], strict=True):
        assert fast.trace == slow.trace
        assert len(fast.steps) == len(slow.steps)
        for a, b in zip(fast.steps, slow.steps, strict=True):
            assert (a.stage, a.cut, a.accepted) == (b.stage, b.cut, b.accepted)
            assert a.early or a.log_accept == b.log_accept
            assert a.log_accept >= b.log_accept
            assert not (a.early and a.accepted)
            assert not b.early
            assert a.tokens_decoded <= b.tokens_decoded
            ended += a.early
        saved += slow.stats.tokens_decoded - fast.stats.tokens_decoded
    assert saved > 0
    assert ended >= 15  # of 16 chains of 24 steps, null ones among them


@pytest.mark.parametrize("temperature", [0.1, 2.0])
@pytest.mark.parametrize("cls", [pc.UniformCut, pc.EntropyCut])
def test_where_the_bound_does_not_hold_proposals_run_to_the_end(cls, temperature):
    sampler = cls(alpha=4, temperature=temperature, steps=8, blocks=2, max_new_tokens=12)
    assert not sampler.target.monotone
    for c in pc.sample(pc.TableEngine(random_table(2, 4), EOS), sampler, [(1,)], n=20):
        assert not any(step.early for step in c.steps)


@pytest.mark.parametrize("alpha", [1, 1.3, 3, 4, 7, 10, 49, 1e6])
def test_the_default_temperature_is_always_within_the_bound(alpha):
    assert pc.UniformCut(alpha=alpha).target.monotone


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_partial_ratio_never_rises(settings):
    cls, *_ = settings.values()
    rest = {k: v for k, v in settings.items() if k != "cls"} | {"max_new_tokens": 5, "blocks": 1}
    if rest["alpha"] == 1:
        rest["temperature"] = 1.0
    sampler = cls(**rest)
    space = enumerate_completions(random_table(6, 3), (1,), 5, sampler.proposal_temperature)
    rng = np.random.default_rng(0)
    for _ in range(300):
        x, y = (space.traces[i] for i in rng.integers(len(space.traces), size=2))
        cut = next((t for t, (a, b) in enumerate(zip(x.tokens, y.tokens, strict=False)) if a != b), None)
        if cut is None or sampler.cut_law.probs(x.entropy)[cut] == 0:
            continue
        ratio = LogRatio(sampler.target, sampler.cut_law, x, cut, room=5 - cut)
        values = [ratio.add(y[t : t + 1]) for t in range(cut, len(y))]
        assert all(b <= a for a, b in itertools.pairwise(values))
        whole = LogRatio(sampler.target, sampler.cut_law, x, cut)
        assert whole.add(y[cut:]) == values[-1]  # however the proposal arrives, the same last value
