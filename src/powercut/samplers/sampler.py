"""What every sampler is: frozen settings that, called with an engine and a prompt, draw one completion."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

import numpy as np

from powercut.engines.protocol import Engine
from powercut.errors import SettingError
from powercut.samplers.children import check_unused
from powercut.samplers.decoding import Decoding
from powercut.samplers.draw import Draw, Observer
from powercut.samplers.settings import check_pattern, check_settings, check_stop, check_temperature, setting
from powercut.target import Power
from powercut.trace import Completion, IntArray


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """The settings common to all samplers. ``await sampler(engine, prompt, rng)`` draws one completion.

    A sampler says how tokens are drawn (``proposal_temperature``, ``decoding``) and what is done with them (``run``).
    ``answer``, a regular expression or a function of the text (None: no answer), is for whatever compares answers:
    ``agree`` of ``pc.sample``, ``until``, ``select`` "majority".

    Raises SettingError, naming the setting and the remedy, for values that make no sense.
    """

    max_new_tokens: int = setting(1024, "Longest completion, in tokens (the horizon T).", at_least=1, whole=True)
    top_k: int | None = setting(
        50, "Truncate the base model to its K most likely tokens (None: all).", at_least=1, whole=True, optional=True
    )
    min_new_tokens: int = setting(
        0,
        "No stop before a completion has so many tokens: the model's law there is that without stops.",
        at_least=0,
        whole=True,
    )
    stop: tuple[str | int, ...] = setting(
        (), "Text, or a token id, that ends a completion; may be given several times."
    )
    answer: str | Callable[[str], Hashable | None] | None = setting(
        None, "Regular expression for the answer in a text: its last match counts, the first group if it has one."
    )

    def __post_init__(self) -> None:
        check_settings(self)
        check_pattern("answer", self.answer)
        object.__setattr__(self, "stop", check_stop(self.stop))
        if self.min_new_tokens and self.min_new_tokens >= self.max_new_tokens:
            raise SettingError(
                f"min_new_tokens must be below max_new_tokens={self.max_new_tokens}: nothing could finish "
                f"(got {self.min_new_tokens})"
            )

    def find_answer(self, text: str) -> Hashable | None:
        """What ``answer`` finds in a text; None where it finds none."""
        if self.answer is None or callable(self.answer):
            return None if self.answer is None else self.answer(text)
        found = list(re.finditer(self.answer, text))
        return found[-1][found[-1].re.groups > 0] if found else None

    @property
    @abstractmethod
    def proposal_temperature(self) -> float:
        """The temperature tau at which tokens are drawn."""

    @property
    def decoding(self) -> Decoding:
        """How tokens are drawn, as the engine is asked for them."""
        return Decoding(self.legs, self.top_k, self.stop, self.min_new_tokens)

    @property
    def legs(self) -> tuple[tuple[int, float], ...]:
        """Where each part of a completion ends, in tokens, and the temperature at which it is drawn."""
        return ((self.max_new_tokens, self.proposal_temperature),)

    @property
    def width(self) -> int:
        """How many requests one completion makes at once, look-ahead not counted."""
        return 1

    async def __call__(
        self,
        engine: Engine,
        prompt: IntArray,
        rng: np.random.Generator,
        observe: Observer | None = None,
        *,
        place: tuple[int, int] = (0, 0),
    ) -> Completion:
        """Draw one completion of ``prompt`` (token ids ``[m]``) from ``engine``.

        All randomness comes from ``rng``: step i uses the i-th child of its seed and nothing else, so that no schedule
        of concurrent work changes the result. It is for this completion alone: SettingError if it was used before.
        ``observe`` is shown every Event as it happens. ``place`` is the completion's prompt_index and sample_index.
        """
        check_unused(rng)
        async with Draw(engine, prompt, self.decoding, observe, place) as draw:
            return await self.run(draw, rng)

    @abstractmethod
    async def run(self, draw: Draw, rng: np.random.Generator) -> Completion:
        """Draw one completion by means of ``draw``, which asks the engine and keeps account."""


@dataclass(frozen=True, kw_only=True)
class Restricted(Sampler):
    """Completions that are finished and have something in their text, where ``require`` says what.

    A function of the text says whether it has it. ``stats.satisfied`` says of each completion whether it has: one that
    never came to have it is returned all the same.
    """

    require: str | Callable[[str], bool] | None = setting(
        None, "Regular expression for what a finished text must have in it; only such completions count."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pattern("require", self.require)

    @property
    def decoding(self) -> Decoding:
        """How tokens are drawn, as the engine is asked for them, and what the completion must have."""
        return replace(super().decoding, require=self.require)


@dataclass(frozen=True, kw_only=True)
class Targeted(Sampler):
    """A target p(x)^alpha e^(b n) of completions of n tokens."""

    alpha: float = setting(4.0, "Power of the target p^alpha.", at_least=1, at_most=1000)
    length_bonus: float = setting(
        0.0, "Nats that the target adds for each token: above 0 for longer completions.", at_least=-100, at_most=100
    )

    @property
    def target(self) -> Power:
        """What is sampled, and how it is proposed."""
        return Power(self.alpha, self.proposal_temperature, self.length_bonus)


@dataclass(frozen=True, kw_only=True)
class Sharpened(Sampler):
    """A power alpha, and tokens drawn at 1/alpha unless ``temperature`` says otherwise."""

    alpha: float = setting(4.0, "Power of the target p^alpha.", at_least=1)
    temperature: float | None = setting(None, "Temperature at which tokens are drawn. None: 1/alpha.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self.alpha, self.temperature)

    @property
    def proposal_temperature(self) -> float:
        """``temperature``, or 1/alpha."""
        return 1 / self.alpha if self.temperature is None else self.temperature
