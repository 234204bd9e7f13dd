"""Where results go: files that are checked before any work, strict JSON lines, and texts in order."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import typer

from powercut.errors import PowercutError, SettingError, visible
from powercut.trace import Completion

Write = Callable[[str], None]


def say(message: str) -> None:
    """One line for the user, on stderr; where that is full there is nobody to tell."""
    with suppress(OSError):
        print(visible(" ".join(message.split())), file=sys.stderr, flush=True)


def to_stdout(text: str) -> None:
    """Write to stdout at once. A reader that has gone away (``head``) ends the program silently.

    A terminal shows control characters as escapes: a text by a model or a server must not act on it.
    """
    try:
        sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()
    except OSError as error:
        forget_stdout()
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(128 + 13) from None
        raise PowercutError(f"cannot write to stdout: {error.strerror or 'it is closed'}") from None


def open_streams() -> None:
    """In place of a standard stream that the caller closed, one from which nothing comes, or that refuses all."""
    for name, mode in (("stdin", "r"), ("stdout", "r"), ("stderr", "w")):  # one that writing to stdout fails on
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def forget_stdout() -> None:
    """Give up stdout: what is still buffered can never be written, and the interpreter would complain of it at exit."""
    with suppress(OSError):  # not a file of the system's, in a test
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class OutFile:
    """A file for results: opened, and so checked, before any work, but changed only by the first write.

    Each write reaches the file at once. A failing one is not fatal: the file keeps none of it, a line on stderr says so
    and ``fallback`` takes this and all later text, so that nothing sampled is lost. ``failed`` tells.

    Raises SettingError for a path that cannot be written, that holds something (without ``force``), or that leads to
    the file of one of ``others``.
    """

    def __init__(
        self, option: str, path: Path, *, force: bool, fallback: Write | None = None, others: Sequence[OutFile] = ()
    ) -> None:
        self.failed = False
        self._option = option
        self._path, self._fallback = path, fallback
        try:
            self._created = not path.exists()
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise SettingError(f"{option}: cannot write {path}: {error.strerror}") from None
        status = os.fstat(self._descriptor)
        self._regular = self._to_truncate = stat.S_ISREG(status.st_mode)
        for other in others if self._regular else ():
            if os.path.samestat(status, os.fstat(other._descriptor)):
                os.close(self._descriptor)
                raise SettingError(f"{other._option} and {option} name the same file")
        if self._to_truncate and status.st_size and not force:
            os.close(self._descriptor)
            raise SettingError(f"{option}: {path} exists already; give another name, or --force to overwrite it")

    def __enter__(self) -> OutFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        if self._created and self._to_truncate:  # nothing was written: leave no empty file behind
            with suppress(OSError):
                self._path.unlink()

    def write(self, text: str) -> None:
        """Append ``text``; the first time, in place of what the file held."""
        if not self.failed:
            try:
                self._write(text)
            except OSError as error:
                self.failed = True
                rest = "the rest goes to stdout" if self._fallback else "the rest is not saved"
                say(f"error: cannot write {self._path}: {error.strerror}; {rest}")
        if self.failed and self._fallback:
            self._fallback(text)

    def _write(self, text: str) -> None:
        if self._to_truncate:
            os.ftruncate(self._descriptor, 0)
            self._to_truncate = False
        # A lone surrogate, which JSON may carry in, becomes the escape that JSON has for it.
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        before = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except BaseException:
            if self._regular:
                os.ftruncate(self._descriptor, before)
            raise


class InOrder:
    """Hands completions on in the order of their prompts and samples, each as soon as its turn has come."""

    def __init__(self, show: Callable[[Completion], None], order: Iterable[tuple[int, int]]) -> None:
        self._show = show
        self._order = list(reversed(list(order)))
        self._waiting: dict[tuple[int, int], Completion | None] = {}

    def add(self, place: tuple[int, int], completion: Completion | None) -> None:
        """Take the completion of ``place``; None if there will be none."""
        self._waiting[place] = completion
        while self._order and self._order[-1] in self._waiting:
            self._pass_on(self._order.pop())

    def close(self) -> None:
        """Hand on, in order, what still waits for others that will not come."""
        for place in sorted(self._waiting):
            self._pass_on(place)

    def _pass_on(self, place: tuple[int, int]) -> None:
        completion = self._waiting.pop(place)
        if completion is not None:
            self._show(completion)
