"""How a sampler has tokens drawn, as plain data: lengths, temperatures, stops, and what is required of a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from powercut.engines.protocol import Engine, Request
from powercut.errors import SettingError
from powercut.text import special_tokens
from powercut.trace import IntArray


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a sampler has tokens drawn, and what it requires of a finished text, as plain data.

    ``legs`` says where each part of a completion ends, in tokens, and the temperature at which it is drawn; the last
    one ends with the longest completion. ``rows`` asks for the whole law at each position, where the engine has it.
    """

    legs: tuple[tuple[int, float], ...]
    top_k: int | None
    stop: tuple[str | int, ...]
    min_new_tokens: int = 0
    require: str | Callable[[str], bool] | None = None
    rows: bool = False

    def parts(self, start: int, horizon: int) -> Iterator[tuple[int, float]]:
        """Where each part of a decode from ``start`` tokens to ``horizon`` ends, and its temperature."""
        ending: tuple[int, float] | None = None
        for end, temperature in self.legs:
            if end > start:
                if ending is not None and ending[1] != temperature:
                    yield ending
                ending = min(end, horizon), temperature
                if end >= horizon:
                    break
        if ending is not None:
            yield ending

    def temperature_at(self, position: int) -> float:
        """The temperature at which the token at a position of the completion is drawn."""
        return next(temperature for end, temperature in self.legs if end > position)

    def on(self, engine: Engine) -> Decoding:
        """The same with the ids of those stops that are special tokens of the engine's model.

        Raises SettingError if something is required of texts, and the model has none.
        """
        if self.require is not None and engine.text is None:
            raise SettingError("require looks into texts, and this model has no tokenizer: leave it out")
        special = special_tokens(engine.text)
        stop = tuple(special.get(stop, stop) if isinstance(stop, str) else stop for stop in self.stop)
        return replace(self, stop=stop)

    def longest(self, prompt: IntArray) -> Iterator[Request]:
        """The longest request for ``prompt`` at each temperature: what an engine must be able to serve."""
        for temperature in dict.fromkeys(temperature for _, temperature in self.legs):
            yield Request(
                *(prompt, self.legs[-1][0], temperature, self.top_k, self.stop), min_new_tokens=self.min_new_tokens
            )
