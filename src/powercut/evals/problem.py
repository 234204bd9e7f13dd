"""What a task asks and what a grader says of an answer."""

from __future__ import annotations

from dataclasses import dataclass

LETTERS = "ABCDEFGHIJ"
"""What choices are called."""

NO_ANSWER = "no answer in the text"
"""Why a text without one is not correct."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a task.

    ``question`` is what is asked, without any instruction on how to answer; for code it is the signature and docstring
    to complete. ``answer`` is the reference: a number, a formula, the letter of the right choice, or a correct
    completion of the code. ``choices`` are the texts of choices A, B, ...; ``test`` and ``entry_point`` are the check
    program and the function that it checks.
    """

    id: str
    question: str
    answer: str
    choices: tuple[str, ...] = ()
    test: str = ""
    entry_point: str = ""


@dataclass(frozen=True, slots=True)
class Grade:
    """A grader's verdict: the ``answer`` it found in the text (None: there is none), and why it is not correct."""

    correct: bool
    answer: str | None = None
    reason: str | None = None
