"""Many prompts at once: order, seeds, failures, cancellation and what an observer sees, over the table engine."""

import asyncio
import dataclasses
import itertools
import logging
import os
import signal

import numpy as np
import pytest

import powercut as pc
from powercut.run import run
from powercut.study.exact import EOS
from tests.checks import random_table
from tests.letters import Letters

BAD = 2
"""The table fails in contexts that begin with this token."""

SAMPLER = pc.EntropyCut(alpha=2, steps=3, blocks=2, max_new_tokens=6, refine_finished=True)
SAMPLERS = [
    pc.Standard(max_new_tokens=5),
    pc.LowTemperature(alpha=3, max_new_tokens=5),
    SAMPLER,
    pc.EntropyCut(alpha=4, steps=4, blocks=3, max_new_tokens=9, early_reject=False),
    pc.UniformCut(alpha=4, steps=4, blocks=3, max_new_tokens=9),
    pc.UniformCut(alpha=float("inf"), temperature=0.5, steps=4, blocks=3, max_new_tokens=9),
    pc.EntropyCut(steps=0, blocks=1, max_new_tokens=1),
]
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)


class Watched(pc.TableEngine):
    """A table that counts the requests it works on, remembers the order of prompts, and can be held still."""

    def __init__(self, concurrency=64, eos=EOS):
        table = random_table(3, 4)

        def probs(context):
            return [0.5, 0.5, 0.5, 0.5] if context[0] == BAD else table(context)

        super().__init__(probs, eos, concurrency=concurrency)
        self.busy = self.most_busy = 0
        self.opened = []
        self.held = False

    async def extend(self, request, keep_going=None):
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        self.opened.append(tuple(request.context.tolist()))
        try:
            if self.held:
                await asyncio.Event().wait()
            return await super().extend(request, keep_going)
        finally:
            self.busy -= 1


def collect(engine, prompts, sampler=SAMPLER, **options):
    """Everything that astream yields, in the order in which it does."""

    async def all_of_them():
        return [outcome async for outcome in pc.astream(engine, sampler, prompts, **options)]

    return asyncio.run(asyncio.wait_for(all_of_them(), 20))


def place(outcome):
    return outcome.prompt_index, outcome.sample_index


def tokens(completions):
    return {place(c): c.tokens.tolist() for c in completions}


# Order, n, seeds


@each_sampler
def test_completions_come_prompt_by_prompt(sampler):
    completions = pc.sample(Watched(), sampler, [[1], [3, 1], (0, 1, 3)], n=2)
    assert [place(c) for c in completions] == list(itertools.product(range(3), range(2)))
    assert all(c.text is None for c in completions)


def test_astream_yields_each_completion_once():
    outcomes = collect(Watched(), [[1]] * 5, n=3)
    assert sorted(map(place, outcomes)) == list(itertools.product(range(5), range(3)))


def test_astream_yields_as_chains_finish():
    engine = Watched(concurrency=1, eos=())

    async def first():
        outcome = await anext(pc.astream(engine, pc.Standard(max_new_tokens=2), [[1]] * 10))
        return outcome, engine.usage.decoded

    outcome, decoded = asyncio.run(first())
    assert place(outcome) == (0, 0)
    assert decoded < 20  # the others had not all been drawn by then


@each_sampler
def test_a_sample_depends_on_the_seed_and_its_place_alone(sampler):
    prompts = [[1], [1], [3, 0, 1]]
    whole = tokens(pc.sample(Watched(), sampler, prompts, n=4, seed=7))
    for count, n in [(1, 1), (2, 3), (3, 2)]:
        part = tokens(pc.sample(Watched(concurrency=1), sampler, prompts[:count], n=n, seed=7))
        assert part == {(i, j): whole[i, j] for i in range(count) for j in range(n)}


def test_places_and_seeds_draw_differently():
    sampler = pc.Standard(max_new_tokens=12)
    engine = Watched(eos=())
    drawn = [c.tokens.tolist() for s in (0, 1) for c in pc.sample(engine, sampler, [[1], [1]], n=2, seed=s)]
    assert len({tuple(t) for t in drawn}) == 8
    assert drawn[:4] == [
        c.tokens.tolist() for c in pc.sample(engine, sampler, [[1], [1]], n=2)
    ]  # seed 0 is the default


@pytest.mark.parametrize("seed", [0, 2**63, 2**200, np.int64(5)])
def test_any_whole_seed_will_do(seed):
    assert len(pc.sample(Watched(), pc.Standard(max_new_tokens=2), [[1]], seed=seed)) == 1


def test_no_prompts_no_completions():
    assert pc.sample(Watched(), SAMPLER, [], n=3) == []
    assert collect(Watched(), iter([])) == []


def test_prompts_may_come_from_any_iterable():
    listed = tokens(pc.sample(Watched(), SAMPLER, [[1], [3]]))
    assert tokens(pc.sample(Watched(), SAMPLER, (p for p in ([1], np.array([3]))))) == listed


# Concurrency


@pytest.mark.parametrize(("concurrency", "chains"), [(1, 4), (3, 10), (64, 10)])
def test_no_more_chains_at_once_than_the_engine_decodes(concurrency, chains):
    engine = Watched(concurrency, eos=())  # with stops a chain may be between two requests when the last one starts
    pc.sample(engine, SAMPLER, [[1], [3]], n=chains // 2)
    assert engine.most_busy == min(concurrency, chains)
    assert engine.busy == 0


def test_chains_start_in_order():
    engine = Watched(concurrency=2, eos=())
    pc.sample(engine, pc.Standard(max_new_tokens=3), [[3, i] for i in (0, 1, 2, 3)], n=2)
    assert engine.opened == [(3, i) for i in (0, 0, 1, 1, 2, 2, 3, 3)]


# Failures


def test_a_failure_leaves_the_other_chains_as_they_are():
    outcomes = collect(Watched(), [[1], [BAD], [3]], n=2)
    failures = [o for o in outcomes if isinstance(o, pc.Failure)]
    assert sorted(map(place, failures)) == [(1, 0), (1, 1)]
    for failure in failures:
        assert isinstance(failure.error, pc.EngineError)
        assert "not a probability vector" in str(failure.error)
    alone = tokens(pc.sample(Watched(), SAMPLER, [[1], [1], [3]], n=2))
    completed = tokens(o for o in outcomes if isinstance(o, pc.Completion))
    assert completed == {(i, j): alone[i, j] for i in (0, 2) for j in (0, 1)}


@pytest.mark.parametrize("concurrency", [1, 64])
def test_sample_raises_the_failure_and_leaves_nothing_running(concurrency):
    engine = Watched(concurrency)
    with pytest.raises(pc.EngineError, match="not a probability vector"):
        pc.sample(engine, SAMPLER, [[BAD], *[[1]] * 20])
    assert engine.busy == 0
    assert len(engine.opened) < 21 * 8


def test_an_observer_that_raises_fails_its_chain_alone():
    def observe(i, j, event):
        if i == 1:
            raise ZeroDivisionError("mine")

    outcomes = collect(Watched(), [[1], [3]], observe=observe)
    kinds = {place(o): type(getattr(o, "error", None)) for o in outcomes}
    assert kinds == {(0, 0): type(None), (1, 0): ZeroDivisionError}


def test_concurrency_bounds_the_chains():
    engine = Watched(concurrency=8)
    collect(engine, [[1]], n=12, concurrency=3)
    assert engine.most_busy == 3


def test_a_token_budget_starts_no_chain_after_it_is_spent():
    free = Watched()
    whole = tokens(collect(free, [[1]], n=12))
    engine = Watched()
    outcomes = collect(engine, [[1]], n=12, concurrency=2, max_total_tokens=free.usage.decoded // 2)
    done = [o for o in outcomes if isinstance(o, pc.Completion)]
    late = [o for o in outcomes if isinstance(o, pc.Failure)]
    assert done
    assert late
    assert all(isinstance(o.error, pc.BudgetError) and "max_total_tokens" in str(o.error) for o in late)
    assert {o.sample_index for o in done} == set(range(len(done)))  # in order, and none cut short
    assert all(tokens(done)[key] == whole[key] for key in tokens(done))
    longest = max(c.stats.tokens_decoded for c in done)
    assert engine.usage.decoded < free.usage.decoded // 2 + 2 * longest


def test_a_token_budget_counts_the_tokens_of_its_own_run_alone():
    class Shared(Watched):
        """Another run decodes a lot on the same engine meanwhile."""

        async def extend(self, request, keep_going=None):
            self.usage.decoded += 1_000_000
            return await super().extend(request, keep_going)

    outcomes = collect(Shared(), [[1]], n=4, concurrency=1, max_total_tokens=100_000)
    assert all(isinstance(outcome, pc.Completion) for outcome in outcomes)


def test_a_token_budget_counts_what_is_decoded():
    """Not the tokens by which proposals leave the text, which were known: one short of it another chain starts."""
    settings = {"n": 4, "concurrency": 1}
    first, second, *_ = sorted(collect(Watched(), [[1]], **settings), key=lambda c: c.sample_index)
    assert first.steps
    spent = first.stats.tokens_decoded
    for budget, count in ((spent, 1), (spent + 1, 2), (spent + second.stats.tokens_decoded, 2)):
        outcomes = collect(Watched(), [[1]], **settings, max_total_tokens=budget)
        assert sum(isinstance(outcome, pc.Completion) for outcome in outcomes) == count


def test_a_notebooks_stop_button_ends_the_sampling_and_leaves_the_engine_usable():
    class Stopping(Watched):
        """Is interrupted, as a notebook does it, while it decodes."""

        stopped = cancelled = False

        async def extend(self, request, keep_going=None):
            if not self.stopped:
                self.stopped = True
                os.kill(os.getpid(), signal.SIGINT)
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled = True
            return await super().extend(request, keep_going)

    engine = Stopping()

    async def cell():
        return pc.sample(engine, pc.Standard(max_new_tokens=4), [[1]])

    loop = asyncio.new_event_loop()  # as a notebook's, which leaves SIGINT to Python
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(cell())
        assert engine.cancelled
        [completion] = loop.run_until_complete(cell())
        assert len(completion.tokens)
    finally:
        signal.signal(signal.SIGINT, before)
        loop.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 10**9}, "n must be a whole number of at most 1,000,000 (got 1000000000)"),
        ({"concurrency": 10**30}, "concurrency must be a whole number of at most 1,000,000 (got one of 31 digits)"),
        ({"seed": -(10**5000)}, "seed must be a whole number of at least 0 (got one of 5001 digits)"),
        ({"observe": 7}, "observe must be a function (got 7)"),
        ({"chat": "yes"}, "chat must be True or False or None (got 'yes')"),
        ({"skip_bad": None}, "skip_bad must be True or False (got None)"),
        ({"match": 10**5000}, "match must be completions of another sampler (got one of 5001 digits)"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_at_once(options, message):
    with pytest.raises(pc.SettingError) as error:
        pc.sample(Watched(), SAMPLER, [[1]], **options)
    assert str(error.value).startswith(message)


def test_a_request_that_the_engine_drops_is_a_failure():
    class Dropping(Watched):
        async def extend(self, request, keep_going=None):
            raise asyncio.CancelledError

    (outcome,) = collect(Dropping(), [[1]])
    assert isinstance(outcome.error, pc.EngineError)


@pytest.mark.parametrize("error", [ValueError("no such token"), pc.EngineError("the server is away")], ids=str)
def test_a_text_that_cannot_be_had_costs_no_completion(error, monkeypatch):
    class Broken(Letters):
        async def decode(self, tokens):
            raise error

    async def all_of_them():
        return [o async for o in pc.astream(engine, pc.Standard(max_new_tokens=2), ["b"])]

    notes = []
    monkeypatch.setattr(logging.getLogger("powercut"), "warning", lambda text, *values: notes.append(text % values))
    engine = Watched()
    engine.text = Broken("abcd")
    [outcome] = asyncio.run(asyncio.wait_for(all_of_them(), 30))
    assert isinstance(outcome, pc.Completion)
    assert outcome.text is None
    assert len(outcome.tokens) == 2
    assert notes == [f"prompt 0, sample 0 is kept without its text, as tokens: {error}"]


# Cancellation


def test_closing_the_stream_cancels_what_is_running():
    engine = Watched(concurrency=4)

    async def first_only():
        stream = pc.astream(engine, SAMPLER, [[1]] * 12)
        outcome = await anext(stream)
        engine.held = True
        for _ in range(200):  # every worker runs into the wall
            await asyncio.sleep(0)
        assert engine.busy == 4
        started = len(engine.opened)
        await stream.aclose()
        assert engine.busy == 0
        assert len(engine.opened) == started
        assert len(asyncio.all_tasks()) == 1
        return outcome

    assert isinstance(asyncio.run(first_only()), pc.Completion)


def test_cancelling_asample_cancels_the_chains():
    engine = Watched(concurrency=3)
    engine.held = True

    async def cancelled():
        task = asyncio.create_task(pc.asample(engine, SAMPLER, [[1]] * 9))
        while engine.busy < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.busy == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(cancelled())
    assert len(engine.opened) == 3


# Bad input


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ([[1], [3], []], "prompt 2: the prompt is empty"),
        ([[1], "text"], "prompt 1: this engine has no tokenizer: give the prompt as token ids"),
        ([[1], [1, -1]], "prompt 1: .*got -1"),
        ([1, 3], "prompt 0: .*not int"),
        ([[1], None], "prompt 1: .*not NoneType"),
        ("text", "put the prompt into a list"),
        ("", "put the prompt into a list"),
        (7, r"prompts must be a list of prompts: put the prompt into a list \(got 7\)"),
        (None, "got None"),
        ([[10**30]], r"prompt 0: .* \(got one of 31 digits\)"),
    ],
)
def test_a_bad_prompt_is_refused_before_anything_is_sampled(prompts, words):
    engine = Watched()
    with pytest.raises(pc.SettingError, match=words) as error:
        pc.sample(engine, SAMPLER, prompts, n=2)
    assert "\n" not in str(error.value)
    assert engine.usage.decoded == 0
    assert engine.opened == []


def test_what_the_engine_cannot_serve_is_refused_before_anything_is_sampled():
    engine = Watched()
    with pytest.raises(pc.SettingError, match="prompt 0: stop='x': this table has no text"):
        pc.sample(engine, pc.Standard(stop="x"), [[1]])
    assert engine.opened == []


@pytest.mark.parametrize(
    "options",
    [{"n": 0}, {"n": -1}, {"n": 1.5}, {"n": "2"}, {"n": True}, {"seed": -1}, {"seed": 0.5}, {"seed": None}],
    ids=str,
)
def test_a_bad_count_or_seed_is_refused(options):
    engine = Watched()
    ((name, value),) = options.items()

    async def in_time():
        await asyncio.wait_for(pc.asample(engine, SAMPLER, [[1]], **options), 30)

    with pytest.raises(pc.SettingError, match=rf"^{name} must be .*at least \d \(got {value!r}\)$"):
        asyncio.run(in_time())
    assert engine.opened == []


# Running loops


def test_sample_works_inside_a_running_loop():
    async def notebook():
        return pc.sample(Watched(), SAMPLER, [[1]], n=2)

    assert tokens(asyncio.run(notebook())) == tokens(pc.sample(Watched(), SAMPLER, [[1]], n=2))


def test_errors_come_out_of_a_running_loop_too():
    async def notebook():
        with pytest.raises(pc.EngineError):
            pc.sample(Watched(), SAMPLER, [[BAD]])
        with pytest.raises(pc.SettingError):
            pc.sample(Watched(), SAMPLER, [[]])
        return True

    assert asyncio.run(notebook())


def test_run_gives_back_any_result():
    async def work():
        return 5

    async def nested():
        return run(work())

    assert run(work()) == asyncio.run(nested()) == 5


# Text


def test_text_is_shown_up_to_the_first_stop_string():
    engine = Watched(eos=())
    engine.text = Letters("abcd")
    engine.check = lambda request: None  # the table itself looks for no text: the completion runs on behind the stop
    engine.extend = lambda request, keep_going=None: pc.TableEngine(random_table(3, 4)).extend(
        pc.Request(request.context, request.max_new_tokens, seed=request.seed), keep_going
    )
    for completion in pc.sample(engine, pc.Standard(max_new_tokens=12, stop=("c", "ad")), ["bd"], n=10):
        whole = Letters("abcd").decode_now(completion.tokens)
        ends = [at for at in (whole.find("c"), whole.find("ad")) if at >= 0]
        assert completion.text == whole[: min(ends, default=12)]


# What an observer sees


@each_sampler
@pytest.mark.parametrize("concurrency", [1, 64])
def test_events_retell_each_chain(sampler, concurrency):
    events = {}

    def observe(i, j, event):
        events.setdefault((i, j), []).append(event)

    engine = Watched(concurrency)
    completions = pc.sample(engine, sampler, [[1], [3]], n=3, seed=1, observe=observe)
    horizons = getattr(sampler, "horizons", (sampler.max_new_tokens,))
    assert set(events) == {place(c) for c in completions}
    for completion in completions:
        seen = events[place(completion)]
        current = pc.Trace.empty()
        for event in seen:
            assert event.stages == len(horizons)
            assert len(event.trace) <= horizons[event.stage]
            assert event.trace.finished or len(event.trace) == horizons[event.stage]
            if event.step is None:
                current = current.splice(len(current), event.proposal)
            else:
                assert event.step.stage == event.stage
                assert 0 <= event.step.tokens_decoded <= len(event.proposal) > 0  # some of it was known
                if event.step.accepted:
                    current = current.splice(event.step.cut, event.proposal)
            assert event.trace == current
        assert current == completion.trace
        assert tuple(e.step for e in seen if e.step) == completion.steps
        assert [e.stage for e in seen] == sorted(e.stage for e in seen)
        decoded = sum(len(e.proposal) if e.step is None else e.step.tokens_decoded for e in seen)
        assert decoded == completion.stats.tokens_decoded
        openings = [e.stage for e in seen if e.step is None]
        assert openings == list(range(len(openings)))
        assert seen[0].step is None


def test_every_stage_has_all_its_steps_when_finished_completions_are_refined():
    counts = {}

    def observe(i, j, event):
        key = j, event.stage, event.step is not None
        counts[key] = counts.get(key, 0) + 1

    sampler = dataclasses.replace(SAMPLER, skip_repeats=False)  # so that null steps are made too
    completions = pc.sample(Watched(), sampler, [[1]], n=8, observe=observe)
    assert {c.stats.steps for c in completions} == {SAMPLER.steps * 2}
    for j, stage in itertools.product(range(8), range(2)):
        assert counts[j, stage, True] == SAMPLER.steps


def test_a_chain_that_is_finished_at_the_end_of_a_stage_stops_there():
    sampler = pc.EntropyCut(alpha=2, steps=2, blocks=3, max_new_tokens=6, skip_repeats=False)
    stages = []
    for c in pc.sample(Watched(), sampler, [[1]], n=30):
        last = c.steps[-1].stage
        assert c.stats.steps == 2 * (last + 1)
        assert c.finished or last == 2
        stages.append(last)
    assert set(stages) == {0, 1, 2}
