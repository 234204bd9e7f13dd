"""Whether two formulas are the same, by math-verify, in processes that are killed if they take too long."""

from __future__ import annotations

import atexit
import functools
import logging
import multiprocessing
import os
import re
import signal
from typing import Any

from powercut.errors import SettingError
from powercut.evals.data import INSTALL
from powercut.evals.extract import boxed, stated_math
from powercut.evals.grading import NO_ANSWER
from powercut.evals.problem import Grade, Problem

SECONDS = 10.0
"""What one comparison may take; sympy needs far less for any answer that a person would write."""

MEMORY = 2 << 30
"""Address space of a comparing process, in bytes."""

LONGEST = 2000
"""Characters of an answer; no reference has a tenth of them."""


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
    if _plain(answer) == _plain(problem.answer):
        return Grade(True, answer)
    try:
        same = same_value(problem.answer, answer)
    except TimeoutError:  # of concurrent.futures, which is the built-in one
        return Grade(False, answer, f"comparing the answer took longer than {SECONDS:g} s")
    except Exception as error:  # whatever sympy raises on what a model wrote, and a process that died of it
        return Grade(False, answer, f"the answer cannot be compared: {type(error).__name__}")
    return Grade(same, answer, None if same else f"the answer is {problem.answer}")


def same_value(reference: str, answer: str) -> bool:
    """Whether math-verify takes two pieces of LaTeX for the same; raises what it raises, or TimeoutError."""
    same: bool = _processes().schedule(_compare, args=(reference, answer), timeout=SECONDS).result()
    return same


def _plain(latex: str) -> str:
    """LaTeX without what changes nothing: spaces, sizes of brackets and fractions, dollar signs around it."""
    latex = re.sub(r"\\(?:left|right)(?![a-z])|\\[,!;: ]|~|\s", "", latex.strip().strip("$"))
    return re.sub(r"\\[dt]frac", r"\\frac", latex).removesuffix(".")


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
    import math_verify  # noqa: F401  # before the memory is limited, and outside the time of the first comparison

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    logging.disable(logging.CRITICAL)  # math-verify logs what it cannot parse: the grade says it
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, OSError, ValueError):  # not on this system
        pass


def _compare(reference: str, answer: str) -> bool:
    from math_verify import parse, verify

    # Its own timeouts are signals, which work in a main thread only.
    gold, found = (parse(rf"\boxed{{{latex}}}", parsing_timeout=None) for latex in (reference, answer))
    return bool(verify(gold, found, timeout_seconds=None))
