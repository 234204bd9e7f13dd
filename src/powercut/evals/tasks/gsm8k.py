"""GSM8K: word problems of school mathematics whose answers are numbers."""

from __future__ import annotations

from functools import partial

from powercut.evals.data import Row, hub_rows
from powercut.evals.graders.number import check_number, grade_number
from powercut.evals.problem import Problem
from powercut.evals.tasks.task import Order, Task, read_question


def read_gsm8k(row: Row, order: Order) -> Problem:
    """The answer is a solution with the number behind the last ``####``."""
    problem = read_question(row, order)
    number = problem.answer.rpartition("####")[2].strip()
    if not number:
        raise row.error("answer has nothing behind its last ####")
    return Problem(problem.id, problem.question, number)


TASK = Task("gsm8k", "math", partial(hub_rows, "openai/gsm8k", "main"), read_gsm8k, grade_number, check_number)
