"""A small table model with text, in place of a loaded one. Run as a program, it is ``powercut`` with that model."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import powercut
from powercut import Request, TableEngine, Trace
from powercut.cli import main
from powercut.engines.protocol import KeepGoing
from powercut.errors import EngineError

LETTERS = ".abcdefgh"
EOS = 0
HANGS, FAILS, BREAKS = "h", "g", "f"


class LetterText:
    """One token a letter; the stop is not shown."""

    has_chat_template = False

    async def encode(self, text: str) -> list[int]:
        return self.ids(text)

    def ids(self, text: str) -> list[int]:
        return [LETTERS.index(letter) for letter in text if letter in LETTERS]

    async def encode_chat(self, messages: Sequence[object], template_args: object = None) -> list[int]:
        raise AssertionError("there is no template")

    async def is_rendered(self, text: str) -> bool:
        return False

    async def decode(self, tokens: Sequence[int]) -> str:
        return self.decode_now(tokens)

    def decode_now(self, tokens: Sequence[int]) -> str:
        return "".join(LETTERS[token] for token in tokens if token != EOS)


class FakeEngine(TableEngine):
    """Completes any prompt with a few letters; the prompts "h", "g" and "f" hang, fail and break."""

    name = "fake"
    letters = LetterText()

    def __init__(self) -> None:
        super().__init__(lambda _: [0.1, 0.3, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05], EOS, text=self.letters)

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        first = LETTERS[request.context[0]]
        if first == HANGS:
            await asyncio.Event().wait()
        if first == FAILS:
            raise EngineError("the model returned NaN: try dtype float32")
        if first == BREAKS:
            raise ZeroDivisionError("a bug")
        return await super().extend(request, keep_going)


def load(model: str | None = None, **options: object) -> FakeEngine:
    """In place of ``powercut.load``; remembers what it was asked for."""
    load.asked = (model, options)
    return FakeEngine()


if __name__ == "__main__":
    powercut.load = load
    sys.exit(main())
