"""Runs a problem's checks in one process on a function that lives in another. Imports what it is bundled with.

The judged program shares nothing with the checks: no memory, no builtins, no output, no file that counts. It gets
arguments and gives plain data; comparing is done here, and so is the verdict, a line of JSON on standard output with
the nonce of this run.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from powercut.evals.graders.code.plain import NotPlain, decode, encode
from powercut.evals.sandbox.confine import keep_from_others

_MOST = 1 << 24
"""Bytes of one reply."""
_LAST_WAIT = 1.0
"""Seconds, for a process that closed its end to end itself."""
_LONGEST_REASON = 200
_NOT_PLAIN = "what it sent is no plain data"


def main(nonce: str, program: str, name: str, given: str, checks: str, judged: str) -> None:
    """Judge the function ``name`` of a program by the function ``check`` of ``checks``; say what came of it.

    ``given`` is what the question defines for both; ``judged`` is the text of the process in which the program runs.
    """
    keep_from_others()
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        verdict = verdict_on(program, name, f"{given}\n{checks}", judged)
    print(json.dumps({"nonce": nonce, **verdict}), flush=True)


def verdict_on(program: str, name: str, checks: str, judged: str) -> dict[str, str | None]:
    """The ``reason`` for which the function does not pass, None if it does; or what makes the checks ``broken``."""
    module = types.ModuleType("checks")
    try:
        exec(compile(checks, "checks.py", "exec"), module.__dict__)
        check = module.__dict__["check"]
    except Exception as error:
        return {"broken": _put(error)}
    with _Judged(judged) as function:
        module.__dict__.setdefault(name, function)  # some checks compare with the function by its name
        return {"reason": function.load(program, name) or _checked(check, function)}


def _checked(check: Callable[[Any], object], function: _Judged) -> str | None:
    """Why the function does not pass; None if it does."""
    try:
        check(function)
    except _Lost:
        pass
    except Exception as error:
        return function.lost or _put(error)
    return function.lost


def _put(error: BaseException) -> str:
    if isinstance(error, _RaisedError):
        return f"{error.name}: {error}"[:_LONGEST_REASON].removesuffix(": ")
    return traceback.format_exception_only(error)[-1].strip()[:_LONGEST_REASON]


class _Lost(BaseException):
    """The judged program has ended, or sent what is no plain data: whatever the checks make of it, they do not pass."""


class _RaisedError(Exception):
    """An exception of the judged program that is none of Python's own."""

    name = ""


class _Judged:
    """The judged program's function, as the checks call it. ``lost`` says why nothing more is to be had of it."""

    def __init__(self, text: str) -> None:
        self.lost: str | None = None
        folder = tempfile.mkdtemp()
        Path(folder).chmod(0o777)  # it may run as another user
        reads, self._requests = os.pipe()
        self._replies, writes = os.pipe()
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", f"{text}({reads}, {writes})"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(reads, writes),
            cwd=folder,
        )
        os.close(reads)
        os.close(writes)

    def __enter__(self) -> _Judged:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._requests)
        os.close(self._replies)

    def load(self, program: str, name: str) -> str | None:
        """Run the program; why it cannot be."""
        try:
            reply = self._ask({"program": program, "name": name})
            return _put(self._exception(reply["raised"])) if "raised" in reply else None
        except _Lost:
            return self.lost

    def __call__(self, *positional: Any, **named: Any) -> Any:
        """Call the function. Its arguments are changed here as it changed them there."""
        arguments = positional, named
        reply = self._ask({"arguments": encode(arguments)})
        if "arguments" in reply:
            _update(arguments, self._decoded(reply["arguments"]))
        return self._result(reply)

    def _result(self, reply: dict[str, Any]) -> Any:
        if "raised" in reply:
            raise self._exception(reply["raised"])
        if "odd" in reply:
            raise self._lose(f"it returned what cannot be compared: {str(reply['odd'])[:_LONGEST_REASON]}")
        return self._decoded(reply.get("value"))

    def _exception(self, raised: Any) -> Exception:
        """The exception of Python's own that the program's is, or derives from."""
        if not (isinstance(raised, dict) and isinstance(raised.get("kinds"), list)):
            raise self._lose(_NOT_PLAIN)
        name, text = str(raised.get("name")), str(raised.get("text"))
        for kind in raised["kinds"]:
            known = getattr(builtins, str(kind), None)
            if isinstance(known, type) and issubclass(known, Exception) and known is not Exception:
                with contextlib.suppress(TypeError):  # it takes more than a text
                    return known(text)
        error = _RaisedError(text)
        error.name = name
        return error

    def _decoded(self, text: Any) -> Any:
        try:
            return decode(text, lambda number: _items(self, number))
        except NotPlain as error:
            raise self._lose(str(error)) from None

    def next_item(self, number: int) -> Any:
        """The next item of an iterator that it returned. Raises StopIteration."""
        return self._result(self._ask({"next": number}))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its reply. Raises _Lost, now and ever after, when there is none."""
        if self.lost is not None:
            raise _Lost
        line = json.dumps(request).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._requests, line) :]
        except BrokenPipeError:
            raise self._lose(None) from None
        line = self._line()
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(reply := json.loads(line), dict):
                return reply
        raise self._lose(_NOT_PLAIN)

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            piece = os.read(self._replies, 1 << 16)
            if not piece:
                raise self._lose(None)
            self._buffer += piece
            if len(self._buffer) > _MOST:
                raise self._lose(f"it returned more than {_MOST >> 20} MB")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _lose(self, reason: str | None) -> _Lost:
        """Give the program up, for a reason; None: it has ended."""
        if reason is None:
            reason = "it answers no more"
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_LAST_WAIT)
                reason = f"it ended with exit status {code}" if code else "it ended before the checks did"
        self.lost = reason
        return _Lost()


def _items(function: _Judged, number: int) -> Iterator[Any]:
    while True:
        try:
            item = function.next_item(number)
        except StopIteration:
            return
        yield item


def _update(old: Any, new: Any) -> None:
    """Change lists, dicts, sets and bytearrays to what they have become, in their place, in tuples and lists too."""
    if isinstance(old, (tuple, list)) and isinstance(new, (tuple, list)):
        for one, other in zip(old, new, strict=False):
            _update(one, other)
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() & new.keys():
            _update(old[key], new[key])
    if type(old) is not type(new) or old == new:
        return
    if isinstance(old, list):
        old[:] = [_kept(one, other) for one, other in zip(old, new, strict=False)] + new[len(old) :]
    elif isinstance(old, bytearray):
        old[:] = new
    elif isinstance(old, dict):
        items = {key: _kept(old[key], item) if key in old else item for key, item in new.items()}
        old.clear()
        old.update(items)
    elif isinstance(old, set):
        old.clear()
        old.update(new)


def _kept(old: Any, new: Any) -> Any:
    """The old object where it has become equal to the new: others may hold it."""
    return old if type(old) is type(new) and old == new else new
