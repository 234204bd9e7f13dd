"""Whether two formulas are the same, by math-verify, in processes that are killed if they take too long."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import math
import multiprocessing
import os
import re
import signal
import time
from typing import Any

from powercut.errors import SettingError
from powercut.evals.data import INSTALL
from powercut.evals.graders.extract import boxed, stated_math
from powercut.evals.problem import NO_ANSWER, Grade, Problem

SECONDS = 5
"""Processor time of one comparison: ample for any answer that a person would write, and the same on a busy machine."""

WALL_SECONDS = 60
"""Wall time of one comparison, for systems that do not limit processor time."""

MEMORY = 2 << 30
"""Address space of a comparing process, in bytes."""

LONGEST = 2000
"""Characters of an answer; no reference has a tenth of them."""

_NUMERAL = re.compile(r"(\w+)_\{?(\d+)\}?")
_MEMBER = re.compile(r"^\s*[A-Za-z]\s*\\in\b\s*")


def grade_math(problem: Problem, text: str) -> Grade:
    r"""Whether the last \boxed{} of ``text`` (or else what follows its last "answer is") equals the reference.

    Blocks for at most SECONDS while another process compares: call it in a thread. A comparison that takes longer, or
    eats its memory, counts as wrong, and the reason says so.
    """
    answer = boxed(text)
    if answer is None:
        answer = stated_math(text)
    if not answer:
        return Grade(False, None, NO_ANSWER)
    if len(answer) > LONGEST:
        return Grade(False, answer[:LONGEST], f"the answer is longer than {LONGEST} characters")
    try:
        same = equal(problem.answer, answer)
    except TimeoutError:
        return Grade(False, answer, f"comparing the answer took longer than {SECONDS} s")
    except SettingError:
        raise
    except Exception as error:  # whatever sympy raises on what a model wrote, and a process that died of it
        return Grade(False, answer, f"the answer cannot be compared: {type(error).__name__}")
    return Grade(same, answer, None if same else f"the answer is {problem.answer}")


def equal(reference: str, answer: str) -> bool:
    r"""Whether two pieces of LaTeX are the same, or math-verify takes them for it.

    What it overlooks is added: bases (40_9 is not 40_8), and that x \in S stands for S. Raises TimeoutError when the
    comparison takes too long, and what math-verify raises.
    """
    reference, answer = (_MEMBER.sub("", latex.strip().strip("$"), count=1) for latex in (reference, answer))
    if _plain(reference) == _plain(answer):
        return True
    numeral, other = _NUMERAL.fullmatch(_plain(reference)), _NUMERAL.fullmatch(_plain(answer))
    if numeral and other:
        return numeral.groups() == other.groups()
    return verified(reference, answer)


def verified(reference: str, answer: str) -> bool:
    """Whether math-verify takes two pieces of LaTeX for the same; raises as ``equal`` does."""
    import pebble

    try:
        same: bool = _processes().schedule(_verify, args=(reference, answer, SECONDS), timeout=WALL_SECONDS).result()
    except pebble.ProcessExpired as error:
        if error.exitcode == -signal.SIGXCPU:
            raise TimeoutError from None
        raise
    return same


def _plain(latex: str) -> str:
    """LaTeX without spaces and sizes of brackets and fractions."""
    latex = re.sub(r"\\(?:left|right)(?![a-z])|\\[,!;: ]|[~\s]", "", latex)
    return re.sub(r"\\[dt]frac(?![a-z])", r"\\frac", latex).removesuffix(".")


@functools.cache  # sympy takes a second to import, so the processes stay; they end with this one
def _processes() -> Any:
    try:
        import math_verify  # noqa: F401  # found out here, not in the processes
        from pebble import ProcessPool
    except ImportError as error:
        raise SettingError(f"grading mathematics needs {error.name}: {INSTALL}") from error
    pool = ProcessPool(os.cpu_count() or 1, initializer=_start, context=multiprocessing.get_context("spawn"))
    atexit.register(_end, pool)
    return pool


def _end(pool: Any) -> None:
    pool.stop()
    pool.join()  # a process that is just starting would find its locks gone, and say so


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    logging.disable(logging.CRITICAL)  # math-verify logs what it cannot parse: the grade says it
    _verify(r"\frac{1}{2}", "0.6", WALL_SECONDS)  # imports and grammars are loaded before memory and time are limited
    with contextlib.suppress(ImportError, OSError, ValueError):  # not on this system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _verify(reference: str, answer: str, seconds: int) -> bool:
    from math_verify import parse, verify

    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        most = math.ceil(time.process_time()) + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    # Its own timeouts are signals, which work in a main thread only.
    gold, found = (parse(rf"\boxed{{{latex}}}", parsing_timeout=None) for latex in (reference, answer))
    return bool(verify(gold, found, allow_set_relation_comp=True, timeout_seconds=None))
