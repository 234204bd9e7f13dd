"""Requests of the vllm engine, without vLLM: its probe, stops, ends, cancelling, failing and closing."""

import asyncio
import threading
from collections import Counter

import numpy as np
import pytest

import powercut as pc
from powercut.engines.protocol import Chain
from powercut.errors import EngineError, SettingError
from tests.checks import random_table
from tests.engines.fake_vllm import FakeLLM, close, fake_engine
from tests.engines.test_http_law import check_early_stops


@pytest.fixture
def engine(monkeypatch):
    engine = fake_engine(monkeypatch)
    yield engine
    close(engine)


def ask(seed=0, n=12, context=(1, 2, 3), **options):
    options.setdefault("top_k", 4)
    return pc.Request(context=np.array(context), max_new_tokens=n, seed=seed, **options)


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (ask(top_k=None), "top_k=None.*give a top_k"),
        (ask(top_k=7), "vocabulary of 6"),
        (ask(top_k=6), "max_logprobs=6"),
        (ask(n=62), "context_length=64"),
        (ask(temperature=0.001), "temperature 0.001"),
        (ask(temperature=2.5), "temperature 2.5"),
        (ask(stop=("x",)), "no tokenizer"),
        (ask(context=(1, 6)), "outside 0..5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_that_cannot_be_served(engine, request_, match):
    with pytest.raises(SettingError, match=match):
        engine.check(request_)
    with pytest.raises(SettingError):
        asyncio.run(engine.extend(request_))


def test_the_probe_tells_raw_log_probabilities_from_processed_ones(monkeypatch):
    for raw in (True, False):
        engine = fake_engine(monkeypatch, FakeLLM(raw=raw), capacity={"max_logprobs": 6})
        try:
            if raw:
                engine.probe()
            else:
                with pytest.raises(EngineError, match="logprobs_mode='raw_logprobs'"):
                    engine.probe()
        finally:
            close(engine)


@pytest.mark.parametrize("interval", [1, 3])
def test_a_stop_that_comes_too_early_is_drawn_again(monkeypatch, interval):
    llm = FakeLLM(4, interval=interval, pause=0.0)
    llm.probs = random_table(22, 4)
    engine = fake_engine(monkeypatch, llm, capacity={"vocab_size": 4, "slots": 16})
    drawn = check_early_stops(engine, llm.probs)
    assert len(llm.seen) > drawn  # some were asked to go on
    close(engine)


def test_deltas_of_several_tokens_are_cut_at_a_stop(monkeypatch):
    """vLLM is not told of stop strings: what it drew behind one is work done, and no part of the trace."""

    class Digits:
        has_chat_template = False

        def decode_now(self, tokens):
            return "".join(map(str, tokens))

    llm = FakeLLM(interval=4, pause=0)
    engine = fake_engine(monkeypatch, llm, text=Digits())
    try:
        plain = [asyncio.run(engine.extend(ask(seed))) for seed in range(30)]
        before = engine.usage.decoded
        assert before == sum(map(len, plain))
        stopped = [asyncio.run(engine.extend(ask(seed, stop=("3",)))) for seed in range(30)]
    finally:
        close(engine)
    for trace, whole in zip(stopped, plain, strict=True):
        tokens = whole.tokens.tolist()
        end = tokens.index(3) + 1 if 3 in tokens else len(tokens)
        assert trace.tokens.tolist() == tokens[:end]
        assert trace.finished == (tokens[end - 1] in (0, 3))
        np.testing.assert_array_equal(trace.logp, whole.logp[:end])
    assert engine.usage.decoded - before > sum(map(len, stopped))


def test_an_aborted_request_returns_what_was_ready(monkeypatch):
    llm = FakeLLM(interval=3)
    engine = fake_engine(monkeypatch, llm)
    seen = []
    try:
        trace = asyncio.run(engine.extend(ask(1, n=40, stop=()), lambda piece: seen.append(piece) or False))
    finally:
        close(engine)
    assert len(seen) == 1
    assert len(trace) == engine.usage.decoded < 40
    assert len(llm.aborted) == 1


def test_cancelling_drops_the_request_in_vllm(monkeypatch):
    llm = FakeLLM(pause=10)
    engine = fake_engine(monkeypatch, llm)

    async def cancel():
        task = asyncio.create_task(engine.extend(ask(1, n=50)))
        await asyncio.sleep(0.05)
        assert engine.idle == 3
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert engine.idle == 4
        for _ in range(100):
            if llm.aborted:
                return
            await asyncio.sleep(0.01)

    try:
        asyncio.run(cancel())
    finally:
        close(engine)
    assert len(llm.aborted) == 1


def test_a_failure_reaches_the_request_and_the_next_one_goes_on(monkeypatch):
    llm = FakeLLM()
    engine = fake_engine(monkeypatch, llm)
    try:
        llm.error = ValueError("no room")
        with pytest.raises(EngineError, match="ValueError: no room"):
            asyncio.run(engine.extend(ask()))
        llm.error = None
        assert len(asyncio.run(engine.extend(ask()))) > 0
        llm.reason = "error"
        with pytest.raises(EngineError, match=r"ended a request by itself \(error\), after 1 of"):
            asyncio.run(engine.extend(ask()))
        llm.reason = "length"
        with pytest.raises(EngineError, match=r"ended a request by itself \(length\), after 1 of"):
            asyncio.run(engine.extend(ask()))
    finally:
        close(engine)


def test_closing_ends_what_runs_and_refuses_what_comes(monkeypatch):
    llm = FakeLLM(pause=10)
    engine = fake_engine(monkeypatch, llm)

    async def close_meanwhile():
        task = asyncio.create_task(engine.extend(ask()))
        await asyncio.sleep(0.05)
        await engine.aclose()
        return await asyncio.gather(task, return_exceptions=True)

    (error,) = asyncio.run(close_meanwhile())
    assert isinstance(error, EngineError)
    assert not llm.up
    close(engine)
    with pytest.raises(EngineError, match="closed"):
        asyncio.run(engine.extend(ask()))


def test_several_loops_use_one_engine_at_once(engine):
    results = {}

    def work(i):
        results[i] = pc.sample(engine, pc.Standard(max_new_tokens=8, top_k=4), [[1, 2]], n=6, seed=i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        again = pc.sample(engine, pc.Standard(max_new_tokens=8, top_k=4), [[1, 2]], n=6, seed=i)
        assert [c.tokens.tolist() for c in results[i]] == [c.tokens.tolist() for c in again]
    assert engine.idle == engine.concurrency


def test_a_chain_stays_on_its_rank(monkeypatch):
    llm = FakeLLM()
    engine = fake_engine(monkeypatch, llm, capacity={"ranks": 3})
    assert engine.concurrency == 12

    async def extend_all():
        chains = [Chain() for _ in range(6)]
        for lane in range(3):
            await asyncio.gather(*(engine.extend(ask(seed=i, chain=c, lane=lane)) for i, c in enumerate(chains)))

    try:
        asyncio.run(extend_all())
    finally:
        close(engine)
    ranks = [{seen.params.seed: seen.rank for seen in llm.seen[i : i + 6]} for i in (0, 6, 12)]
    assert Counter(ranks[0].values()) == {0: 2, 1: 2, 2: 2}
    assert ranks[0] == ranks[1] == ranks[2]
    assert not engine._ranks  # chains that are gone are forgotten


def test_an_error_in_keep_going_that_is_no_exception_reaches_the_caller(engine):
    def cancel(piece):
        raise asyncio.CancelledError

    async def one():
        return await asyncio.wait_for(asyncio.gather(engine.extend(ask(), cancel), return_exceptions=True), 60)

    (error,) = asyncio.run(one())
    assert isinstance(error, asyncio.CancelledError)
