"""Who decodes together and when: chains that ask again, event loops that come and go."""

import asyncio
import sys
import threading

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.engines.batching import batch as batching
from powercut.engines.protocol import Chain
from powercut.engines.transformers import TransformersEngine
from tests.tiny import tiny_model

VOCAB = 40


def make(kind="llama", *, dtype=torch.float64, **options):
    model = tiny_model(kind, vocab_size=VOCAB, dtype=dtype)
    return TransformersEngine(model, **({"slots": 3, "context_length": 96} | options))


def ask(seed=0, n=3, **options):
    return pc.Request(context=[1, 2, 3], max_new_tokens=n, seed=seed, **options)


def extend(engine, *requests, keep_going=None):
    async def all_at_once():
        return await asyncio.gather(*(engine.extend(r, keep_going) for r in requests))

    return asyncio.run(all_at_once())


# Chains that ask again


def passes(engine, hops, chains=8, patience=60):
    """Passes and requests a pass while chains make one request after another, ``hops`` tasks away from the engine."""
    rows = []
    advance = engine._cache.advance

    def counted(slots, tokens, drawing):
        if drawing:
            rows.append(drawing)
        return advance(slots, tokens, drawing)

    engine._cache.advance = counted

    async def hop(k, work):
        return await (asyncio.create_task(hop(k - 1, work)) if k else work)

    async def one(i):
        with Chain() as mine:
            for step in range(25):
                request = ask(100 * i + step, n=1 + (3 * i + 5 * step) % 4, chain=mine)
                await hop(hops, engine.extend(request))

    async def all_chains():
        await asyncio.gather(*(one(i) for i in range(chains)))

    asyncio.run(all_chains())
    return rows


@pytest.fixture
def patient(monkeypatch):
    """However busy the machine: only the chains decide."""
    monkeypatch.setattr(batching, "PATIENCE", 60)


def test_tasks_in_a_samplers_path_cost_no_passes(patient):
    counts = [len(passes(make(slots=8), hops)) for hops in (0, 2, 4, 6)]
    assert counts == counts[:1] * 4
    assert counts[0] == max(sum(1 + (3 * i + 5 * step) % 4 for step in range(25)) for i in range(8))


def test_nobody_waits_for_a_chain_that_is_closed_or_at_work(patient):
    """With a patience of a minute this would not end in a test's time if anybody did."""
    engine = make(slots=2)

    async def both():
        short, long = Chain(), Chain()
        with short:
            await asyncio.gather(engine.extend(ask(1, n=1, chain=short)), engine.extend(ask(2, n=1)))
        await asyncio.gather(engine.extend(ask(3, n=20, chain=long)), engine.extend(ask(4, n=1)))
        long.close()
        return await engine.extend(ask(5))

    assert len(asyncio.run(asyncio.wait_for(both(), 50))) == 3


def test_a_chain_busy_elsewhere_holds_up_the_others_for_a_moment_only(monkeypatch):
    monkeypatch.setattr(batching, "PATIENCE", 0.001)
    engine = make(slots=2)

    async def both():
        busy = Chain()
        other = asyncio.create_task(engine.extend(ask(1, n=50)))
        await engine.extend(ask(2, n=1, chain=busy))
        return busy.due, await other  # though it never asks again

    due, trace = asyncio.run(both())
    assert (due, len(trace)) == (1, 50)


# What chains leave behind


def opened(cache, context, chain=None, filled=()):
    """A slot in which a request of ``chain`` decoded ``filled``, and how much of its context it found there."""
    slot, held = cache.open(pc.Request(context=context, max_new_tokens=1, chain=chain))
    if new := [*context[held:], *filled]:
        cache.advance([slot], [np.array(new)], 1)
    cache.close(slot, len(context), wanted=True)
    return slot, held


def test_a_newcomer_takes_the_slot_of_a_chain_that_has_ended():
    cache, alive, ended = make(slots=2)._cache, Chain(), Chain()
    first, _ = opened(cache, [1, 2, 3, 4], alive)
    second, _ = opened(cache, [5, 6, 7], ended)
    third, _ = opened(cache, [8, 9])
    assert third is first is not second  # the longest at rest, as both may ask again
    opened(cache, [1, 2, 3, 4], alive)
    ended.close()
    for context in ([10, 11], [12, 13]):
        slot, _ = opened(cache, context)
        assert slot is second
    assert opened(cache, [1, 2, 3, 4, 5], alive) == (first, 4)


@pytest.mark.parametrize("ends", [True, False], ids=["ended", "alive"])
def test_only_what_a_chain_may_ask_for_is_kept_beside_newcomers(ends):
    """A pass takes longer for each token that llama.cpp holds, whoever it is of."""
    cache, chain = make(slots=1)._cache, Chain()
    opened(cache, [1, 2, 3, 4], chain, filled=[5])
    opened(cache, [1, 2, 6, 7], chain, filled=[8])
    if ends:
        chain.close()
    slot, held = opened(cache, [1, 2, 3, 4, 5, 9])
    assert held == (5 if ends else 2)  # of what the store held, before that is forgotten or overwritten
    assert [int(cache._filled[sequence]) for sequence in (slot.row, slot.store)] == [6, 0 if ends else 5]
    opened(cache, [10])
    assert [int(cache._filled[sequence]) for sequence in (slot.row, slot.store)] == [1, 0]


# Event loops that come and go


def test_an_engine_at_work_in_another_loop_says_so():
    engine = make()

    async def busy():
        task = asyncio.create_task(engine.extend(pc.Request(context=[1], max_new_tokens=60)))
        await asyncio.sleep(0)
        with pytest.raises(pc.EngineError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(engine.extend(pc.Request(context=[1], max_new_tokens=1))))
        return await task

    assert len(asyncio.run(busy())) == 60


def test_a_loop_keeps_the_engine_between_two_requests(monkeypatch):
    """Whoever asks in between waits, and is refused when it goes on: its own requests are not harmed."""
    monkeypatch.setattr(batching, "HANDOVER", 60)
    engine = make()

    async def one_after_another():
        await engine.extend(ask())
        other = asyncio.create_task(asyncio.to_thread(extend, engine, ask()))
        while not other.done():
            assert len(await engine.extend(ask(n=20))) == 20
        with pytest.raises(pc.EngineError, match="at work in another event loop"):
            await other

    asyncio.run(one_after_another())


def test_a_loop_that_rests_gives_the_engine_away(monkeypatch):
    monkeypatch.setattr(batching, "HANDOVER", 0)
    engine = make()

    async def turns():
        want = await engine.extend(ask())
        for _ in range(3):
            [got] = await asyncio.to_thread(extend, engine, ask())
            assert got == want == await engine.extend(ask())

    asyncio.run(turns())


def test_threads_at_once_get_what_they_asked_for_or_one_clear_error():
    """Whole runs, single requests and cancelled ones, switched between as often as Python can."""
    engine, seeds = make(slots=2), range(8)
    alone = [extend(engine, ask(seed))[0].tokens.tolist() for seed in seeds]
    outcomes = []

    async def several(rng):
        tasks = {seed: asyncio.create_task(engine.extend(ask(seed))) for seed in rng.integers(8, size=3).tolist()}
        if rng.random() < 0.3:
            await asyncio.sleep(0)
            next(iter(tasks.values())).cancel()
        outcomes.extend(zip(tasks, await asyncio.gather(*tasks.values(), return_exceptions=True), strict=True))

    async def rounds(rng):
        for _ in range(5):
            await several(rng)

    def work(k):
        rng = np.random.default_rng(k)
        for _ in range(10):
            asyncio.run(rounds(rng) if rng.random() < 0.5 else several(rng))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for seed, outcome in outcomes:
        if isinstance(outcome, pc.EngineError):
            assert "in another event loop" in str(outcome)
        elif not isinstance(outcome, asyncio.CancelledError):
            assert outcome.tokens.tolist() == alone[seed]
    assert len(outcomes) >= 3 * 10
    assert engine.idle == engine.concurrency


def test_one_loop_after_another():
    engine = make()
    want = extend(engine, ask(1), ask(2))
    for _ in range(3):
        for got, same in zip(extend(engine, ask(1), ask(2)), want, strict=True):
            assert got.tokens.tolist() == same.tokens.tolist()


@pytest.mark.parametrize("closed", [True, False])
def test_a_loop_that_was_stopped_in_the_middle_leaves_the_engine_whole(closed):
    engine = make()
    want = extend(engine, *map(ask, range(5)))
    stopped = asyncio.new_event_loop()

    async def until_it_decodes():
        tasks = [stopped.create_task(engine.extend(ask(seed, n=80))) for seed in range(5)]
        while engine.usage.decoded < before + 6:
            await asyncio.sleep(0)
        return tasks

    before = engine.usage.decoded
    tasks = stopped.run_until_complete(until_it_decodes())
    if closed:
        stopped.close()
    for got, same in zip(extend(engine, *map(ask, range(5))), want, strict=True):
        assert got.tokens.tolist() == same.tokens.tolist()
    assert engine.idle == engine.concurrency
    if not closed:  # and goes on later
        done, _ = stopped.run_until_complete(asyncio.wait(tasks))
        assert all("another event loop" in str(task.exception()) for task in done)
        stopped.close()
    assert len(extend(engine, *map(ask, range(5)))) == 5
