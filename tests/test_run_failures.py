"""Many prompts at once: chains that fail, runs that are cancelled, and what is refused before anything is sampled."""

import asyncio
import logging
import os
import signal

import pytest

import powercut as pc
from tests.letters import Letters
from tests.watched import BAD, SAMPLER, Watched, collect, place, tokens


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


def test_errors_come_out_of_a_running_loop_too():
    async def notebook():
        with pytest.raises(pc.EngineError):
            pc.sample(Watched(), SAMPLER, [[BAD]])
        with pytest.raises(pc.SettingError):
            pc.sample(Watched(), SAMPLER, [[]])
        return True

    assert asyncio.run(notebook())
