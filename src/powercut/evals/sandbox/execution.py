"""The run of a program in a sandbox, whichever it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from powercut.errors import PowercutError


class SandboxError(PowercutError):
    """A sandbox that cannot run a program, which says nothing of the program."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How the run of a program ended; ``stopped`` says why it was stopped, None if it ended by itself.

    ``stdout`` and ``stderr`` are the last of what it wrote.
    """

    returncode: int | None
    stdout: str
    stderr: str
    stopped: str | None = None


Execute = Callable[[str], Awaitable[Execution]]
"""Runs a Python program where it can do no harm. Raises SandboxError when it cannot."""
