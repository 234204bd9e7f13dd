"""What a task is, and how a row with a question and a short answer becomes a problem."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from powercut.errors import SettingError
from powercut.evals.data import Row, file_rows
from powercut.evals.graders.code import Execute, grade_code
from powercut.evals.problem import Grade, Problem
from powercut.evals.styles import Kind

QUESTION = ("question", "problem", "prompt")
ANSWER = ("answer",)
ID = ("id", "unique_id", "task_id", "problem_idx", "Record ID")
"""What data sets call these fields."""


@dataclass(frozen=True, slots=True)
class Task:
    """A benchmark.

    ``load`` gives its rows and ``read`` turns a row and the seed into a Problem. ``grade`` is a function of problem and
    text that may block (call it in a thread); it is None for code, which ``score`` has executed. ``max_new_tokens`` and
    ``alpha`` are those of arXiv 2605.30327 where it has the task.
    """

    name: str
    kind: Kind
    load: Callable[[], Sequence[Row]]
    read: Callable[[Row, int], Problem]
    grade: Callable[[Problem, str], Grade] | None
    max_new_tokens: int = 3072
    alpha: float = 4.0

    @property
    def runs_code(self) -> bool:
        """Whether ``score`` needs a place to execute code."""
        return self.grade is None

    def problems(self, *, data: str | Path | None = None, limit: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``limit`` problems (None: all), from the file ``data`` or from where the task has them.

        ``seed`` shuffles the choices of each row.

        Raises SettingError, naming the remedy, if the data cannot be had, and naming row, field and accepted names if a
        row lacks one.
        """
        if limit is not None and limit < 1:
            raise SettingError(f"limit must be at least 1 (got {limit})")
        rows = self.load() if data is None else file_rows(data)
        seen: dict[str, int] = {}
        problems = []
        for row in rows[:limit]:
            problem = self.read(row, seed)
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


def read_question(row: Row, seed: int) -> Problem:
    """A question with a short answer."""
    return Problem(problem_id(row), row.text(*QUESTION), row.text(*ANSWER))


def problem_id(row: Row) -> str:
    """The row's id, else its number."""
    name = row.present(*ID)
    return row.text(*ID) if name in row.values else str(row.number)
