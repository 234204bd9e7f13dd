"""A stand-in for vLLM's AsyncLLM: the same calls and outputs, laws from a table. For what is ours around vLLM."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from powercut.engines.background import BackgroundLoop
from powercut.engines.vllm import VllmEngine
from powercut.engines.vllm import vllm_engine as vllm_engine
from powercut.engines.vllm.launch import Capacity
from tests.checks import random_table

STOP = 0


class FakeLLM:
    """Streams ``interval`` tokens at a time. ``raw=False`` returns log-probabilities after temperature.

    ``seen`` are the requests it was given, ``aborted`` the names of those that were dropped before their end.
    """

    def __init__(self, size: int = 6, *, interval: int = 1, raw: bool = True, pause: float = 0.002) -> None:
        self.probs = random_table(1, size)
        self.interval, self.raw, self.pause = interval, raw, pause
        self.seen: list[Any] = []
        self.aborted: list[str] = []
        self.error: Exception | None = None
        self.reason: str | None = None
        self.up = True
        self._live: dict[str, asyncio.Event] = {}

    async def generate(
        self, prompt: dict[str, Any], params: Any, request_id: str, data_parallel_rank: int | None = None
    ) -> AsyncIterator[Any]:
        self.seen.append(SimpleNamespace(prompt=prompt, params=params, name=request_id, rank=data_parallel_rank))
        noise = np.random.default_rng(params.seed)
        context = list(prompt["prompt_token_ids"])
        drop = self._live[request_id] = asyncio.Event()
        ready: list[tuple[int, list[int], list[float]]] = []
        ending = None
        count = 0
        try:
            while ending is None:
                await asyncio.sleep(self.pause)
                if self.error is not None:
                    raise self.error
                if drop.is_set():
                    ending = "abort"
                else:
                    ready.append(self._next(context, params, noise))
                    context.append(ready[-1][0])
                    count += 1
                    stopped = context[-1] in params.stop_token_ids
                    ending = self.reason or ("stop" if stopped else "length" if count == params.max_tokens else None)
                if ending is None and count > 1 and len(ready) < self.interval:
                    continue
                ends = list(itertools.accumulate(len(ids) for _, ids, _ in ready))
                logprobs = SimpleNamespace(
                    start_indices=[0, *ends][: len(ends)],
                    end_indices=ends,
                    token_ids=[i for _, ids, _ in ready for i in ids],
                    logprobs=[x for _, _, row in ready for x in row],
                )
                out = SimpleNamespace(token_ids=[t for t, _, _ in ready], logprobs=logprobs, finish_reason=ending)
                ready = []
                yield SimpleNamespace(outputs=[out], finished=ending is not None, num_cached_tokens=1)
        finally:
            if ending in (None, "abort"):
                self.aborted.append(request_id)
            del self._live[request_id]

    def _next(self, context: list[int], params: Any, noise: np.random.Generator) -> tuple[int, list[int], list[float]]:
        with np.errstate(divide="ignore"):
            logp = np.log(np.asarray(self.probs(tuple(context))))
        top = np.argsort(-logp, kind="stable")[: params.top_k]
        q = np.exp(logp[top] / params.temperature)
        token = int(noise.choice(top, p=q / q.sum()))
        shown = logp if self.raw else np.log(q / q.sum())[np.argsort(top)] if len(top) == len(logp) else logp
        return token, [token, *top.tolist()], [float(shown[token]), *shown[top].tolist()]

    async def abort(self, request_id: str) -> None:
        if request_id in self._live:
            self._live[request_id].set()

    def shutdown(self) -> None:
        self.up = False


def fake_params(request: Any, stop_tokens: Any) -> Any:
    return SimpleNamespace(
        temperature=request.temperature,
        top_k=request.top_k,
        max_tokens=request.max_new_tokens,
        stop_token_ids=request.stop_ids | set(stop_tokens),
        seed=request.seed,
    )


def fake_engine(monkeypatch: Any, llm: FakeLLM | None = None, **options: Any) -> VllmEngine:
    """An engine on a fake vLLM, without vLLM; close it in the end."""
    monkeypatch.setattr(vllm_engine, "sampling_params", fake_params)
    capacity = {"context_length": 64, "vocab_size": 6, "max_logprobs": 5, "slots": 4} | options.pop("capacity", {})
    return VllmEngine(llm or FakeLLM(), BackgroundLoop("fake"), Capacity(**capacity), stop_tokens=[STOP], **options)


def close(engine: VllmEngine) -> None:
    """Give it back."""
    asyncio.run(engine.aclose())
