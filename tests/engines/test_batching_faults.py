"""Models that fail while others decode with them, and closing an engine."""

import asyncio
import gc
import weakref

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.engines.transformers import TransformersEngine
from powercut.engines.transformers.tensor_slots import TensorSlots
from tests.engines.test_batching import ask, extend, make
from tests.tiny import tiny_folder


def test_nan_logits_fail_one_request_and_spoil_no_other():
    engine = make(dtype=torch.float32)
    poison = 13
    with torch.no_grad():
        engine.model.get_input_embeddings().weight[poison] = torch.nan

    async def both():
        bad = pc.Request(context=[1, poison], max_new_tokens=3, top_k=5)
        good = pc.Request(context=[1, 2], max_new_tokens=3, top_k=1)
        return await asyncio.gather(engine.extend(bad), engine.extend(good), return_exceptions=True)

    # The tied or untied output row of the poisoned token is not a NaN logit: only its embedding is.
    error, trace = asyncio.run(both())
    assert isinstance(error, pc.EngineError)
    assert "NaN" in str(error)
    assert "float32" in str(error)
    assert isinstance(trace, pc.Trace)
    for _ in range(4):  # every row is used again
        (trace,) = extend(engine, pc.Request(context=[3, 4, 5], max_new_tokens=3, top_k=1))
        assert np.isfinite(trace.entropy).all()


def no_memory_on_the_cpu(*_):
    torch.empty(2**60)


def no_memory_on_a_gpu(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def no_memory_for_cublas(*_):
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def a_bug(*_):
    raise RuntimeError("mat1 and mat2\nshapes cannot be multiplied")


@pytest.mark.parametrize(
    ("failure", "match"),
    [
        (no_memory_on_the_cpu, "out of memory .*lower slots or context_length"),
        (no_memory_on_a_gpu, "out of memory .*lower slots or context_length"),
        (no_memory_for_cublas, "out of memory .*lower slots or context_length"),
        (a_bug, "decoding failed: RuntimeError: mat1 and mat2 shapes"),
    ],
)
def test_a_model_that_fails_fails_its_requests_and_recovers(monkeypatch, failure, match):
    engine = make()
    requests = [pc.Request(context=[1, 2, seed], max_new_tokens=3, top_k=4, seed=seed) for seed in range(5)]
    want = extend(engine, *requests)
    with monkeypatch.context() as broken:
        broken.setattr(TensorSlots, "advance", failure)
        for request in (pc.Request(context=[7, 8, 9], max_new_tokens=3), *requests[:1]):
            with pytest.raises(pc.EngineError, match=match) as error:
                extend(engine, request)
            assert "\n" not in str(error.value)
    assert engine.idle == engine.concurrency
    for got, same in zip(extend(engine, *requests), want, strict=True):
        assert got.tokens.tolist() == same.tokens.tolist()


@pytest.mark.parametrize("kind", ["llama", "mistral-sliding"])
@pytest.mark.filterwarnings("ignore:.*one request at a time")
def test_a_closed_engine_says_so_and_gives_its_memory_back(tmp_path, kind):
    engine = TransformersEngine.load(str(tiny_folder(tmp_path, kind)), slots=2, context_length=32)
    extend(engine, ask())
    held = [weakref.ref(engine._cache), *map(weakref.ref, engine.model.parameters())]
    threads = set(engine._thread._threads)
    asyncio.run(engine.aclose())
    asyncio.run(engine.aclose())
    gc.collect()
    assert not any(ref() for ref in held)
    assert not any(thread.is_alive() for thread in threads)
    with pytest.raises(pc.EngineError, match="closed: load the model again"):
        extend(engine, ask())
    assert "GiB" in engine.describe()


def test_closing_fails_what_still_runs():
    engine = make(slots=2)

    async def close_in_the_middle():
        tasks = [asyncio.create_task(engine.extend(ask(seed, n=80))) for seed in range(5)]
        while not engine.usage.decoded:
            await asyncio.sleep(0)
        await engine.aclose()
        return await asyncio.gather(*tasks, return_exceptions=True)

    for error in asyncio.run(close_in_the_middle()):
        assert isinstance(error, pc.EngineError)
        assert "closed" in str(error)


def test_closing_from_another_loop_fails_what_still_runs():
    engine = make(slots=2)

    async def busy():
        task = asyncio.create_task(engine.extend(ask(n=80)))
        while not engine.usage.decoded:
            await asyncio.sleep(0)
        await asyncio.to_thread(asyncio.run, engine.aclose())
        with pytest.raises(pc.EngineError, match="closed"):
            await task

    asyncio.run(busy())


def test_closing_after_a_loop_that_was_stopped_in_the_middle():
    engine = make(slots=2)
    stopped = asyncio.new_event_loop()

    async def until_it_decodes():
        task = stopped.create_task(engine.extend(ask(n=80)))
        while not engine.usage.decoded:
            await asyncio.sleep(0)
        return task

    task = stopped.run_until_complete(until_it_decodes())
    stopped.close()
    asyncio.run(engine.aclose())
    del task
