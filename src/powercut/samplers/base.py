"""What every sampler shares: its settings, how it asks an engine for tokens, and how it keeps account of the cost."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from powercut.engines.base import Engine, KeepGoing, Request
from powercut.errors import SettingError
from powercut.trace import Completion, Event, IntArray, Stats, Step, Trace

Observer = Callable[[Event], None]


def setting(
    default: Any, text: str, *, at_least: float | None = None, whole: bool = False, optional: bool = False
) -> Any:
    """A sampler's field: its default, its help text, the smallest number that makes sense, and whether None does."""
    return field(default=default, metadata={"help": text, "at_least": at_least, "whole": whole, "optional": optional})


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """The settings common to all samplers. ``await sampler(engine, prompt, rng)`` draws one completion.

    Raises SettingError, naming the setting and the remedy, for values that make no sense.
    """

    max_new_tokens: int = setting(1024, "Longest completion, in tokens (the horizon T).", at_least=1, whole=True)
    top_k: int | None = setting(
        50, "Truncate the base model to its K most likely tokens (None: all).", at_least=1, whole=True, optional=True
    )
    stop: tuple[str | int, ...] = setting((), "Text, or a token id, that ends a completion; may be given several times.")

    def __post_init__(self) -> None:
        for name, info in self.__dataclass_fields__.items():
            _check(name, getattr(self, name), info.metadata)
        stop = (self.stop,) if isinstance(self.stop, str | int) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        if any(s == "" for s in stop):
            raise SettingError("stop: a stop string cannot be empty; leave it out")

    @property
    @abstractmethod
    def proposal_temperature(self) -> float:
        """The temperature tau at which tokens are drawn."""

    def request(
        self,
        prompt: IntArray,
        kept: IntArray | None = None,
        *,
        horizon: int,
        seed: int = 0,
        session: Hashable | None = None,
    ) -> Request:
        """Ask for the rest of a completion of ``prompt`` that begins with ``kept``, up to ``horizon`` tokens in all."""
        kept = np.zeros(0, dtype=np.int64) if kept is None else kept
        return Request(
            context=np.concatenate((prompt, kept)),
            max_new_tokens=horizon - len(kept),
            temperature=self.proposal_temperature,
            top_k=self.top_k,
            stop=self.stop,
            seed=seed,
            prompt_length=len(prompt),
            session=session,
        )

    @abstractmethod
    async def __call__(
        self, engine: Engine, prompt: IntArray, rng: np.random.Generator, observe: Observer | None = None
    ) -> Completion:
        """Draw one completion of ``prompt`` (token ids ``[m]``) from ``engine``.

        All randomness comes from ``rng``: step i uses its i-th spawned child and nothing else, so that no schedule of
        concurrent work changes the result. ``observe`` is shown every Event as it happens.
        """


class Draw:
    """One completion in the making: asks the engine for tokens and keeps account of what they cost."""

    def __init__(self, sampler: Sampler, engine: Engine, prompt: IntArray, observe: Observer | None) -> None:
        self._sampler, self._engine, self._prompt = sampler, engine, prompt
        self._observe = observe
        self._start = time.perf_counter()
        self._decoded = self._prefilled = 0
        self.steps: list[Step] = []

    async def extend(
        self, kept: Trace, horizon: int, rng: np.random.Generator, keep_going: KeepGoing | None = None
    ) -> Trace:
        """Tokens that follow ``kept`` until a stop, ``horizon`` or ``keep_going`` ends them."""
        seed = int(rng.integers(2**63))
        request = self._sampler.request(self._prompt, kept.tokens, horizon=horizon, seed=seed, session=self)
        tail = await self._engine.extend(request, keep_going)
        self._decoded += len(tail)
        self._prefilled += tail.prefilled
        return tail

    def show(self, proposal: Trace, trace: Trace, *, stage: int = 0, stages: int = 1, step: Step | None = None) -> None:
        """Tell the observer of an event, and keep its step."""
        if step is not None:
            self.steps.append(step)
        if self._observe is not None:
            self._observe(Event(stage, stages, step, proposal, trace))

    def complete(self, trace: Trace) -> Completion:
        """The completion, with its steps and its cost."""
        steps = tuple(self.steps)
        stats = Stats(
            steps=len(steps),
            acceptance=sum(step.accepted for step in steps) / len(steps) if steps else None,
            tokens_decoded=self._decoded,
            tokens_prefilled=self._prefilled,
            seconds=time.perf_counter() - self._start,
        )
        return Completion(trace=trace, stats=stats, steps=steps)


def _check(name: str, value: Any, rule: Mapping[str, Any]) -> None:
    least = rule.get("at_least")
    if least is None or (value is None and rule["optional"]):
        return
    kinds = (int, np.integer) if rule["whole"] else (int, float, np.number)
    if isinstance(value, bool) or not isinstance(value, kinds) or not value >= least:
        kind = "a whole number" if rule["whole"] else "a number"
        raise SettingError(f"{name} must be {kind} of at least {least} (got {value!r})")
