"""A chain's last stage: the same states as its events show, null steps among them."""

import asyncio

import numpy as np
import pytest

import powercut as pc
from powercut.records import Result, as_result
from powercut.stage_log import StageLog
from powercut.strict_json import strict

OPTIONS = {"alpha": 3.0, "max_new_tokens": 12, "top_k": None, "blocks": 3, "steps": 6}


def probs(context):
    rng = np.random.default_rng(len(context) * 31 + 7 * sum(context[1:]))
    return rng.dirichlet([0.3, 1, 1, 1])


def logged(sampler, seed):
    log, events = StageLog(sampler), []

    def observe(event):
        log.add(event.stage, event.step, event.trace)
        events.append(event)

    engine = pc.TableEngine(probs, 0)
    c = asyncio.run(sampler(engine, np.array([9]), np.random.default_rng(seed), observe))
    return log.last(), events, c


@pytest.mark.parametrize("options", [{"refine_finished": True}, {}, {"skip_repeats": False}])
@pytest.mark.parametrize("seed", range(30))
def test_every_step_of_the_last_stage_is_there(options, seed):
    last, events, c = logged(pc.EntropyCut(beta=1, uniform_mix=0.2, **OPTIONS, **options), seed)
    assert len(last.logp) == len(last.length) == 7
    assert len(last.accepted) == len(last.changed) == len(last.decoded) == 6
    assert last.logp[-1] == pytest.approx(c.logp)
    assert last.length[-1] == len(c.tokens)
    assert last.stage == events[-1].stage
    own = [event.step for event in events if event.stage == last.stage and event.step is not None]
    assert sum(last.decoded) == sum(step.tokens_decoded for step in own)
    assert sum(last.changed) == sum(step.changed_at is not None for step in own)
    assert sum(last.accepted) == 6 - sum(not step.accepted for step in own)
    for before, after, changed in zip(last.logp, last.logp[1:], last.changed, strict=False):
        assert changed or before == after


def test_steps_that_differ_are_not_filled_up_with_null_ones():
    last, events, _ = logged(pc.EntropyCut(count="differing", uniform_mix=0.2, refine_finished=True, **OPTIONS), 0)
    assert len(last.accepted) == len([event for event in events if event.stage == last.stage and event.step])


def test_steps_are_as_many_as_all_that_are_counted():
    """Null steps are passed over across stages too: of all of them each is in one stage."""
    sampler = pc.EntropyCut(uniform_mix=0.2, refine_finished=True, **OPTIONS)
    crossed = 0
    for seed in range(40):
        last, events, c = logged(sampler, seed)
        before = [e.step for e in events if e.stage < last.stage and e.step is not None]
        made = sum(1 + step.nulls for step in before)
        crossed += made < sampler.steps * last.stage
        assert c.stats.steps == sampler.steps * 3
        assert len(last.accepted) == sampler.steps
    assert crossed > 5


def test_samplers_without_stages_have_none():
    assert logged(pc.Standard(max_new_tokens=12, top_k=None), 0)[0] is None
    assert logged(pc.EntropyCut(until=2, **OPTIONS), 0)[0] is None
    assert logged(pc.SMC(particles=4, moves=1, max_new_tokens=12, top_k=None), 0)[0] is None


def test_it_survives_the_disk():
    last, _, _ = logged(pc.UniformCut(**OPTIONS), 1)
    result = Result(id="x", correct=True, chain=last)
    assert as_result(strict(result)).chain == last
