"""What a task is, and how a row with a question and a short answer becomes a problem."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from powercut.errors import SettingError
from powercut.evals.data import Row, file_rows
from powercut.evals.graders.code.grade import grade_code
from powercut.evals.problem import Grade, Problem
from powercut.evals.sandbox.execution import Execute
from powercut.evals.styles import Kind

QUESTION = ("question", "problem", "prompt")
ANSWER = ("answer",)
ID = ("id", "unique_id", "task_id", "problem_idx", "Record ID")
"""What data sets call these fields."""

Order = Callable[[int], Sequence[int]]
"""In which order so many choices are shown, the right one being the first of them."""


@dataclass(frozen=True, slots=True)
class Task:
    """A benchmark.

    ``load`` gives its rows and ``read`` turns a row and an order of its choices into a Problem. ``grade`` is a function
    of problem and text that may block (call it in a thread); it is None for code, which ``score`` has executed.
    ``check`` says what the grader cannot use in a problem (None: nothing). ``max_new_tokens`` and ``alpha`` are those
    of arXiv 2605.30327 where it has the task, and ``published_seeds`` counts the completions of each problem there;
    None: its tables do not have it.
    """

    name: str
    kind: Kind
    load: Callable[[], Sequence[Row]]
    read: Callable[[Row, Order], Problem]
    grade: Callable[[Problem, str], Grade] | None
    check: Callable[[Problem], str | None] = lambda problem: None
    max_new_tokens: int = 3072
    alpha: float = 4.0
    published_seeds: int | None = None

    @property
    def runs_code(self) -> bool:
        """Whether ``score`` needs a place to execute code."""
        return self.grade is None

    def problems(
        self, *, data: str | Path | None = None, limit: int | None = None, seed: int | None = None
    ) -> list[Problem]:
        """The first ``limit`` problems (None: all), from the file ``data`` or from where the task has them.

        Choices have an order of their own, the same always; a ``seed`` gives all another.

        Raises SettingError, naming the remedy, if the data cannot be had, and naming row, field and accepted names if a
        row lacks one, or has in it what the grader cannot use.
        """
        if limit is not None and limit < 1:
            raise SettingError(f"limit must be at least 1 (got {limit})")
        rows = self.load() if data is None else file_rows(data)
        shuffled = None if seed is None else seeded_order(seed)
        seen: dict[str, int] = {}
        problems = []
        for row in rows[:limit]:
            problem = self.read(row, shuffled or own_order(row))
            if (fault := self.check(problem)) is not None:
                raise row.error(fault)
            if (first := seen.setdefault(problem.id, row.number)) != row.number:
                raise row.error(f"its id {problem.id} is that of row {first}")
            problems.append(problem)
        return problems

    async def score(self, problem: Problem, text: str, execute: Execute | None = None) -> Grade:
        """Grade a completion's text; ``execute`` runs Python programs, for the tasks that need it.

        Whatever the text, this returns a Grade in bounded time.
        """
        if self.grade is not None:
            return await asyncio.to_thread(self.grade, problem, text)
        if execute is None:
            raise SettingError(f"{self.name} executes code: give it a sandbox")
        return await grade_code(problem, text, execute)


def own_order(row: Row) -> Order:
    """The order of a row's choices that its number gives, whatever else is read."""

    def order(choices: int) -> Sequence[int]:
        # Of a bit generator numpy keeps the stream for good; of its other methods it may change it.
        keys = np.random.PCG64([0, row.number]).random_raw(choices)
        return [int(i) for i in np.argsort(keys)]

    return order


def seeded_order(seed: int) -> Order:
    """Orders for one row after another, as published with arXiv 2605.30327: of Python's generator with ``seed``."""
    generator = random.Random(seed)

    def order(choices: int) -> Sequence[int]:
        shown = list(range(1, choices))
        generator.shuffle(shown)
        shown.insert(generator.randint(0, choices - 1), 0)
        return shown

    return order


def read_question(row: Row, order: Order) -> Problem:
    """A question with a short answer."""
    return Problem(problem_id(row), row.text(*QUESTION), row.text(*ANSWER))


def problem_id(row: Row) -> str:
    """The row's id, else its number."""
    name = row.present(*ID)
    return row.text(*ID) if name in row.values else str(row.number)
