"""One request on its way, for every engine: the tokens that came, the stop that ends them, who still wants them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from powercut.engines.laws import Drawn, redraw, top_k_laws
from powercut.engines.protocol import KeepGoing, Request
from powercut.errors import EngineError
from powercut.trace import FloatArray, IntArray, Rows, Trace

DecodeNow = Callable[[list[int]], str]
"""The text of tokens, at once: stop strings are looked for between two tokens."""

ABOVE = 1e-6
"""Nats by which rounding may lift a log-probability above 0, or an entropy below it."""

IMPOSSIBLE = -700.0
"""Nats: the smallest normal number, about, and no chance at all."""


class Sequence:
    """What has come for ``request`` so far: ``count`` tokens of ``prefilled`` computed context tokens.

    ``finished``: the last of them completed a stop. ``wanted``: ``keep_going`` has not said no. ``stop_tokens`` are the
    engine's own; ``decode_now`` is needed for stop strings only.

    While it is open, the request's chain is not about to ask in its place; whoever hands over the outcome calls
    ``close`` just before.
    """

    def __init__(
        self,
        request: Request,
        keep_going: KeepGoing | None,
        stop_tokens: Collection[int],
        decode_now: DecodeNow | None = None,
    ) -> None:
        self.request = request
        self.count = self.prefilled = 0
        self.finished = False
        self.wanted = True
        self._keep_going = keep_going
        self._stops = _Stops(request, stop_tokens, decode_now)
        self._tokens = np.empty(request.max_new_tokens, dtype=np.int64)
        self._laws = np.empty((3, request.max_new_tokens))
        self._rows: list[Rows | None] = []
        self._open = True
        if request.chain is not None:
            request.chain.expect(-1)
        if (first := request.first) is not None:
            self.take(first.tokens, np.stack((first.logp, first.logq, first.entropy)), first.rows)

    @property
    def early(self) -> int:
        """How many of the next tokens come too early for a stop."""
        return max(0, self.request.stopless - self.count)

    @property
    def barred(self) -> frozenset[int]:
        """The tokens that cannot be the next one: the stops, where it is too early for one."""
        return self._stops.ids if self.early else frozenset()

    @property
    def done(self) -> bool:
        """Whether it has all its tokens, or no more of them are wanted."""
        return self.finished or not self.wanted or self.count == self.request.max_new_tokens

    @property
    def last_token(self) -> int:
        """The token that the next one follows."""
        return int(self._tokens[self.count - 1] if self.count else self.request.context[-1])

    def read_rows(self, tokens: ArrayLike, ids: IntArray, logprobs: FloatArray) -> tuple[Drawn, bool]:
        """What to take in of the next ``tokens`` ``[n]`` that a server drew, from rows as it sent them.

        A server knows nothing of ``min_new_tokens``. Where it drew a stop too early, another token is drawn here by the
        law without stops, and what followed is left out (True): given that it is no stop, a token has that law.
        """
        request, early = self.request, self.early
        assert request.top_k is not None
        law: dict[str, Any] = {"top_k": request.top_k, "temperature": request.temperature}
        drawn = np.asarray(tokens, dtype=np.int64)
        if not early:
            return top_k_laws(drawn, ids, logprobs, **law), False
        barred = self.barred
        stop = next((i for i, token in enumerate(drawn[:early].tolist()) if token in barred), None)
        end = len(drawn) if stop is None else stop
        both = slice(0, min(early, end)), slice(min(early, end), end)
        pieces = [
            top_k_laws(drawn[part], ids[part], logprobs[part], **law, barred=bars)
            for part, bars in zip(both, (barred, frozenset[int]()), strict=True)
        ]
        if stop is not None:
            noise = np.random.default_rng(np.random.SeedSequence([request.seed, self.count + stop, 2]))
            row = slice(stop, stop + 1)
            other = redraw(ids[row], logprobs[row], noise.random(), **law, barred=barred)
            if other is None:
                raise self.nothing_left()
            pieces.append(other)
        return Drawn.join(pieces), stop is not None

    def take(self, tokens: IntArray, laws: FloatArray, rows: Rows | None = None, *, stopped: bool = False) -> None:
        """Take in the next ``tokens`` ``[n]`` with their ``laws`` ``[3, n]`` (logp, logq, entropy), and show them.

        ``rows`` are the base model's laws there, kept if the request asks for them.
        What follows a stop or is longer than the request is dropped. ``stopped``: the last token completed a stop of
        which only the server knows. What comes when no more is wanted is kept, and shown to nobody.

        Raises EngineError for laws that cannot be: a NaN, an infinity, a positive log-probability, a negative entropy,
        a token drawn with probability 0; and for a stop that comes too early.
        """
        if self.finished:
            return
        tokens = tokens[: self.request.max_new_tokens - self.count]
        if stopped and 0 < len(tokens) <= self.early:
            before = f"token {int(tokens[-1])} ended a completion before min_new_tokens={self.request.min_new_tokens}"
            raise EngineError(f"{before} and is not known as a stop: give it as stop")
        ends = next((i for i, token in enumerate(tokens.tolist(), 1) if self._stops.completes(token)), None)
        self.finished = ends is not None or (stopped and len(tokens) > 0)
        tokens, start = tokens[:ends], self.count
        laws = laws[:, : len(tokens)]
        if not (np.isfinite(laws).all() and (laws[:2] <= ABOVE).all() and (laws[2] >= -ABOVE).all()):
            raise EngineError(
                "the model's log-probabilities are NaN, infinite or positive after "
                f"{len(self.request.context) + start} tokens: try dtype float32, or check the weights"
            )
        if (laws[1] < IMPOSSIBLE).any():
            token = int(tokens[np.argmin(laws[1])])
            raise EngineError(
                f"token {token} was drawn, and has probability 0 by the log-probabilities that came with it: they are "
                "not of the law that is drawn from"
            )
        self.count += len(tokens)
        self._tokens[start : self.count] = tokens
        self._laws[:, start : self.count] = laws
        if not len(tokens):
            return
        rows = None if rows is None or not self.request.rows else rows.between(0, len(tokens))
        if self.request.rows:
            self._rows.append(rows)
        if self.wanted and self._keep_going is not None:
            self.wanted = bool(self._keep_going(self._part(start, rows)))

    def nothing_left(self) -> EngineError:
        """The error of a law that has stops alone where none may come."""
        top_k, least = self.request.top_k, self.request.min_new_tokens
        return EngineError(
            f"after {len(self.request.context) + self.count} tokens all that can follow (top_k={top_k}) are stops, "
            f"which min_new_tokens={least} bars: raise top_k or lower min_new_tokens"
        )

    def trace(self) -> Trace:
        """All tokens, with their rows if all have some."""
        return self._part(0, Rows.join(self._rows))

    def _part(self, start: int, rows: Rows | None = None) -> Trace:
        """The tokens from ``start`` on."""
        part = slice(start, self.count)
        prefilled = 0 if start else self.prefilled
        logp, logq, entropy = self._laws[:, part]
        return Trace(self._tokens[part], logp, logq, entropy, self.finished, prefilled, rows)

    def rest(self) -> Request:
        """The request for what is missing. Its noise is new: the tokens that came depend on the old."""
        if not self.count:
            return self.request
        asked = self.request
        return replace(
            asked,
            context=np.concatenate((asked.context, self._tokens[: self.count])),
            first=None,
            max_new_tokens=asked.max_new_tokens - self.count,
            seed=int(np.random.SeedSequence([asked.seed, self.count]).generate_state(1, np.uint64)[0] >> 1),
            prompt_length=len(asked.context) if asked.prompt_length is None else asked.prompt_length,
        )

    def close(self) -> None:
        """The outcome is handed over: the chain may ask again. A second call does nothing."""
        if self._open and self.request.chain is not None:
            self.request.chain.expect(1)
        self._open = False


class _Stops:
    """Says of each new token of a request whether it completes a stop.

    A stop string may begin in the part of the completion that the request keeps, never in the prompt nor where it is
    too early for a stop. Only the last few tokens are decoded each time: a token is at least one byte, so a stop of B
    bytes lies within the last B tokens; a few more cover characters cut in the middle and special tokens, which have no
    text.
    """

    def __init__(self, request: Request, stop_tokens: Collection[int], decode_now: DecodeNow | None) -> None:
        self.ids = frozenset(stop_tokens) | request.stop_ids
        self._early = request.stopless
        self._strings = request.stop_strings
        self._decode_now = decode_now
        self._window = max((len(stop.encode()) for stop in self._strings), default=0) + 8
        looked_at = request.generated[request.min_new_tokens :]
        self._recent: list[int] = looked_at[-self._window :].tolist() if self._strings else []

    def completes(self, token: int) -> bool:
        """Take in the next token; True if a stop ends with it."""
        if self._early:
            self._early -= 1
            return False
        if not self._strings:
            return token in self.ids
        self._recent = [*self._recent[-self._window :], token]
        if token in self.ids:
            return True
        assert self._decode_now is not None, "engines refuse stop strings where they cannot decode at once"
        recent = self._decode_now(self._recent)
        return any(stop in recent for stop in self._strings)
