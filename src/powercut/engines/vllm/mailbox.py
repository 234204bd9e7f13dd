"""vLLM's outputs on their way to the requests that await them: between event loops, and from rows to laws."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from powercut.engines.laws import Drawn, check_rows, padded_rows, top_k_laws, whole_numbers
from powercut.engines.protocol import Request
from powercut.engines.sequence import Sequence
from powercut.errors import EngineError, PowercutError, one_line
from powercut.trace import FloatArray, IntArray, Trace


class Ticket:
    """A sequence that vLLM works on under ``name``, and the ``result`` that its caller awaits in ``loop``.

    ``replaced``: vLLM ended it with a stop that came too early, in whose place there is another token now.
    """

    def __init__(self, name: str, sequence: Sequence) -> None:
        self.name, self.sequence = name, sequence
        self.replaced = False
        self.loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Trace] = self.loop.create_future()

    def take(self, piece: Drawn, ending: str | None) -> None:
        """Take in new tokens; ``ending`` is vLLM's reason if it has ended the request, else None."""
        if self.result.done():
            return
        sequence = self.sequence
        sequence.take(*piece)  # vLLM is not told of stop strings, and may be some tokens past one
        if ending is not None and not sequence.done and not self.replaced:
            most = sequence.request.max_new_tokens
            raise EngineError(f"vLLM ended a request by itself ({ending}), after {sequence.count} of {most} tokens")
        if ending is not None or sequence.finished:
            self.result.set_result(sequence.trace())

    def read(self, output: Any) -> Drawn:
        """The tokens of a RequestOutput where it is too early for a stop, and their laws. Raises EngineError."""
        try:
            drawn, self.replaced = self.sequence.read_rows(*_rows(output.outputs[:1]))
        except Exception as error:
            raise _worded(error) from error
        return drawn

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        if not self.result.done():
            self.result.set_exception(error)


class Mailbox:
    """Brings outputs from vLLM's event loop into that of their requests, which is woken once for many of them.

    ``abort`` is called there with each request of which no more is wanted and that vLLM still works on.
    """

    def __init__(self, abort: Callable[[Ticket], None]) -> None:
        self._abort = abort
        self._posted: deque[tuple[Ticket, Any]] = deque()
        self._woken = False

    def post(self, ticket: Ticket, output: Any) -> None:
        """Send a RequestOutput, or an exception. Called in vLLM's thread."""
        self._posted.append((ticket, output))
        if not self._woken:  # read after the append: if it is set, the drain that is still to come sees the output
            self._woken = True
            try:
                ticket.loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # that loop is closed: nobody waits there any more
                self._posted.clear()

    def _drain(self) -> None:
        self._woken = False
        batch = [self._posted.popleft() for _ in range(len(self._posted))]
        # All at once, but for those whose law depends on how far they have come.
        alone = [_is_error(output) or ticket.sequence.early > 0 for ticket, output in batch]
        outputs = [
            (ticket.sequence.request, output)
            for (ticket, output), by_itself in zip(batch, alone, strict=True)
            if not by_itself
        ]
        pieces = iter(laws_of(outputs))
        for (ticket, output), by_itself in zip(batch, alone, strict=True):
            piece = output if by_itself else next(pieces)
            try:
                if by_itself and not _is_error(output) and not ticket.result.done():
                    piece = ticket.read(output)
                if isinstance(piece, BaseException):
                    raise piece
                was_wanted = ticket.sequence.wanted
                ticket.take(piece, output.outputs[0].finish_reason if output.finished else None)
                if was_wanted and not ticket.sequence.wanted and not ticket.result.done():
                    self._abort(ticket)
            except (Exception, asyncio.CancelledError) as error:  # it ends its own request, and no other
                ticket.fail(error)


def _is_error(output: Any) -> bool:
    return isinstance(output, BaseException)


def laws_of(outputs: list[tuple[Request, Any]]) -> list[Drawn | EngineError]:
    """Tokens and laws of each RequestOutput, or why it has none; requests with the same settings are taken together."""
    groups: dict[tuple[int, float], list[int]] = defaultdict(list)
    for i, (request, _) in enumerate(outputs):
        groups[request.top_k or 0, request.temperature].append(i)
    pieces: list[Drawn | EngineError] = [EngineError("not yet computed")] * len(outputs)
    for (top_k, temperature), members in groups.items():
        try:
            joined = _joined([outputs[i][1].outputs[0] for i in members], top_k, temperature)
        except Exception as error:
            # The fault is one request's; the others go on.
            for i in members:
                pieces[i] = _worded(error) if len(members) == 1 else laws_of([outputs[i]])[0]
            continue
        start = 0
        for i in members:
            end = start + len(outputs[i][1].outputs[0].token_ids)
            pieces[i] = joined.between(start, end)
            start = end
    return pieces


def _worded(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    assert not isinstance(error, PowercutError)
    return EngineError(f"vLLM's output cannot be read ({type(error).__name__}: {one_line(error)})")


def _joined(outputs: list[Any], top_k: int, temperature: float) -> Drawn:
    """All tokens of ``outputs``, one after the other, and their laws."""
    tokens, ids, logprobs = _rows(outputs)
    return top_k_laws(tokens, ids, logprobs, top_k=top_k, temperature=temperature)


def first_row(output: Any, top_k: int) -> dict[int, float]:
    """Log-probabilities of the most likely values of a CompletionOutput's first token; EngineError if it has no law."""
    _, ids, logprobs = _rows([output])
    check_rows(ids[:1], logprobs[:1], top_k)
    return {token: value for token, value in zip(ids[0].tolist(), logprobs[0].tolist(), strict=True) if token >= 0}


def _rows(outputs: list[Any]) -> tuple[IntArray, IntArray, FloatArray]:
    """Tokens ``[n]`` with their rows' ids and log-probabilities ``[n, K]``."""
    tokens = whole_numbers(_chained(output.token_ids for output in outputs))
    rows = [output.logprobs for output in outputs if len(output.token_ids)]
    if any(row is None for row in rows):
        raise EngineError("vLLM returned a token without log-probabilities")
    widths = np.array(_chained(row.end_indices for row in rows), np.int64)
    widths -= np.array(_chained(row.start_indices for row in rows), np.int64)
    entries = _chained(row.token_ids for row in rows), _chained(row.logprobs for row in rows)
    return tokens, *rows_drawn_first(tokens, widths, *entries)


def _chained(lists: Any) -> list[Any]:
    return list(itertools.chain.from_iterable(lists))


def rows_drawn_first(
    tokens: IntArray, widths: IntArray, ids: list[Any], logprobs: list[Any]
) -> tuple[IntArray, FloatArray]:
    """vLLM's flat rows, ``widths`` entries a token, as two ``[n, widest]`` arrays; id -1 where none is.

    Its rows are the token drawn, then the K most likely, the token drawn among them once more; but where it has joined
    two deltas, that copy is gone. The first of two is struck out, so that the token counts once.

    Raises EngineError if there is not one row for each token, and as ``padded_rows`` does.
    """
    if len(widths) != len(tokens):
        raise EngineError("vLLM returned log-probabilities that do not match its tokens")
    all_ids, values = padded_rows(widths, ids, logprobs)
    twice = (all_ids[:, 1:] == tokens[:, None]).any(axis=1)
    all_ids[:, :1][twice] = -1
    return all_ids, values
