"""Runs the program that is judged, in a process of its own, and answers the judge's calls of its function.

Imports nothing of ours but what it is bundled with. Whatever the program does to this process, the judge gets plain
data from it, and nothing else.
"""

from __future__ import annotations

import io
import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from powercut.evals.graders.code.plain import NotPlain, decode, encode
from powercut.evals.sandbox.confine import confine


def main(reads: int, writes: int) -> None:
    """Read requests from one file descriptor and write replies to another, a line each, until there are no more."""
    confine(str(Path.cwd()))
    with os.fdopen(reads, "rb") as requests, os.fdopen(writes, "wb") as replies:
        sys.stdin = io.StringIO()
        first = json.loads(requests.readline())
        module = types.ModuleType("solution")
        sys.modules["solution"] = module
        served = _Served(module, first["name"])
        _reply(replies, served.load(first["program"]))
        for line in requests:
            _reply(replies, served.answer(json.loads(line)))


def _reply(replies: IO[bytes], reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


class _Served:
    """The program's module, and the iterators that its function returned."""

    def __init__(self, module: types.ModuleType, name: str) -> None:
        self._module, self._name = module, name
        self._kept: list[Iterator[Any]] = []

    def load(self, program: str) -> dict[str, Any]:
        """Run the program."""
        try:
            exec(compile(program, "solution.py", "exec"), self._module.__dict__)
            getattr(self._module, self._name)
        except Exception as error:
            return _raised(error)
        return {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call the function, or take an iterator's next item; the arguments come back as the function left them."""
        try:
            if "next" in request:
                return {"value": encode(next(self._kept[request["next"]]), self._keep)}
            positional, named = decode(request["arguments"])
            try:
                result = getattr(self._module, self._name)(*positional, **named)
            except Exception as error:
                return {**_raised(error), **self._left((positional, named), request["arguments"])}
            return {"value": self._encoded(result), **self._left((positional, named), request["arguments"])}
        except _OddError as odd:
            return {"odd": str(odd)}
        except Exception as error:
            return _raised(error)

    def _left(self, arguments: Any, before: str) -> dict[str, Any]:
        """What became of the arguments, if anything did."""
        after = self._encoded(arguments)
        return {} if after == before else {"arguments": after}

    def _encoded(self, value: Any) -> str:
        try:
            return encode(value, self._keep)
        except NotPlain as error:
            raise _OddError(error) from None

    def _keep(self, iterator: Iterator[Any]) -> int:
        self._kept.append(iterator)
        return len(self._kept) - 1


class _OddError(Exception):
    """A result that is no plain data."""


def _raised(error: Exception) -> dict[str, Any]:
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    return {"raised": {"name": type(error).__name__, "kinds": kinds, "text": str(error)}}
