"""The embedded engine: a transformers model decoded with continuous batching, on the CPU or a GPU.

Concurrent ``extend`` calls share each forward pass. A request joins the batch as soon as a lane is free and leaves it
the moment it ends; the keys and values of prefixes seen before are reused (``slots.py``). The base law, the proposal
and the entropy are computed in float64 from the model's logits (``next_token.py``).
"""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel

from powercut.engines.base import KeepGoing, Request, Usage
from powercut.engines.native_cache import NativeCaches
from powercut.engines.next_token import draw, next_token_law
from powercut.engines.slots import Slots, Unsupported
from powercut.engines.stops import StopWatch
from powercut.engines.weights import load_model
from powercut.errors import EngineError, SettingError
from powercut.text import Text, TokenizerText
from powercut.trace import Trace

DEFAULT_LENGTH = 4096

T = TypeVar("T")


class _Decode:
    """One request on its way: its tokens so far, and where it decodes."""

    def __init__(self, request: Request, keep_going: KeepGoing | None, watch: StopWatch) -> None:
        self.request, self.keep_going, self.watch = request, keep_going, watch
        self.result: asyncio.Future[Trace] = asyncio.get_running_loop().create_future()
        size = request.max_new_tokens
        # Noise from the seed alone: token t uses noise[t], whoever else is in the batch.
        self.noise = np.random.default_rng(request.seed).random(size)
        self.tokens = np.empty(size, dtype=np.int64)
        self.laws = np.empty((3, size))  # logp, logq, entropy
        self.count = self.prefilled = 0
        self.finished = False
        self.wanted = True
        self.lane: Any = None

    @property
    def last_token(self) -> int:
        return int(self.tokens[self.count - 1] if self.count else self.request.context[-1])

    def trace(self, start: int = 0) -> Trace:
        part = slice(start, self.count)
        prefilled = 0 if start else self.prefilled
        logp, logq, entropy = self.laws[:, part]
        return Trace(self.tokens[part], logp, logq, entropy, finished=self.finished, prefilled=prefilled)


class TransformersEngine:
    """Decodes up to ``slots`` requests at once, each of up to ``context_length`` tokens, prompt included.

    ``model`` is a causal language model in evaluation mode; ``stop_tokens`` end a completion. The cache for
    ``2 * slots * context_length`` tokens is allocated here (``cache_bytes``) and nothing later exceeds it;
    context_length None means the model's own maximum, at most 4096. A model whose cache cannot be laid out so decodes
    one request at a time, with a warning.

    Raises SettingError for sizes that the model or the machine cannot hold.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        text: Text | None = None,
        *,
        stop_tokens: Collection[int] = (),
        slots: int = 16,
        context_length: int | None = None,
        name: str = "transformers",
    ) -> None:
        config = model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
        if context_length is None:
            context_length = min(longest or DEFAULT_LENGTH, DEFAULT_LENGTH)
        if slots < 1:
            raise SettingError(f"slots must be at least 1 (got {slots})")
        if context_length < 2 or (longest is not None and context_length > longest):
            raise SettingError(
                f"context_length must be from 2 to {longest}, the model's maximum (got {context_length})"
            )
        self.name = name
        self.text = text
        self.model = model
        self.stop_tokens = frozenset(stop_tokens)
        self.concurrency = slots
        self.context_length = context_length
        self.vocab_size = int(config.vocab_size)
        self.usage = Usage()
        self._cache = _make_cache(model, slots, context_length)
        self._waiting: deque[_Decode] = deque()
        self._active: list[_Decode] = []
        self._pump: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="powercut-decode")

    @classmethod
    def load(
        cls,
        model: str | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        slots: int = 16,
        context_length: int | None = None,
    ) -> TransformersEngine:
        """Load a hub id, a local folder or (None) the bundled model.

        ``device`` None is a GPU if there is one; ``dtype`` None is float32 on the CPU, the checkpoint's own on a GPU.
        Raises EngineError if the model cannot be loaded, SettingError for an unusable option.
        """
        loaded = load_model(model, device=device, dtype=dtype)
        text = None if loaded.tokenizer is None else TokenizerText(loaded.tokenizer)
        stops = loaded.stop_tokens
        return cls(loaded.model, text, stop_tokens=stops, slots=slots, context_length=context_length, name=loaded.name)

    @property
    def cache_bytes(self) -> int:
        """Memory allocated for cached tokens, in bytes."""
        return self._cache.nbytes

    @property
    def idle(self) -> int:
        """How many more requests could join the batch."""
        return max(0, self.concurrency - len(self._active) - len(self._waiting))

    def describe(self) -> str:
        """One line: the model, where it runs, and the memory its cache takes."""
        weights = sum(p.numel() * p.element_size() for p in self.model.parameters())
        dtype = str(self.model.dtype).removeprefix("torch.")
        return (
            f"{self.name} on {self.model.device} in {dtype}: weights {weights / 2**30:.2f} GiB, "
            f"cache {self.cache_bytes / 2**30:.2f} GiB (2 x {self.concurrency} slots of {self.context_length} tokens)"
        )

    def check(self, request: Request) -> None:
        """Raise SettingError if ``request`` cannot fit, or asks for what this model does not have."""
        size = len(request.context) + request.max_new_tokens
        if size > self.context_length:
            raise SettingError(
                f"a prompt of {len(request.context)} tokens and max_new_tokens={request.max_new_tokens} exceed "
                f"context_length={self.context_length}: "
                "shorten the prompt, lower max_new_tokens or raise context_length"
            )
        if request.top_k is not None and request.top_k > self.vocab_size:
            raise SettingError(
                f"top_k={request.top_k} is larger than the vocabulary of {self.vocab_size} tokens: "
                "lower it, or give None for all"
            )
        if request.stop_strings and self.text is None:
            raise SettingError(f"stop={request.stop_strings[0]!r}: this model has no tokenizer; give stop token ids")
        if request.context.min() < 0 or request.context.max() >= self.vocab_size:
            raise SettingError(f"the prompt has token ids outside 0..{self.vocab_size - 1}")

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        """Draw tokens until a stop, ``max_new_tokens``, or ``keep_going`` returning False (see ``Engine.extend``)."""
        self.check(request)
        work = _Decode(request, keep_going, StopWatch(request, self.stop_tokens, self.text))
        self._waiting.append(work)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        elif self._pump.get_loop() is not asyncio.get_running_loop():
            self._waiting.remove(work)
            raise EngineError("this engine is at work in another event loop: wait for it, or load a second engine")
        try:
            return await work.result
        finally:
            work.result.cancel()  # if it is still pending, nobody waits for it any more: the pump drops it

    async def _run(self) -> None:
        """Serve requests until none are left. Torch runs in a thread of its own; all bookkeeping happens here."""
        try:
            while True:
                # Whoever got a result just now may ask for more, and joins the next pass if it does.
                for _ in range(4):
                    await asyncio.sleep(0)
                self._drop_cancelled()
                if admitted := self._admit():
                    self._deliver(await self._in_thread(self._open, admitted))
                elif self._active:
                    await self._in_thread(self._decode_all)
                    self._deliver(list(self._active))
                else:
                    return
        except BaseException as error:
            self._fail_all(error)
            if not isinstance(error, Exception):
                raise

    async def _in_thread(self, job: Callable[..., T], *args: Any) -> T:
        """Run a job beside the event loop. A cancellation waits for it: no bookkeeping is left half done."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, job, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def _admit(self) -> list[_Decode]:
        """Take as many waiting requests as there are free lanes."""
        # Sessions first that already have a lane, lest a newcomer takes it between two of their requests.
        order = sorted(self._waiting, key=lambda work: not self._cache.knows(work.request.session))
        admitted = order[: self._cache.free()]
        for work in admitted:
            self._waiting.remove(work)
        self._active += admitted
        return admitted

    def _open(self, works: Sequence[_Decode]) -> list[_Decode]:
        """Give lanes to new requests; returns those that could draw their first token from what is cached."""
        ready = []
        for work in works:
            context, top_k = work.request.context, work.request.top_k
            work.lane, shared = self._cache.open(context, work.request.session)
            head = self._cache.head(work.lane, shared - 1, top_k) if shared == len(context) and top_k else None
            if head is not None:
                self._draw([work], head[0][None], head[1][None])
                ready.append(work)
            else:
                shared = min(shared, len(context) - 1)  # the last token is fed by the next decode
                self._cache.rewind(work.lane, shared)
                if shared < len(context) - 1:
                    self._cache.prefill(work.lane, context[shared:-1])
            work.prefilled = len(context) - shared
            self.usage.prefilled += work.prefilled
            self.usage.reused += shared
        return ready

    def _decode_all(self) -> None:
        """One token more for every active request."""
        # Requests with one top_k are computed together; most often there is one group.
        works = sorted(self._active, key=lambda work: work.request.top_k or 0)
        self._active = works
        logits = self._cache.decode([w.lane for w in works], np.array([w.last_token for w in works]))
        start = 0
        for top_k, members in groupby(works, key=lambda work: work.request.top_k):
            group = list(members)
            scores, ids = logits[start : start + len(group)], None
            start += len(group)
            if top_k is not None:
                scores, ids = torch.topk(scores, top_k, dim=-1)
                self._cache.remember([w.lane for w in group], scores, ids)
            self._draw(group, scores, ids)

    @torch.inference_mode()
    def _draw(self, works: Sequence[_Decode], scores: torch.Tensor, ids: torch.Tensor | None) -> None:
        """Draw each request's next token from its scores ``[works, K]``; ``ids`` None: all tokens, in order."""
        device = scores.device
        temperature = torch.tensor([w.request.temperature for w in works], dtype=torch.float64, device=device)
        noise = torch.tensor([w.noise[w.count] for w in works], dtype=torch.float64, device=device)
        law = next_token_law(scores.double(), temperature)
        drawn = draw(law.logq, noise)[:, None].clamp_(max=scores.shape[1] - 1)  # NaN rows draw past the end
        tokens = (drawn if ids is None else ids.gather(1, drawn))[:, 0]
        values = torch.stack((law.logp.gather(1, drawn)[:, 0], law.logq.gather(1, drawn)[:, 0], law.entropy))
        for work, token, column in zip(works, tokens.tolist(), values.cpu().numpy().T, strict=True):
            work.tokens[work.count] = token
            work.laws[:, work.count] = column
            work.count += 1
            self.usage.decoded += 1

    def _deliver(self, works: Sequence[_Decode]) -> None:
        """Show each request its new token, and end those that are done."""
        for work in works:
            if work.result.done():  # cancelled while it decoded
                continue
            try:
                if np.isnan(work.laws[2, work.count - 1]):
                    self._cache.forget(work.lane)
                    raise EngineError(
                        f"the model's logits are NaN or infinite after {len(work.request.context) + work.count - 1} "
                        "tokens: try dtype float32, or check the weights"
                    )
                work.finished = work.watch.completes(work.last_token)
                if work.keep_going is not None:
                    work.wanted = bool(work.keep_going(work.trace(work.count - 1)))
            except Exception as error:
                self._end(work, error)
                continue
            if work.finished or work.count == work.request.max_new_tokens or not work.wanted:
                self._end(work, None)

    def _end(self, work: _Decode, error: Exception | None) -> None:
        self._active.remove(work)
        self._cache.close(work.lane, len(work.request.context), work.wanted and error is None)
        if error is not None:
            work.result.set_exception(error)
        elif not work.result.done():
            work.result.set_result(work.trace())

    def _drop_cancelled(self) -> None:
        for work in [w for w in self._active if w.result.cancelled()]:
            work.wanted = False
            self._end(work, None)
        self._waiting = deque(w for w in self._waiting if not w.result.cancelled())

    def _fail_all(self, error: BaseException) -> None:
        """The model failed, or the loop is closing: nobody is left waiting, and the lanes are free again."""
        failed = isinstance(error, Exception)
        for work in self._active:
            if work.lane is not None:
                if failed:
                    self._cache.forget(work.lane)
                self._cache.close(work.lane, len(work.request.context), wanted=False)
        for work in (*self._active, *self._waiting):
            if not failed:
                work.result.cancel()
            elif not work.result.done():
                work.result.set_exception(_explain(error))
        self._active.clear()
        self._waiting.clear()


def _explain(error: BaseException) -> EngineError:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return EngineError("out of memory while decoding: lower slots or context_length")
    return EngineError(f"decoding failed: {type(error).__name__}: {error}")


def _make_cache(model: PreTrainedModel, slots: int, length: int) -> Slots | NativeCaches:
    try:
        _check_slots(model)
        return Slots(model, slots, length)
    except Unsupported as reason:
        warnings.warn(f"{reason}: decoding one request at a time, without prefix reuse", stacklevel=3)
        return NativeCaches(model, slots)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if "memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        raise SettingError(
            f"no memory for a cache of 2 x {slots} slots of {length} tokens: lower slots or context_length"
        ) from error


def _check_slots(model: PreTrainedModel) -> None:
    """Raise Unsupported unless slots give the logits that the model gives without them."""
    vocab = model.config.get_text_config().vocab_size
    tokens = np.array([1, 3, 2, 5, 4, 7]) % vocab
    with torch.inference_mode():
        want = model(input_ids=torch.as_tensor(tokens, device=model.device)[None]).logits[0, -1].double()
    slots = Slots(model, slots=2, length=8)
    lanes = [slots.open(tokens, object())[0] for _ in range(2)]
    slots.prefill(lanes[0], tokens[:2])
    slots.prefill(lanes[1], tokens[:5])
    slots.decode(lanes, tokens[[2, 0]])  # the second row takes a wrong token,
    slots.rewind(lanes[1], 5)  # and steps back
    got = slots.decode(lanes, tokens[[3, 5]])[1].double()
    error = (got - want).abs().max() / want.abs().max()
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1
    if not error <= tolerance:
        raise Unsupported(f"{type(model).__name__} gives other logits with slots (relative difference {error:.1e})")
