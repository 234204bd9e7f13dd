"""Faults while the http engine decodes, and several servers."""

import asyncio
import gc
import warnings

import numpy as np
import pytest

import powercut as pc
from powercut.engines.protocol import Chain
from powercut.study.exact import EOS
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import MODEL, OnWarning, ask, every_kind, extend, load, never_stops


@every_kind
def test_dropped_streams_are_taken_up_where_they_broke(kind):
    shown = []
    with FakeServer(never_stops, kind=kind) as server:
        engine = load(server, top_k=3)
        server.drops = [4, 0, 3]
        request = ask(7, n=12, top_k=3)
        (trace,) = extend(engine, request, keep_going=lambda piece: shown.append(piece) or True)
    assert len(trace) == 12
    assert pc.Trace.join(shown) == trace  # nothing twice, nothing left out
    (undisturbed,) = extend(pc.TableEngine(never_stops), request)
    kept = 3 if kind == "llama" else 4
    assert trace.tokens[:kept].tolist() == undisturbed.tokens[:kept].tolist()
    seeds = {str(seen.get("seed") or seen.get("sampling_params")) for seen in server.seen[2:]}
    assert len(seeds) >= 3  # what follows a break has noise of its own


def test_failures_of_the_server_are_tried_again():
    with FakeServer(MODEL) as server:
        engine = load(server)
        server.failures = 3
        (trace,) = extend(engine, ask(3))
    assert trace.tokens.tolist() == extend(pc.TableEngine(MODEL, EOS), ask(3))[0].tokens.tolist()


def test_it_gives_up_at_last():
    with FakeServer(MODEL) as server:
        engine = load(server, retry_for=0.0)
        server.failures = 1
        with pytest.raises(pc.EngineError, match=r"HTTP 500: out of order; given up after .* \(retry_for\)"):
            extend(engine, ask())


@every_kind
def test_a_server_without_memory_says_what_to_lower(kind):
    options = {"llama": "-c or --parallel", "sglang": "--mem-fraction-static"}.get(kind, "--gpu-memory-utilization")
    with FakeServer(MODEL, kind=kind, failure="CUDA out of memory. Tried to allocate 2.00 GiB") as server:
        engine = load(server, retry_for=0.0)
        server.failures = 1
        with pytest.raises(pc.EngineError, match=f"out of memory.*lower concurrency, or its .*{options}") as error:
            extend(engine, ask())
        assert "\n" not in str(error.value)


@every_kind
def test_a_server_killed_and_restarted(kind):
    """Chains go on where they were; one line says that they wait, one that they go on."""
    shown = 0

    def kill(piece):
        nonlocal shown
        shown += 1
        if shown == 60:
            server.stop()
            server.hold_after = None
        return True

    with FakeServer(never_stops, kind=kind, cumulative=False) as server:
        engine = load(server, top_k=3)
        with OnWarning(server.start) as heard:
            server.hold_after = 10
            requests = [ask(seed, n=30, top_k=3) for seed in range(8)]
            traces = extend(engine, *requests, keep_going=kill)
    assert [len(t) for t in traces] == [30] * 8
    away, *_, back = heard.lines
    assert "chains wait" in away
    assert "answers again" in back
    assert sum("chains wait" in line for line in heard.lines) == 1


def test_a_server_that_comes_back_as_another():
    def restart():
        server.model = "other"
        server.start()

    with FakeServer(never_stops) as server:
        engine = load(server, top_k=3)

        def kill(piece):
            server.stop()
            return True

        server.hold_after = 2
        with OnWarning(restart), pytest.raises(pc.EngineError, match="came back and serves other, not fake"):
            extend(engine, ask(n=30, top_k=3), keep_going=kill)


def test_a_hidden_stop_token_is_an_error():
    with FakeServer(MODEL, hide_stop=True) as server:
        engine = load(server)
        with pytest.raises(pc.EngineError, match="hides the token"):
            extend(engine, *map(ask, range(10)))


def test_closing_the_stream_frees_the_server():
    with FakeServer(never_stops) as server:
        engine = load(server, top_k=3)

        async def one_token():
            trace = await engine.extend(ask(n=1_000_000, top_k=3), lambda piece: False)
            assert await asyncio.to_thread(server.aborted.wait, 30)
            return trace

        trace = asyncio.run(one_token())
        assert not trace.finished
        assert len(trace) < 100
        server.aborted.clear()

        async def cancelled():
            started = asyncio.Event()
            task = asyncio.create_task(engine.extend(ask(n=1_000_000, top_k=3), lambda piece: started.set() or True))
            await started.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert engine.idle == engine.concurrency
            assert await asyncio.to_thread(server.aborted.wait, 30)

        asyncio.run(cancelled())


def test_chains_stay_with_their_server():
    with FakeServer(MODEL) as one, FakeServer(MODEL) as two:
        engine = load(one, two, concurrency=5)
        assert engine.concurrency == 10
        one.seen.clear(), two.seen.clear()
        chains = [Chain() for _ in range(6)]
        for lane in range(3):
            extend(engine, *(ask(i, chain=c, lane=lane, context=np.array([i + 1])) for i, c in enumerate(chains)))
        places = [{p["prompt"][0] for p in server.seen} for server in (one, two)]
        assert not places[0] & places[1]
        assert [len(s.seen) for s in (one, two)] == [9, 9]


def test_one_of_two_servers_dies():
    with FakeServer(MODEL) as one, FakeServer(MODEL) as two:
        engine = load(one, two)
        chain = Chain()
        extend(engine, ask(0, chain=chain))
        one.stop()
        traces = extend(engine, *(ask(seed, chain=chain if seed == 0 else None) for seed in range(8)))
        one.start()
    want = extend(pc.TableEngine(MODEL, EOS), *map(ask, range(8)))
    assert [t.tokens.tolist() for t in traces] == [t.tokens.tolist() for t in want]


def test_nothing_is_left_open():
    with FakeServer(MODEL) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = load(server)
        for _ in range(3):
            pc.sample(engine, pc.Standard(max_new_tokens=4, top_k=4), [[1]], n=3)
            assert not engine._pool.servers[0].api._connections._clients

        async def dropped():
            other = load(server)
            await other.extend(ask(0))
            del other
            gc.collect()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            left = [task for task in asyncio.all_tasks() if task.get_name() == "powercut-http"]
            await asyncio.gather(*left, return_exceptions=True)
            return left

        asyncio.run(dropped())
        gc.collect()
