"""How far a command has come that does one thing many times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY = 5.0
"""Seconds between two lines where there is no terminal."""


@contextmanager
def counting(console: Console, doing: str, done: int, total: int, are_done: str) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, else a line now and then; the function is called when one more is done.

    ``doing`` is what the bar says ("measuring"), ``are_done`` ends the line ("measured").
    """
    last = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=total, completed=done)

        def step() -> None:
            nonlocal done, last
            done += 1
            bar.advance(task)
            if not console.is_terminal and time.monotonic() - last >= _EVERY:
                last = time.monotonic()
                console.print(f"{done}/{total} {are_done}", markup=False)

        yield step
