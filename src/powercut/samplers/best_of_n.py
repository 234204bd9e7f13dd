"""Best-of-N: independent completions, of which the best by its own probability, or the majority's, is returned."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from powercut.engines.protocol import Engine
from powercut.errors import SettingError
from powercut.samplers.base import Draw, Observer, Sampler, check_number, seeds_of, setting, spawn
from powercut.samplers.sharpened import check_temperature
from powercut.text import Text, completion_text
from powercut.trace import Completion, IntArray, Trace

Selection = Literal["mean-logp", "logp", "majority"]
Spent = tuple[int, int, int]
"""A prompt index, a sample index, and the tokens decoded for that completion."""

Matched = tuple[Spent, ...]

DEFAULT_N = 8


@dataclass(frozen=True, kw_only=True)
class BestOfN(Sampler):
    """The best of ``n`` completions, or of as many as a budget of decoded tokens buys.

    ``budget`` draws completions until they have cost that many tokens: the cost is at least the budget, and less than
    the budget and one completion more. ``match`` takes the budget of each completion from another sampler's completion
    of the same prompt and sample index (compute-matched best-of-N, as compared in arXiv 2605.30327): give the
    completions, which are kept as (prompt index, sample index, tokens decoded). With none of the three ``n`` is 8.

    ``select`` is ``mean-logp``, the highest mean log-probability per token (as published); ``logp``, the highest sum;
    or ``majority``: the most frequent answer, and of its completions the one with the highest mean. An answer is what
    ``answer`` finds in the text: a function of the text (None: no answer), or a regular expression whose last match
    counts, its first group if it has one.

    Not the power distribution, whatever N: it approaches the mode of what it selects by.
    """

    n: int | None = setting(
        None,
        "Completions to choose from (none: what budget or match buys, else 8).",
        at_least=1,
        optional=True,
        whole=True,
    )
    budget: int | None = setting(
        None, "Draw until so many tokens have been decoded.", at_least=1, optional=True, whole=True
    )
    match: Matched = setting((), "Spend on each completion what another sampler's took.")
    temperature: float = setting(1.0, "Temperature at which tokens are drawn.")
    select: Selection = setting(
        "mean-logp", "The best has the highest mean log p per token, the highest sum, or the most frequent answer."
    )
    answer: str | Callable[[str], Hashable | None] | None = setting(
        None, "Regular expression for the answer in a text, for majority."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "match", _spent(self.match))
        given = [name for name in ("n", "budget", "match") if getattr(self, name) not in (None, ())]
        if len(given) > 1:
            raise SettingError(f"{' and '.join(given)} say the same thing twice: give one of them")
        if self.temperature is None:
            raise SettingError("temperature must be a positive number (got None)")
        check_temperature(1.0, self.temperature)
        if self.select not in get_args(Selection):
            raise SettingError(f"select must be {', '.join(get_args(Selection))} (got {self.select!r})")
        if (self.select == "majority") != (self.answer is not None):
            raise SettingError("select majority and answer go together: give both or neither")
        if isinstance(self.answer, str):
            try:
                re.compile(self.answer)
            except re.error as error:
                raise SettingError(f"answer must be a regular expression ({error}; got {self.answer!r})") from error
        elif self.answer is not None and not callable(self.answer):
            raise SettingError(f"answer must be a regular expression or a function (got {self.answer!r})")

    @property
    def proposal_temperature(self) -> float:
        """``temperature``."""
        return self.temperature

    @property
    def width(self) -> int:
        """``n`` completions decode at once; of a budget, those that it is certain to buy."""
        budget = min(self._budgets.values()) if self.match else self.budget
        if budget is not None:
            return -(-budget // self.max_new_tokens)
        return DEFAULT_N if self.n is None else self.n

    def for_sample(self, prompt_index: int, sample_index: int) -> BestOfN:
        """With ``match``, the sampler whose budget is what that completion took."""
        if not self.match:
            return self
        budget = self._budgets.get((prompt_index, sample_index))
        if budget is None:
            raise SettingError(
                f"match has no completion for prompt {prompt_index}, sample {sample_index}: "
                "draw as many there, of the same prompts"
            )
        return replace(self, match=(), budget=budget)

    @cached_property
    def _budgets(self) -> dict[tuple[int, int], int]:
        return {(i, j): tokens for i, j, tokens in self.match}

    async def __call__(
        self, engine: Engine, prompt: IntArray, rng: np.random.Generator, observe: Observer | None = None
    ) -> Completion:
        """Draw one completion (see ``Sampler.__call__``); completion i of those it chooses from has seed i."""
        if self.match:
            raise SettingError("match says what to spend on each completion of a run; give a budget for one alone")
        if self.select == "majority" and engine.text is None:
            raise SettingError("select=majority reads answers in texts, and this model has no tokenizer")
        [source] = spawn(rng, 1)
        async with Draw(self, engine, prompt, observe) as draw:
            drawn = await self._draw_all(draw, source)
            best = drawn[self._best(drawn, engine.text)]
            return await draw.complete(best, candidates=len(drawn))

    async def _draw_all(self, draw: Draw, source: np.random.SeedSequence) -> list[Trace]:
        """Completions in the order of their seeds; how many there are does not depend on which ends first."""
        whole: dict[int, Trace] = {}
        running: dict[asyncio.Task[Trace], int] = {}
        while True:
            while self._buys_another(whole, running):
                index = len(whole) + len(running)
                [seed] = seeds_of(source.spawn(1)[0], 1)
                running[draw.start(draw.extend(Trace.empty(), self.max_new_tokens, seed, lane=index))] = index
            if not running:
                return [whole[index] for index in sorted(whole)]
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                index = running.pop(task)
                whole[index] = task.result()
                stages = self.n or max(DEFAULT_N if self.budget is None else 0, len(whole) + len(running))
                draw.show(whole[index], whole[index], stage=len(whole) - 1, stages=stages)

    def _buys_another(self, whole: Mapping[int, Trace], running: Sized) -> bool:
        """Whether one more completion is certain to be paid for, however long those that run now will be."""
        if self.budget is None:
            return len(whole) + len(running) < (DEFAULT_N if self.n is None else self.n)
        return sum(map(len, whole.values())) + len(running) * self.max_new_tokens < self.budget

    def _best(self, traces: Sequence[Trace], text: Text | None) -> int:
        """The index of the completion to return; the first of equals."""
        scores = [float(trace.logp.sum() if self.select == "logp" else trace.logp.mean()) for trace in traces]
        if self.select != "majority" or text is None:
            return int(np.argmax(scores))
        answers = [self._find_answer(completion_text(text, trace.tokens.tolist(), self.stop)) for trace in traces]
        votes = Counter(answer for answer in answers if answer is not None)
        # Where no text has an answer, all texts are equals.
        return max(range(len(traces)), key=lambda i: (votes[answers[i]], scores[i], -i))

    def _find_answer(self, text: str) -> Hashable | None:
        if callable(self.answer):
            return self.answer(text)
        found = list(re.finditer(self.answer or "", text))
        return found[-1][found[-1].re.groups > 0] if found else None


def _spent(match: Iterable[Completion | Spent]) -> Matched:
    """What each completion took, from the completions or from the numbers themselves."""
    if isinstance(match, str) or not isinstance(match, Iterable):
        raise SettingError(f"match must be completions of another sampler (got {match!r})")
    kept: dict[tuple[int, int], int] = {}
    for item in match:
        if isinstance(item, Completion):
            item = (item.prompt_index, item.sample_index, item.stats.tokens_decoded)
        try:
            i, j, tokens = item
        except (TypeError, ValueError):
            raise SettingError(f"match must be completions of another sampler (got {item!r})") from None
        for value, least in ((i, 0), (j, 0), (tokens, 1)):
            check_number("match: each of its three numbers", value, least, whole=True)
        if (i, j) in kept:
            raise SettingError(f"match has two completions for prompt {i}, sample {j}: give one run's")
        kept[int(i), int(j)] = int(tokens)
    return tuple((i, j, tokens) for (i, j), tokens in kept.items())
