"""MATH-500: 500 competition problems whose answers are formulas."""

from __future__ import annotations

from functools import partial

from powercut.evals.data import hub_rows
from powercut.evals.graders.formula import check_formula, grade_math
from powercut.evals.tasks.task import Task, read_question

TASK = Task(
    "math500",
    "math",
    partial(hub_rows, "HuggingFaceH4/MATH-500"),
    read_question,
    grade_math,
    check_formula,
    published_seeds=8,
)
