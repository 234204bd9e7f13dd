"""A model given by a function from token ids to probabilities: the exact tests' and the documentation's engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from powercut.engines.laws import NextTokenLaw, draw, next_token_law, without
from powercut.engines.protocol import KeepGoing, Request, Usage, check_request
from powercut.engines.sequence import Sequence
from powercut.errors import EngineError, SettingError, one_line, quoted
from powercut.text import LocalText
from powercut.trace import FloatArray, IntArray, Rows, Trace


class TableEngine:
    """Samples from ``next_token_probs(context) -> probabilities`` over token ids 0..V-1.

    ``context`` is the tuple of all token ids so far, the prompt included; ``eos_id`` (an id, several, or None) ends a
    completion. The function must depend on its argument alone: laws are remembered. ``top_k`` at or above V truncates
    nothing. ``text`` translates strings; without it prompts and stops are token ids only.

    Raises EngineError when the function returns something that is not a probability vector.
    """

    name = "table"

    def __init__(
        self,
        next_token_probs: Callable[[tuple[int, ...]], ArrayLike],
        eos_id: int | Collection[int] | None = None,
        *,
        text: LocalText | None = None,
        concurrency: int = 64,
    ) -> None:
        self.text = text
        self._probs = next_token_probs
        ends = () if eos_id is None else eos_id if isinstance(eos_id, Collection) else (eos_id,)
        if not all(isinstance(each, int | np.integer) and not isinstance(each, bool) for each in ends):
            raise SettingError(f"eos_id must be token ids, or None for no end (got {quoted(eos_id)})")
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise SettingError(f"concurrency must be a whole number of at least 1 (got {quoted(concurrency)})")
        self.stop_tokens = frozenset(map(int, ends))
        self.concurrency = concurrency
        self.usage = Usage()
        self._running = 0
        self._law = lru_cache(maxsize=65536)(self._compute_law)

    @property
    def idle(self) -> int:
        """How many more requests could run within ``concurrency``."""
        return max(0, self.concurrency - self._running)

    def describe(self) -> str:
        """One line for people."""
        return f"{self.name}: {self._probs!r}"

    def check(self, request: Request) -> None:
        """Raise SettingError for stop strings where there is no text to look for them in."""
        check_request(request, reads_text=self.text is not None, textless="this table has no text; give stop token ids")

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        """Draw tokens one by one; yields to other tasks after each. Nothing is prefilled: a table needs no cache."""
        self.check(request)
        noise = np.random.default_rng(request.seed)
        decode_now = None if self.text is None else self.text.decode_now
        sequence = Sequence(request, keep_going, self.stop_tokens, decode_now)
        context: tuple[int, ...] = ()
        self._running += 1
        try:
            while not sequence.done:
                context = context or tuple(sequence.rest().context.tolist())
                tokens, law = self._law(context, request.temperature, request.top_k, sequence.barred)
                if sequence.barred.issuperset(tokens.tolist()):
                    raise sequence.nothing_left()
                i = self._pick(law.logq, noise)
                self.usage.decoded += 1
                laws = np.stack((law.logp[:, i], law.logq[:, i], law.entropy))
                sequence.take(tokens[i : i + 1], laws, Rows(tokens[None].astype(np.int32), law.logp))
                if not sequence.done:
                    context += (sequence.last_token,)
                    await asyncio.sleep(0)
            return sequence.trace()
        finally:
            self._running -= 1
            sequence.close()

    async def aclose(self) -> None:
        """Nothing to give back: a table can go on."""

    def _pick(self, logq: FloatArray, noise: np.random.Generator) -> int:
        """The place of the token that is drawn by ``logq`` ``[1, K]``."""
        return int(draw(logq, noise.random(1))[0])

    def _compute_law(
        self, context: tuple[int, ...], temperature: float, top_k: int | None, barred: frozenset[int] = frozenset()
    ) -> tuple[IntArray, NextTokenLaw]:
        """The K most likely tokens, and their laws, under which the ``barred`` ones are impossible."""
        given = self._probs(context)
        try:
            probs = np.asarray(given)
        except ValueError:  # lists of unequal lengths
            probs = np.empty(0)
        numbers = probs.ndim == 1 and probs.dtype.kind in "biuf" and len(probs)
        if not numbers or not (probs >= 0).all() or not abs(probs.sum() - 1) <= 1e-6:
            raise EngineError(f"next_token_probs{context} is not a probability vector: {one_line(repr(given), 120)}")
        probs = probs.astype(np.float64)
        # Ties at rank K go to the lower token id.
        tokens = np.sort(np.argsort(-probs, kind="stable")[:top_k])
        with np.errstate(divide="ignore", invalid="ignore"):  # of a law that leaves nothing
            logits = np.log(probs[tokens])
            return tokens, next_token_law(without(logits, tokens, barred)[None], np.array([temperature]))
