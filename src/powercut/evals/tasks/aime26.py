"""AIME 2026: competition problems whose answers are whole numbers from 0 to 999."""

from __future__ import annotations

from functools import partial

from powercut.evals.data import Row, hub_rows
from powercut.evals.graders.number import check_number, grade_number
from powercut.evals.problem import Problem
from powercut.evals.tasks.task import Order, Task, read_question


def read_aime(row: Row, order: Order) -> Problem:
    """A question whose answer is a whole number from 0 to 999."""
    problem = read_question(row, order)
    if not problem.answer.isdecimal() or len(problem.answer.lstrip("0")) > 3:
        raise row.error(f"answer must be a whole number from 0 to 999 (it is {problem.answer[:40]!r})")
    return Problem(problem.id, problem.question, str(int(problem.answer)))


TASK = Task(
    "aime26",
    "math",
    partial(hub_rows, "MathArena/aime_2026", None, "train"),
    read_aime,
    grade_number,
    check_number,
    max_new_tokens=6144,
    published_seeds=64,  # 8 repetitions of 8
)
