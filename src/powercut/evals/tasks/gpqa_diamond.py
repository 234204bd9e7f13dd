"""GPQA Diamond: hard multiple-choice questions of natural science. The data set is gated on the hub."""

from __future__ import annotations

from functools import partial

from powercut.evals.data import Row, hub_rows
from powercut.evals.graders.letter import check_choices, grade_choice
from powercut.evals.problem import LETTERS, Problem
from powercut.evals.tasks.task import ANSWER, QUESTION, Order, Task, problem_id


def read_choices(row: Row, order: Order) -> Problem:
    """The right choice and the wrong ones, shown in ``order``.

    Beside the data set's own field names a row may have ``choices``, a list with the right one among them, and
    ``answer``: its text or its letter.
    """
    if "choices" in row.values:
        choices, right = _choices(row)
        choices = [right, *(choice for choice in choices if choice != right)]
    else:
        right = row.text("Correct Answer", "correct_answer", "choices").strip()
        wrong = [row.text(f"Incorrect Answer {i}", f"incorrect_answer_{i}").strip() for i in (1, 2, 3)]
        choices = [right, *wrong]
    shuffled = tuple(choices[i] for i in order(len(choices)))
    return Problem(problem_id(row), row.text("Question", *QUESTION), LETTERS[shuffled.index(right)], shuffled)


def _choices(row: Row) -> tuple[list[str], str]:
    listed = row.get("choices")
    if not isinstance(listed, list) or not 2 <= len(listed) <= len(LETTERS):
        raise row.error(f"choices must be a list of 2 to {len(LETTERS)} texts")
    choices = [row.as_text(f"choice {letter}", choice).strip() for letter, choice in zip(LETTERS, listed, strict=False)]
    answer = row.text(*ANSWER).strip()
    letters = LETTERS[: len(choices)]
    right = answer if answer in choices else choices[letters.index(answer)] if answer in tuple(letters) else None
    if right is None or choices.count(right) != 1:
        raise row.error(f"answer must be one of the choices or its letter (it is {answer[:40]!r})")
    return choices, right


TASK = Task(
    "gpqa-diamond",
    "choice",
    partial(hub_rows, "Idavidrein/gpqa", "gpqa_diamond", "train"),
    read_choices,
    grade_choice,
    check_choices,
    max_new_tokens=6144,
    published_seeds=8,
)
