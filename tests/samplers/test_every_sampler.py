"""What holds for every sampler in the registry: seeds, order, cost, short prompts, failures, cancellation.

On the table engine and on a tiny transformer with fewer slots than particles.
"""

import asyncio
import gc
import math

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.engines.transformers import TransformersEngine
from powercut.samplers import SAMPLERS
from powercut.study.exact import EOS
from tests.checks import random_table
from tests.tiny import tiny_model

SHORT = {"max_new_tokens": 6, "top_k": 4}
SMALL = {
    "standard": [{}],
    "low-temperature": [{}],
    "entropy-cut": [{"blocks": 2, "steps": 3}, {"blocks": 2, "steps": 3, "tries": 3}],
    "uniform-cut": [{"blocks": 3, "steps": 2, "look_ahead": 3, "refine_finished": True}],
    "smc": [{"particles": 5, "block_size": 2}, {"particles": 5, "block_size": 2, "ess_threshold": 1.0, "moves": 2}],
    "power-smc": [{"particles": 5, "block_size": 1, "ramp_tokens": 4, "ess_threshold": 1.0}],
    "tmc": [{"block_size": 2, "candidates": 5, "keep": 3, "rollouts": 2, "horizon": 3}],
    "rejection": [{"alpha": 1.5}],
    "best-of-n": [{"n": 5}, {"budget": 17}],
}
CASES = [(name, settings) for name, several in SMALL.items() for settings in several]
each_sampler = pytest.mark.parametrize(
    ("name", "settings"), CASES, ids=["-".join((name, *settings)) for name, settings in CASES]
)


def build(name, settings, **others):
    # The number of blocks need not divide these few tokens; how it is rounded has a test of its own.
    if name.endswith("cut") and SHORT["max_new_tokens"] != others.get("max_new_tokens", SHORT["max_new_tokens"]):
        settings = settings | {"blocks": 1}
    return SAMPLERS[name](**SHORT | settings | others)


class Table(pc.TableEngine):
    """A table that ends requests in scrambled order; fails, hangs or stops at once where it is told to."""

    def __init__(self, order=0, *, concurrency=64, fails=(), hangs=()):
        super().__init__(random_table(8, 4), EOS, concurrency=concurrency)
        self.order, self.fails, self.hangs = np.random.default_rng(order), fails, hangs
        self.requests = 0
        self.hung = False

    async def extend(self, request, keep_going=None):
        """The prompt's first token says whether the request counts among those that fail or hang."""
        troubled = request.context[0] == 3
        self.requests += troubled
        number = self.requests if troubled else None
        if number in self.fails:
            raise pc.EngineError("the model returned NaN: try dtype float32")
        for _ in range(self.order.integers(12)):
            await asyncio.sleep(0)
        if number in self.hangs:
            self.hung = True
            await asyncio.Event().wait()
        return await super().extend(request, keep_going)


def transformer(slots=3):
    return TransformersEngine(_model(), stop_tokens=[0], slots=slots, context_length=24)


def _model(cache=[]):  # noqa: B006  # one for all tests
    if not cache:
        cache.append(tiny_model("llama", vocab_size=6, dtype=torch.float64, seed=10, layers=1, scale=0.5))
    return cache[0]


ENGINES = {"table": Table, "transformer": transformer}
each_engine = pytest.mark.parametrize("engine", ENGINES)


def draw(engine, sampler, prompts=((1,),), **options):
    return pc.sample(engine, sampler, prompts, **options)


def shown(completions):
    """What must repeat: tokens, steps and weights. Wall time does not; nor, to the last bit, a batch's arithmetic."""
    weights = [(c.stats.log_z or 0.0, *c.stats.ess) for c in completions]
    return [
        (c.prompt_index, c.sample_index, c.tokens.tolist(), [(s.stage, s.cut, s.accepted) for s in c.steps],
         c.stats.candidates, np.round(w, 9).tolist())
        for c, w in zip(completions, weights, strict=True)
    ]  # fmt: skip


def test_every_sampler_is_tried():
    assert SMALL.keys() == SAMPLERS.keys()
    assert all(SMALL.values())


@each_engine
@each_sampler
def test_seeds_repeat_and_differ(name, settings, engine):
    sampler = build(name, settings)
    first = shown(draw(ENGINES[engine](), sampler, n=4, seed=3))
    assert first == shown(draw(ENGINES[engine](), sampler, n=4, seed=3))
    assert first != shown(draw(ENGINES[engine](), sampler, n=4, seed=4))
    assert len({tuple(tokens) for _, _, tokens, *_ in first}) > 1  # places differ too


@each_engine
@each_sampler
def test_a_completion_depends_on_nothing_beside_it(name, settings, engine):
    """Neither on how many are drawn at once, nor on the other prompts, nor on which request ends first."""
    sampler = build(name, settings)
    prompts = [[1], [2, 1]]
    together = shown(draw(ENGINES[engine](), sampler, prompts, n=2, seed=1))
    alone = [Table(9, concurrency=1), transformer(1)][engine == "transformer"]
    assert shown(draw(alone, sampler, prompts, n=2, seed=1, concurrency=1)) == together
    assert shown(draw(ENGINES[engine](), sampler, prompts[:1], n=2, seed=1)) == together[:2]
    if engine == "table":
        for order in (1, 2):
            assert shown(draw(Table(order), sampler, prompts, n=2, seed=1)) == together


@each_engine
@each_sampler
def test_the_cost_is_the_engines_own_count(name, settings, engine):
    sampler = build(name, settings)
    engine = ENGINES[engine]()
    completions = draw(engine, sampler, [[1], [2, 1, 1]], n=2)
    assert sum(c.stats.tokens_decoded for c in completions) == engine.usage.decoded
    assert sum(c.stats.tokens_prefilled for c in completions) == engine.usage.prefilled
    for c in completions:
        assert c.stats.tokens_decoded >= len(c.tokens)
        assert c.stats.seconds > 0
        assert 0 <= c.stats.steps - len(c.steps) <= (c.stats.null_steps or 0)
        assert (c.stats.acceptance is None) == (not c.stats.steps)
        assert (c.stats.log_z is None) == (not name.endswith("smc"))
        assert bool(c.stats.ess) == name.endswith("smc")
        assert (c.stats.candidates is None) == (name != "best-of-n")


@each_engine
@each_sampler
def test_completions_are_what_the_model_can_say(name, settings, engine):
    """Of the right length, finished if and only if they end with the stop, with the model's own log-probabilities."""
    sampler = build(name, settings)
    engine = ENGINES[engine]()
    for c in draw(engine, sampler, [[1], [2, 1]], n=2):
        assert 1 <= len(c.tokens) <= sampler.max_new_tokens
        assert c.finished == (c.tokens[-1] == EOS)
        assert c.finished or len(c.tokens) == sampler.max_new_tokens
        assert EOS not in c.tokens[:-1]
        assert math.isfinite(c.logp)
        assert c.logp <= 0
        assert (c.trace.entropy >= 0).all()


@each_engine
@each_sampler
def test_one_token_is_a_completion(name, settings, engine):
    engine = ENGINES[engine]()
    for c in draw(engine, build(name, settings, max_new_tokens=1), n=3):
        assert len(c.tokens) == 1
    assert engine.idle == engine.concurrency


@each_engine
@each_sampler
def test_a_stop_at_once_is_a_completion(name, settings, engine):
    """Every token of the vocabulary stops."""
    engine = ENGINES[engine]()
    completions = draw(engine, build(name, settings, stop=tuple(range(6))), n=3)
    assert all(len(c.tokens) == 1 and c.finished for c in completions)
    assert sum(c.stats.tokens_decoded for c in completions) == engine.usage.decoded


@each_engine
@each_sampler
def test_a_forced_model_has_one_completion(name, settings, engine):
    """With top_k 1 nothing is left to chance: every sampler returns the same, and all laws are 1."""
    sampler = build(name, settings, top_k=1)
    engine = ENGINES[engine]()
    [c] = draw(engine, sampler)
    [greedy] = draw(engine, pc.Standard(**SHORT | {"top_k": 1}))
    assert c.tokens.tolist() == greedy.tokens.tolist()
    assert c.logp == 0
    assert not c.trace.entropy.any()
    if c.stats.log_z is not None:
        assert c.stats.log_z == pytest.approx(0, abs=1e-12)


def outcomes(engine, sampler, prompts, **options):
    """All that a run yields; and what the event loop complained of, which should be nothing."""
    complaints = []

    async def all_of_them():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        found = [outcome async for outcome in pc.astream(engine, sampler, prompts, **options)]
        for failure in (outcome for outcome in found if isinstance(outcome, pc.Failure)):
            failure.error.with_traceback(None)
            gc.collect()  # a task whose error nobody asked for complains when it goes
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        return found

    found = asyncio.run(all_of_them())
    assert complaints == []
    assert engine.idle == engine.concurrency
    return found


@pytest.mark.parametrize("fails", [(1,), (3,), tuple(range(1, 500))], ids=["first", "third", "all"])
@each_sampler
def test_a_failure_inside_is_that_completions_alone(name, settings, fails):
    sampler = build(name, settings)
    engine = Table(fails=fails)
    found = outcomes(engine, sampler, [[1], [3], [2]])
    failures = [o for o in found if isinstance(o, pc.Failure)]
    if engine.requests >= fails[0] and "look_ahead" not in settings:  # which may not need the proposal that failed
        [failure] = failures
        assert failure.prompt_index == 1
        assert isinstance(failure.error, pc.EngineError)
        assert str(failure.error) == "the model returned NaN: try dtype float32"
    good = sorted((o for o in found if isinstance(o, pc.Completion)), key=lambda c: c.prompt_index)
    assert [c for c in shown(good) if c[0] != 1] == [
        c for c in shown(draw(Table(), sampler, [[1], [3], [2]])) if c[0] != 1
    ]


@pytest.mark.parametrize("hangs", [(1,), (3,)], ids=["first", "third"])
@each_sampler
def test_a_cancelled_run_leaves_the_engine_idle(name, settings, hangs):
    engine = Table(hangs=hangs)
    sampler = build(name, settings)

    async def cancelled():
        run = asyncio.create_task(pc.asample(engine, sampler, [[3]] * 2))
        while not engine.hung and not run.done():
            await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert len(asyncio.all_tasks()) == 1

    if hangs == (3,) and name in ("standard", "low-temperature"):
        sampler, hangs = build(name, settings), (2,)
        engine.hangs = hangs
    asyncio.run(cancelled())
    assert engine.idle == engine.concurrency
    again = draw(engine, sampler, [[1]], n=2)  # and fit for work
    assert shown(again) == shown(draw(Table(), sampler, [[1]], n=2))


@each_sampler
def test_a_cancelled_run_frees_the_transformers_slots(name, settings):
    engine = transformer()
    sampler = build(name, settings)

    async def cancelled():
        run = asyncio.create_task(pc.asample(engine, sampler, [[1]] * 4, n=5))
        while engine.usage.decoded < 3 and not run.done():
            await asyncio.sleep(0.001)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        while engine.idle < engine.concurrency:  # its own thread ends the pass it is in
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(cancelled(), 60))
    assert shown(draw(engine, sampler)) == shown(draw(transformer(), sampler))


@each_sampler
def test_an_observer_that_raises_fails_its_completion_alone(name, settings):
    engine = Table()

    def observe(i, j, event):
        if i == 1:
            raise ZeroDivisionError("mine")

    found = outcomes(engine, build(name, settings), [[1], [2]], observe=observe)
    assert {o.prompt_index: type(getattr(o, "error", None)) for o in found} == {0: type(None), 1: ZeroDivisionError}


@each_sampler
def test_events_show_a_completion_grow(name, settings):
    """Stages count up to the announced number, and traces are what the model can say so far."""
    sampler = build(name, settings)
    events = []
    [c] = draw(Table(), sampler, observe=lambda i, j, event: events.append(event))
    assert events
    assert all(0 <= event.stage < event.stages for event in events)
    assert [event.stage for event in events] == sorted(event.stage for event in events)
    assert all(1 <= len(event.trace) <= sampler.max_new_tokens for event in events)
    if name != "best-of-n":  # whose best is rarely its last
        assert len({event.stages for event in events}) == 1
    if not name.endswith("smc"):  # which shows its heaviest particle
        assert any(event.trace == c.trace for event in events)
