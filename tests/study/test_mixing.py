"""Coupled chains: each is the sampler's kernel; the bounds cover the distance; a stuck chain is never converged."""

import asyncio
import math

import numpy as np
import pytest

import powercut as pc
from powercut.samplers.draw import Draw
from powercut.study.exact import EOS, enumerate_completions, kernel_matrix
from powercut.study.mixing.coupled import coupled_cuts, coupled_step
from powercut.study.mixing.measure import Plan, measure_starts
from powercut.study.mixing.report import findings
from powercut.study.paths import every_path
from powercut.study.tree.chain import distance

PROMPT = (2,)
OPTIONS = {"alpha": 2.0, "max_new_tokens": 2, "blocks": 1, "top_k": None, "refine_finished": True}
SAMPLERS = [pc.EntropyCut(beta=1, uniform_mix=0.3, **OPTIONS), pc.UniformCut(**OPTIONS)]


def probs(context):
    """Three tokens, the stop among them, whose law depends on all that stands before."""
    rng = np.random.default_rng(len(context) * 31 + 7 * sum(context[1:]))
    return rng.dirichlet(np.ones(3)) if len(context) > 1 else np.array([0.2, 0.5, 0.3])


def space_of(sampler):
    return enumerate_completions(probs, PROMPT, sampler.max_new_tokens, sampler.proposal_temperature)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["entropy", "uniform"])
def test_each_of_a_coupled_pair_moves_by_the_samplers_kernel(sampler):
    space = space_of(sampler)
    kernel = kernel_matrix(space, sampler)
    for i, j in ((0, 1), (1, 4), (2, 2), (5, 3)):
        first, second = space.traces[i], space.traces[j]

        async def step(engine, rng, first=first, second=second):
            async with Draw(engine, np.array(PROMPT), sampler.decoding) as draw:
                return await coupled_step(draw, sampler, first, second, rng)

        rows = np.zeros((2, len(space.traces)))
        for prob, moved in every_path(probs, step):
            for which, trace in enumerate(moved):
                rows[which, space.index[tuple(trace.tokens.tolist())]] += prob
        np.testing.assert_allclose(rows, kernel[[i, j]], rtol=0, atol=1e-12)


def test_chains_that_have_met_stay_together():
    sampler = SAMPLERS[0]
    trace = space_of(sampler).traces[2]

    async def together():
        engine = pc.TableEngine(probs, EOS)
        rng = np.random.default_rng(0)
        async with Draw(engine, np.array(PROMPT), sampler.decoding) as draw:
            first, second = trace, trace
            for _ in range(40):
                first, second = await coupled_step(draw, sampler, first, second, rng)
                assert first == second

    asyncio.run(together())


def test_cuts_agree_as_often_as_can_be():
    """False alarm: once in 10,000 for each share."""
    first, second = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.9])
    rng, draws = np.random.default_rng(3), 4000
    found = np.array([coupled_cuts(first, second, rng) for _ in range(draws)])
    error = 3.9 * math.sqrt(0.25 / draws)
    assert abs((found[:, 0] == found[:, 1]).mean() - 0.4) < error
    np.testing.assert_allclose(np.bincount(found[:, 0], minlength=3) / draws, first, atol=error)
    np.testing.assert_allclose(np.bincount(found[:, 1], minlength=3)[:2] / draws, second, atol=error)


def measured(model, sampler, plan):
    records = {}
    engine = pc.TableEngine(model, EOS)
    asyncio.run(measure_starts(engine, sampler, np.array(PROMPT), plan, plan.keys, records.__setitem__))
    return [records[key] for key in plan.keys]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["entropy", "uniform"])
def test_the_bound_covers_the_true_distance(sampler):
    """Of 95% confidence, from a fixed seed; the start is a draw by the proposal."""
    plan = Plan(starts=60, chains=2, steps=4, lag=30, most=60, seed=1)
    found = findings(measured(probs, sampler, plan), plan, "a table")
    space = space_of(sampler)
    law, kernel = np.exp([trace.logq.sum() for trace in space.traces]), kernel_matrix(space, sampler)
    bounds = [row["bound_upper"] for row in found.rows if "bound_upper" in row]
    assert len(bounds) == plan.most - plan.lag + 1
    for bound in bounds:
        assert distance(law, space.power(sampler.alpha)) <= bound
        law = law @ kernel
    assert bounds[-1] < 0.06
    assert "steps on" in found.says


def stuck(context):
    """The first token has two values, between which a large beta all but never moves: the third token jumps more."""
    return ([0.0, 0.5, 0.5], [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3])[len(context) - 1]


def test_a_chain_that_cannot_reach_half_of_its_target_is_not_called_converged():
    sampler = pc.EntropyCut(**(OPTIONS | {"max_new_tokens": 3, "beta": 100}))
    plan = Plan(starts=12, chains=2, steps=6, lag=5, most=20, seed=0)
    found = findings(measured(stuck, sampler, plan), plan, "a table")
    assert found.says.startswith("Not shown to converge")
    bounds = [row["bound"] for row in found.rows if "bound" in row]
    assert set(bounds) == {1.0}


def test_a_chain_that_never_moves_is_said_first():
    sampler = pc.UniformCut(**OPTIONS)
    plan = Plan(starts=4, chains=2, steps=4, lag=2, most=6, seed=0)
    found = findings(measured(lambda _: [0.0, 1.0, 0.0], sampler, plan), plan, "a table")
    assert found.says.startswith("No step changed the text: the chains have not moved, and nothing can have converged.")
    assert all(row.fields[1] == "∞" for row in found.sections[2].parts[0].table.rows)
