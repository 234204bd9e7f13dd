"""What every engine promises, asked of each: same requests, same checks."""

import asyncio

import numpy as np
import pytest

import powercut as pc
from powercut.engines.protocol import Chain
from powercut.engines.transformers import TransformersEngine
from tests.checks import random_table
from tests.tiny import tiny_model

PROMPT = np.array([1, 2, 3])
STOP = 0


def table():
    return pc.TableEngine(random_table(1, 6), STOP)


def slots():
    return TransformersEngine(tiny_model("llama", vocab_size=6), stop_tokens=[STOP], slots=4, context_length=64)


def native():
    with pytest.warns(UserWarning, match="one request at a time"):
        return TransformersEngine(tiny_model("mistral-sliding", vocab_size=6), stop_tokens=[STOP], slots=4)


@pytest.fixture(params=[table, slots, native], ids=["table", "slots", "native"])
def engine(request):
    return request.param()


def extend(engine, *requests, keep_going=None):
    async def all_at_once():
        return await asyncio.gather(*(engine.extend(r, keep_going) for r in requests))

    return asyncio.run(all_at_once())


def ask(seed=0, context=PROMPT, n=12, **options):
    return pc.Request(context=context, max_new_tokens=n, seed=seed, top_k=options.pop("top_k", 4), **options)


def test_tokens_follow_from_the_request_alone(engine):
    alone = [extend(engine, ask(seed))[0] for seed in range(12)]
    together = extend(engine, *(ask(seed) for seed in range(12)))
    backwards = extend(engine, *(ask(seed) for seed in reversed(range(12))))[::-1]
    assert [t.tokens.tolist() for t in alone] == [t.tokens.tolist() for t in together]
    assert [t.tokens.tolist() for t in alone] == [t.tokens.tolist() for t in backwards]
    assert len({tuple(t.tokens) for t in alone}) > 6  # seeds matter
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a.logp, b.logp, atol=1e-4)
        np.testing.assert_allclose(a.entropy, b.entropy, atol=1e-4)


def test_a_trace_ends_at_its_stop_or_at_its_length(engine):
    traces = extend(engine, *(ask(seed, n=9) for seed in range(40)))
    for trace in traces:
        assert 1 <= len(trace) <= 9
        assert STOP not in trace.tokens[:-1]
        assert trace.finished == (trace.tokens[-1] == STOP)
        assert trace.finished or len(trace) == 9
    assert {t.finished for t in traces} == {True, False}


def test_further_stop_tokens_end_a_trace(engine):
    for trace in extend(engine, *(ask(seed, stop=(4,)) for seed in range(20))):
        assert not set(trace.tokens[:-1]) & {STOP, 4}
        assert trace.finished == (trace.tokens[-1] in (STOP, 4))


def test_no_stop_comes_before_min_new_tokens(engine):
    lengths = set()
    for kept in ([], [3], [3, 4, 5]):  # of the completion: it counts too
        context = np.concatenate((PROMPT, np.array(kept, dtype=np.int64)))
        early = 3 - len(kept)
        asked = (ask(seed, context, n=9, stop=(4,), min_new_tokens=3, prompt_length=len(PROMPT)) for seed in range(40))
        for trace in extend(engine, *asked):
            assert not set(trace.tokens[:early].tolist()) & {STOP, 4}
            assert trace.finished == (trace.tokens[-1] in (STOP, 4))
            lengths.add(len(trace) - early)
    assert {1, 2} <= lengths


def test_every_token_is_shown_once_in_order(engine):
    pieces = []
    (trace,) = extend(engine, ask(3), keep_going=lambda piece: pieces.append(piece) or True)
    assert pc.Trace.join(pieces) == trace


@pytest.mark.parametrize("allowed", [0, 1, 4])
def test_keep_going_false_ends_the_decode(engine, allowed):
    seen = []
    traces = extend(engine, *map(ask, range(40)))
    seed, whole = next((i, t) for i, t in enumerate(traces) if len(t) > 6)
    (trace,) = extend(engine, ask(seed), keep_going=lambda piece: seen.append(piece) or len(seen) <= allowed)
    assert len(seen) == allowed + 1
    shown = sum(map(len, seen))  # a piece may be several tokens
    assert shown <= len(trace) <= shown + 1
    np.testing.assert_array_equal(trace.tokens, whole.tokens[: len(trace)])
    assert not trace.finished


def test_laws_are_consistent(engine):
    """logq follows from logp where tau = 1, entropies are within log K, and g_t <= 0 for 1 <= 1/tau <= alpha."""
    for trace in extend(engine, *(ask(seed, temperature=1.0) for seed in range(5))):
        np.testing.assert_allclose(trace.logp, trace.logq, atol=1e-12)
        assert ((trace.entropy >= 0) & (trace.entropy <= np.log(4) + 1e-12)).all()
    for trace in extend(engine, *(ask(seed, temperature=0.5) for seed in range(5))):
        assert (2 * trace.logp - trace.logq <= 1e-12).all()
    for trace in extend(engine, *(ask(seed, top_k=1) for seed in range(3))):
        assert not trace.logp.any()
        assert not trace.entropy.any()


@pytest.mark.parametrize("least", [0, 3])
def test_rows_are_the_whole_laws_of_which_tokens_are_drawn(engine, least):
    for trace in extend(engine, *(ask(seed, rows=True, min_new_tokens=least) for seed in range(20))):
        rows = trace.rows
        assert rows.ids.shape == rows.logp.shape == (len(trace), 4)
        assert np.allclose(np.exp(rows.logp).sum(axis=1), 1, atol=1e-5)
        drawn = rows.ids == trace.tokens[:, None]
        assert (drawn.sum(axis=1) == 1).all()
        assert np.allclose(rows.logp[drawn], trace.logp, atol=1e-5)
        possible = np.where(np.isneginf(rows.logp), 0, rows.logp)
        assert np.allclose(-(np.exp(rows.logp) * possible).sum(axis=1), trace.entropy, atol=1e-4)
        assert not np.isfinite(rows.logp[:least][rows.ids[:least] == STOP]).any()
    assert all(trace.rows is None for trace in extend(engine, ask(1)))


def test_a_first_token_is_not_drawn_again(engine):
    [whole] = extend(engine, ask(3, rows=True))
    shown = []

    def keep_going(piece):
        shown.append(piece)
        return True

    before = engine.usage.decoded
    [trace] = extend(engine, ask(8, first=whole[:1], rows=True), keep_going=keep_going)
    assert trace[:1] == whole[:1]
    assert engine.usage.decoded - before == len(trace) - 1
    assert pc.Trace.join(shown).tokens.tolist() == trace.tokens.tolist()
    assert len(trace.rows.ids) == len(trace) <= 12
    [after] = extend(engine, ask(0, np.append(PROMPT, whole.tokens[0]), n=1))
    assert trace.entropy[1] == pytest.approx(after.entropy[0], abs=1e-4)


def test_a_first_token_may_be_all_there_is(engine):
    before = engine.usage.decoded
    stop = pc.Trace([STOP], [-1.0], [-0.5], [1.0])
    other = pc.Trace([3], [-1.0], [-0.5], [1.0])
    finished, full, unwanted = (
        extend(engine, ask(1, first=first, n=n), keep_going=lambda _, going=going: going)[0]
        for first, n, going in ((stop, 9, True), (other, 1, True), (other, 9, False))
    )
    assert (finished.tokens.tolist(), finished.finished) == ([STOP], True)
    assert (full.tokens.tolist(), full.finished) == (unwanted.tokens.tolist(), unwanted.finished) == ([3], False)
    assert engine.usage.decoded == before
    assert engine.idle == engine.concurrency


def test_usage_counts_every_token(engine):
    before = engine.usage.decoded
    traces = extend(engine, *(ask(seed) for seed in range(7)))
    assert engine.usage.decoded - before == sum(map(len, traces))


def test_a_cancelled_request_frees_its_place(engine):
    async def cancel_some():
        tasks = [asyncio.create_task(engine.extend(ask(seed, n=40), slow)) for seed in range(8)]
        await started.wait()
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    started = asyncio.Event()

    def slow(piece):
        started.set()
        return True

    results = asyncio.run(cancel_some())
    assert all(isinstance(r, pc.Trace | asyncio.CancelledError) for r in results)
    assert sum(isinstance(r, pc.Trace) for r in results) >= 4
    want = extend(engine, *(ask(seed, n=40) for seed in range(8)))  # and the engine is as good as new
    for got, whole in zip(results[1::2], want[1::2], strict=True):
        assert got.tokens.tolist() == whole.tokens.tolist()


def test_an_error_in_keep_going_reaches_the_caller_alone(engine):
    def bad(piece):
        raise ZeroDivisionError("mine")

    async def both():
        return await asyncio.gather(engine.extend(ask(1), bad), engine.extend(ask(2)), return_exceptions=True)

    error, trace = asyncio.run(both())
    assert isinstance(error, ZeroDivisionError)
    assert trace.tokens.tolist() == extend(engine, ask(2))[0].tokens.tolist()


@pytest.mark.parametrize("outcome", ["trace", "error", "cancelled"])
def test_a_chain_is_due_again_when_its_request_has_its_outcome(engine, outcome):
    due = []
    seed = next(i for i, t in enumerate(extend(engine, *map(ask, range(40)))) if len(t) > 6)

    def keep_going(piece):
        due.append(chain.due)
        if outcome == "error":
            raise ZeroDivisionError
        return True

    async def one():
        task = asyncio.create_task(engine.extend(ask(seed, chain=chain), keep_going))
        while not due:
            await asyncio.sleep(0)
        if outcome == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        return task.cancelled() or task.exception() or task.result()

    with Chain() as chain:
        result = asyncio.run(one())
        assert set(due) == {0}
        assert chain.due == 1
    kinds = {"trace": pc.Trace, "error": ZeroDivisionError, "cancelled": bool}
    assert isinstance(result, kinds[outcome])


@pytest.mark.parametrize(
    "sampler",
    [
        pc.Standard(max_new_tokens=8, top_k=4),
        pc.LowTemperature(alpha=2, max_new_tokens=8, top_k=4),
        pc.EntropyCut(alpha=2, steps=3, blocks=2, max_new_tokens=8, top_k=4),
        pc.UniformCut(alpha=2, steps=3, blocks=2, max_new_tokens=8, top_k=4, early_reject=False),
        pc.EntropyCut(alpha=2, steps=0, blocks=1, max_new_tokens=1, top_k=4),
    ],
    ids=lambda s: type(s).__name__,
)
def test_samplers_account_for_what_the_engine_did(engine, sampler):
    before = (engine.usage.decoded, engine.usage.prefilled)
    completions = pc.sample(engine, sampler, [[1], [1, 2, 3]], n=3, seed=4)
    assert [(c.prompt_index, c.sample_index) for c in completions] == [(i, j) for i in (0, 1) for j in range(3)]
    assert sum(c.stats.tokens_decoded for c in completions) == engine.usage.decoded - before[0]
    assert sum(c.stats.tokens_prefilled for c in completions) == engine.usage.prefilled - before[1]
    again = pc.sample(engine, sampler, [[1], [1, 2, 3]], n=2, seed=4)
    assert [c.tokens.tolist() for c in again] == [c.tokens.tolist() for c in completions if c.sample_index < 2]
    for c in completions:
        assert 0 <= c.stats.steps - len(c.steps) <= (c.stats.null_steps or 0)
        assert (c.stats.acceptance is None) == (not c.stats.steps)


def test_sampling_works_inside_a_running_loop(engine):
    sampler = pc.Standard(max_new_tokens=4, top_k=4)

    async def notebook():
        inside = pc.sample(engine, sampler, [[1]], seed=1)
        return inside, await pc.asample(engine, sampler, [[1]], seed=1)

    inside, awaited = asyncio.run(notebook())
    outside = pc.sample(engine, sampler, [[1]], seed=1)
    assert inside[0].trace.tokens.tolist() == awaited[0].trace.tokens.tolist() == outside[0].trace.tokens.tolist()
