"""vLLM's outputs on their way to the requests that await them: between event loops, and from rows to traces."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from powercut.engines.protocol import KeepGoing, Request
from powercut.engines.stops import StopWatch
from powercut.engines.top_k import trace_from_top_k
from powercut.errors import EngineError
from powercut.trace import FloatArray, IntArray, Trace

ENDED = ("stop", "length")
"""vLLM's reasons for the end of a request that has got what it asked for."""


class Decode:
    """One request on its way, called ``name`` in vLLM. All but ``prefilled`` is set in the caller's event loop."""

    def __init__(self, name: str, request: Request, keep_going: KeepGoing | None, watch: StopWatch) -> None:
        self.name, self.request = name, request
        self.loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Trace] = self.loop.create_future()
        self.prefilled: int | None = None
        self.wanted = True
        self._keep_going, self._watch = keep_going, watch
        self._pieces: list[Trace] = []

    def take(self, piece: Trace, ending: str | None) -> None:
        """Take in new tokens; ``ending`` is vLLM's reason if it has ended the request, else None."""
        if self.result.done():
            return
        for i, token in enumerate(piece.tokens.tolist()):
            if self._watch.completes(token):  # vLLM is not told of stop strings, and may be some tokens past one
                piece = dataclasses.replace(piece[: i + 1], finished=True)
                break
        if len(piece):
            self._pieces.append(piece)
            if self.wanted and self._keep_going is not None:
                self.wanted = bool(self._keep_going(piece))
        if self.wanted and ending is not None and ending not in ENDED and not piece.finished:
            raise EngineError(f"vLLM ended a request by itself ({ending})")
        if ending is not None or piece.finished:
            trace = Trace.join(self._pieces)
            self.result.set_result(dataclasses.replace(trace, prefilled=self.prefilled or 0))

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        if not self.result.done():
            self.result.set_exception(error)


class Mailbox:
    """Brings outputs from vLLM's event loop into that of their requests, which is woken once for many of them.

    ``abort`` is called there with each request that is no longer wanted and that vLLM still works on.
    """

    def __init__(self, abort: Callable[[Decode], None]) -> None:
        self._abort = abort
        self._posted: deque[tuple[Decode, Any]] = deque()
        self._woken = False

    def post(self, decode: Decode, output: Any) -> None:
        """Send a RequestOutput, or an exception. Called in vLLM's thread."""
        self._posted.append((decode, output))
        if not self._woken:  # read after the append: if it is set, the drain that is still to come sees the output
            self._woken = True
            try:
                decode.loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # that loop is closed: nobody waits there any more
                self._posted.clear()

    def _drain(self) -> None:
        self._woken = False
        batch = [self._posted.popleft() for _ in range(len(self._posted))]
        outputs = [(decode, output) for decode, output in batch if not isinstance(output, BaseException)]
        pieces = iter(traces_of([(decode.request, output.outputs[0]) for decode, output in outputs]))
        for decode, output in batch:
            if isinstance(output, BaseException):
                decode.fail(output)
                continue
            piece, was_wanted = next(pieces), decode.wanted
            try:
                if isinstance(piece, EngineError):
                    raise piece
                decode.take(piece, output.outputs[0].finish_reason if output.finished else None)
            except Exception as error:
                decode.fail(error)
            if was_wanted and not decode.wanted and not decode.result.done():
                self._abort(decode)


def traces_of(pieces: Sequence[tuple[Request, Any]]) -> list[Trace | EngineError]:
    """The trace of each CompletionOutput, or why it has none; requests with the same settings are computed together."""
    groups: dict[tuple[int, float], list[int]] = defaultdict(list)
    for i, (request, _) in enumerate(pieces):
        groups[request.top_k or 0, request.temperature].append(i)
    traces: list[Trace | EngineError] = [Trace.empty()] * len(pieces)
    for (top_k, temperature), members in groups.items():
        outputs = [pieces[i][1] for i in members]
        try:
            joined = _joined(outputs, top_k, temperature)
        except EngineError as error:
            # The fault is one request's; the others go on.
            alone = len(members) == 1
            for i in members:
                traces[i] = error if alone else traces_of([pieces[i]])[0]
            continue
        start = 0
        for i, output in zip(members, outputs, strict=True):
            end = start + len(output.token_ids)
            traces[i] = joined[start:end]
            start = end
    return traces


def _joined(outputs: Sequence[Any], top_k: int, temperature: float) -> Trace:
    """All tokens of ``outputs``, one after the other."""
    flat = itertools.chain.from_iterable
    tokens = np.fromiter(flat(output.token_ids for output in outputs), np.int64)
    if not len(tokens):
        return Trace.empty()
    rows = [output.logprobs for output in outputs if len(output.token_ids)]
    if any(row is None for row in rows):
        raise EngineError("vLLM returned a token without log-probabilities")
    ids = np.fromiter(flat(row.token_ids for row in rows), np.int64)
    logprobs = np.fromiter(flat(row.logprobs for row in rows), np.float64)
    ends = np.fromiter(flat(row.end_indices for row in rows), np.int64)
    starts = np.fromiter(flat(row.start_indices for row in rows), np.int64)
    entries = top_entries(tokens, ends - starts, ids, logprobs)
    return trace_from_top_k(tokens, *entries, top_k=top_k, temperature=temperature)


def top_entries(tokens: IntArray, widths: IntArray, ids: IntArray, logprobs: FloatArray) -> tuple[IntArray, FloatArray]:
    """Flat log-probabilities, ``widths`` entries a token, as two ``[n, width]`` arrays; -1 and -inf where none is.

    vLLM's rows are the token drawn, then the K most likely, the token drawn among them once more; but where it has
    joined two deltas, that copy is gone. The first of two is struck out (-inf), lest the token count twice.

    Raises EngineError if there is not one row for each token.
    """
    if len(widths) != len(tokens) or widths.sum() != len(ids):
        raise EngineError("vLLM returned log-probabilities that do not match its tokens")
    filled = np.arange(widths.max()) < widths[:, None]
    all_ids, all_logprobs = np.full(filled.shape, -1), np.full(filled.shape, -np.inf)
    all_ids[filled], all_logprobs[filled] = ids, logprobs
    twice = (all_ids[:, 1:] == tokens[:, None]).any(axis=1)
    all_logprobs[twice, 0] = -np.inf
    return all_ids, all_logprobs
