"""Newcomers beside those who decode: in which pieces, who waits for whom, and how long anybody is held up."""

import asyncio
import types

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.engines.batching import batch as batching
from powercut.engines.batching.next_pass import FIRST_TOKENS, MOST_TOKENS, Pace, Part, next_pass
from powercut.engines.transformers import TransformersEngine
from tests.tiny import tiny_model

VOCAB = 40


def make(kind="llama", **options):
    model = tiny_model(kind, vocab_size=VOCAB, dtype=torch.float64, context=2048)
    return TransformersEngine(model, **({"slots": 8, "context_length": 256} | options))


def prompt(seed, length):
    return np.random.default_rng([seed, length]).integers(VOCAB, size=length)


def passes_of(engine):
    """What each pass was given from now on: (tokens of each part, how many draw)."""
    advance, seen = engine._cache.advance, []

    def watched(slots, tokens, drawing):
        seen.append(([len(new) for new in tokens], drawing))
        return advance(slots, tokens, drawing)

    engine._cache.advance = watched
    return seen


# The rule, on members that are nothing but counts


class Counts(types.SimpleNamespace):
    __eq__, __hash__ = object.__eq__, object.__hash__


def one(to_feed, **facts):
    return Counts(**({"to_feed": np.zeros(to_feed), "drawn": None, "cached": 0, "after": []} | facts))


def test_newcomers_that_nobody_waits_for_come_first_and_leave_their_last_token():
    ready, *newcomers = members = [one(1), one(300), one(300), one(2)]
    assert next_pass(members, Pace(), whole_contexts=False) == [Part(newcomers[0], 299), Part(newcomers[1], 213)]
    assert next_pass([ready], Pace(), whole_contexts=False) == [Part(ready, 1)]


def test_beside_those_who_decode_they_come_in_pieces():
    decoding, newcomer = members = [one(1, drawn="a token"), one(300)]
    assert next_pass(members, Pace(), whole_contexts=False) == [Part(decoding, 1), Part(newcomer, FIRST_TOKENS)]


def test_contexts_that_cannot_be_cut_come_one_at_a_time():
    decoding, newcomer, _ = members = [one(1, drawn="a token"), one(300), one(300)]
    assert next_pass(members, Pace(), whole_contexts=True) == [Part(decoding, 1), Part(newcomer, 300)]


def test_who_needs_what_another_computes_waits_for_it_only():
    first = one(300)
    second = one(300, after=[(first, 100)])
    third = one(50, after=[(first, 40), (second, 49)])
    assert [part.member for part in next_pass([first, second, third], Pace(), whole_contexts=False)] == [first]
    first.cached = 100
    assert next_pass([first, second, third], Pace(), whole_contexts=False)[1].member is second
    assert [part.member for part in next_pass([second, third], Pace(), whole_contexts=False)] == [second]  # it left
    second.cached = 49
    assert len(next_pass([second, third], Pace(), whole_contexts=False)) == 2


def test_a_pace_is_what_medians_allow():
    pace = Pace()
    assert pace.tokens == FIRST_TOKENS
    pace.took(1, 10)  # of no use as long as nobody knows what it would have taken without
    assert pace.tokens == FIRST_TOKENS
    for seconds in (1, 1, 9, 1):
        pace.took(seconds, 0)
    pace.took(1.5, 50)
    assert pace.tokens == 80  # 0.8 of a pass at a hundredth each
    pace.took(500, 50)
    pace.took(1.5, 50)
    assert pace.tokens == 80
    for _ in range(9):
        pace.took(1, 50)
    assert pace.tokens == MOST_TOKENS
    for _ in range(9):
        pace.took(100, 1)
    assert pace.tokens == 1


# The engine


@pytest.mark.parametrize("cost", [0.001, 0.01, 0.1])
def test_nobody_who_decodes_waits_longer_than_two_steps(monkeypatch, cost):
    """On a clock of its own: a pass takes 1, and ``cost`` more for each context token."""
    engine, now, waits = make(slots=16), [0.0], []
    monkeypatch.setattr(batching.time, "perf_counter", lambda: now[0])
    advance = engine._cache.advance

    def timed(slots, tokens, drawing):
        took = 1 + cost * sum(len(new) for new in tokens if len(new) > 1)
        now[0] += took
        waits.append(took)
        return advance(slots, tokens, drawing)

    async def decoders_then_newcomers():
        decoding = [asyncio.create_task(engine.extend(pc.Request([i], 200, seed=i))) for i in range(8)]
        while engine.usage.decoded < 40:
            await asyncio.sleep(0.001)
        for i in range(8):  # with one token to feed, these cost what a decoder does: they teach no pace
            await engine.extend(pc.Request([20 + i], 1, seed=i))
        before = len(waits)
        await asyncio.gather(*(engine.extend(pc.Request(prompt(i, 110), 1, seed=i)) for i in range(8)))
        assert not any(task.done() for task in decoding)
        after = len(waits)
        await asyncio.gather(*decoding)
        return waits[before:after]

    engine._cache.advance = timed
    passes = asyncio.run(decoders_then_newcomers())
    guess = next(i for i, took in enumerate(passes) if took > 1)
    assert max(passes[guess + 1 :]) <= 2
    # Eight prompts of 109 tokens: half of them fit in a pass that takes as long again as one without.
    assert sum(passes) <= 3 * (8 * 109 * cost + 2)


def test_newcomers_are_computed_together():
    engine = make()
    seen = passes_of(engine)

    async def all_at_once():
        await asyncio.gather(*(engine.extend(pc.Request(prompt(i, 110), 1, top_k=4)) for i in range(8)))

    asyncio.run(all_at_once())
    assert seen == [([109] * 4 + [76], 0), ([33] + [109] * 3, 0), ([1] * 8, 8)]


def test_newcomers_with_one_beginning_compute_it_once():
    engine, start = make(), prompt(0, 150)
    contexts = [np.concatenate((start, prompt(i, 20 + i))) for i in range(8)]

    async def all_at_once():
        return await asyncio.gather(*(engine.extend(pc.Request(c, 3, top_k=5, seed=1)) for c in contexts))

    traces = asyncio.run(all_at_once())
    own = sum(20 + i for i in range(8))
    assert 150 + own - 8 <= engine.usage.prefilled <= 150 + own  # their own may begin alike by chance
    assert engine.usage.prefilled == sum(trace.prefilled for trace in traces)
    assert engine.usage.reused == sum(map(len, contexts)) - engine.usage.prefilled
    for context, trace in zip(contexts, traces, strict=True):
        [alone] = asyncio.run(_extend(make(), pc.Request(context, 3, top_k=5, seed=1)))
        assert alone.tokens.tolist() == trace.tokens.tolist()
        np.testing.assert_allclose(alone.logp, trace.logp, atol=1e-9)


async def _extend(engine, *requests):
    return await asyncio.gather(*map(engine.extend, requests))


def test_a_context_that_another_begins_with_is_computed_once():
    engine, start = make(), prompt(0, 150)
    longer = np.concatenate((start, prompt(1, 20)))
    asyncio.run(_extend(engine, pc.Request(start, 3, top_k=5), pc.Request(longer, 3, top_k=5)))
    assert engine.usage.prefilled <= 150 + 20 + 1


def test_who_came_first_is_forgotten_once_nothing_of_it_is_needed():
    engine, kept = make(slots=2), []
    join = batching.Batch.join

    async def one_after_another():
        for i in range(2):
            await _extend(engine, *(pc.Request(prompt(i, 50), 1, top_k=5) for _ in range(2)))

    def watched(self, sequence):
        kept.append(join(self, sequence))
        return kept[-1]

    batching.Batch.join = watched
    try:
        asyncio.run(one_after_another())
    finally:
        batching.Batch.join = join
    assert [member.after for member in kept] == [[]] * 4


def test_a_newcomer_that_leaves_is_not_waited_for():
    engine = make(slots=3)

    async def leave():
        decoding = asyncio.create_task(engine.extend(pc.Request([1], 60)))
        while not engine.usage.decoded:
            await asyncio.sleep(0.001)
        first = asyncio.create_task(engine.extend(pc.Request(prompt(0, 200), 5)))
        second = asyncio.create_task(engine.extend(pc.Request(prompt(0, 200), 5)))
        while not engine.usage.prefilled > 1:
            await asyncio.sleep(0.001)
        first.cancel()
        return await second, await decoding

    second, _ = asyncio.run(leave())
    assert len(second) == 5
    assert engine.idle == 3


def test_newcomers_beside_decoders_have_the_laws_they_have_alone():
    requests = [pc.Request(prompt(i, n), 12, top_k=6, seed=i) for i, n in enumerate((3, 90, 1, 64, 65, 2, 33))]
    alone = [asyncio.run(_extend(make(), request))[0] for request in requests]

    async def one_after_another(engine):
        tasks = []
        for request in requests:
            tasks.append(asyncio.create_task(engine.extend(request)))
            before = engine.usage.decoded
            while engine.usage.decoded < before + 2 and not all(task.done() for task in tasks):
                await asyncio.sleep(0.001)
        return await asyncio.gather(*tasks)

    for kind_slots in (7, 3):
        for trace, want in zip(asyncio.run(one_after_another(make(slots=kind_slots))), alone, strict=True):
            assert trace.tokens.tolist() == want.tokens.tolist()
            np.testing.assert_allclose(trace.logp, want.logp, atol=1e-9)
