"""Word problems of one and two steps with small whole numbers, made from a seed: a task that needs no download.

Small enough for a model of 135M parameters to solve some, and different enough from each other to compare samplers on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from powercut.errors import SettingError
from powercut.evals.data import Row
from powercut.evals.graders.number import check_number, grade_number
from powercut.evals.problem import Problem
from powercut.evals.tasks.task import Task, read_question

PEOPLE = ("Tom", "Mia", "Sam", "Ana", "Ben", "Zoe", "Leo", "Eva", "Max", "Lily", "Omar", "Nina")
THINGS = ("apples", "books", "pens", "marbles", "cards", "stickers", "cookies", "shells", "coins", "balloons")
LARGEST_ANSWER = 60


@dataclass(frozen=True, slots=True)
class _Template:
    """A text, its answer as a function of its numbers a, b, ..., and the largest value of each; the least is 2."""

    text: str
    answer: Callable[..., float]
    largest: tuple[int, ...]

    def numbers(self) -> list[tuple[int, ...]]:
        """Every choice of numbers with a whole answer from 1 to LARGEST_ANSWER."""
        every = itertools.product(*(range(2, most + 1) for most in self.largest))
        return [n for n in every if 1 <= self.answer(*n) <= LARGEST_ANSWER and self.answer(*n) % 1 == 0]


_TEMPLATES = (
    # one step
    _Template(
        "{who} has {a} {things}. {other} gives {who} {b} more {things}. How many {things} does {who} have now?",
        lambda a, b: a + b,
        (20, 20),
    ),
    _Template(
        "There are {a} {things} on the table and {b} {things} in the box. How many {things} are there in total?",
        lambda a, b: a + b,
        (20, 20),
    ),
    _Template(
        "{who} has {a} {things}. {who} gives {b} of them to {other}. How many {things} does {who} have left?",
        lambda a, b: a - b,
        (20, 12),
    ),
    _Template(
        "{who} has {a} {things}. {other} has {b} {things}. How many more {things} does {who} have than {other}?",
        lambda a, b: a - b,
        (20, 12),
    ),
    _Template(
        "A rope is {a} meters long. {who} cuts off {b} meters. How many meters of rope are left?",
        lambda a, b: a - b,
        (30, 15),
    ),
    _Template(
        "{who} buys {a} bags. There are {b} {things} in each bag. How many {things} does {who} have?",
        lambda a, b: a * b,
        (12, 12),
    ),
    _Template(
        "{who} reads {a} pages every day. How many pages does {who} read in {b} days?",
        lambda a, b: a * b,
        (15, 12),
    ),
    _Template(
        "One ticket costs {a} dollars. {who} buys {b} tickets. How many dollars does {who} pay?",
        lambda a, b: a * b,
        (15, 12),
    ),
    _Template(
        "{who} shares {a} {things} equally among {b} children. How many {things} does each child get?",
        lambda a, b: a / b,
        (60, 10),
    ),
    _Template(
        "{who} puts {a} {things} into boxes. Each box holds {b} {things}. How many boxes does {who} fill?",
        lambda a, b: a / b,
        (60, 10),
    ),
    # two steps
    _Template(
        "{who} has {a} {things}. {who} buys {b} more and then gives {c} to {other}. How many {things} does {who} have?",
        lambda a, b, c: a + b - c,
        (12, 12, 10),
    ),
    _Template(
        "There are {a} people on a bus. At the first stop {b} get off and at the second stop {c} get on. "
        "How many people are on the bus now?",
        lambda a, b, c: a - b + c if a >= b else 0,
        (20, 10, 10),
    ),
    _Template(
        "{who} has {a} {things}. {other} takes {b} of them and {c} are lost. How many {things} are left?",
        lambda a, b, c: a - b - c,
        (20, 8, 8),
    ),
    _Template(
        "{who} has {a} boxes with {b} {things} in each box, and {c} more {things}. How many {things} does {who} have?",
        lambda a, b, c: a * b + c,
        (8, 8, 10),
    ),
    _Template(
        "{who} buys {a} packs of {b} {things} and gives {c} {things} to {other}. How many {things} does {who} keep?",
        lambda a, b, c: a * b - c,
        (8, 8, 10),
    ),
    _Template(
        "Each day {who} eats {a} cookies and {other} eats {b} cookies. How many cookies do they eat in {c} days?",
        lambda a, b, c: (a + b) * c,
        (8, 8, 7),
    ),
    _Template(
        "{who} picks {a} red flowers and {b} white flowers and puts them into {c} vases, the same number in each. "
        "How many flowers are in each vase?",
        lambda a, b, c: (a + b) / c,
        (20, 20, 8),
    ),
    _Template(
        "{who} has {a} dollars and buys {b} toys for {c} dollars each. How many dollars does {who} have left?",
        lambda a, b, c: a - b * c,
        (50, 8, 8),
    ),
    _Template(
        "{who} has {a} {things}. {other} has {b} times as many. How many {things} do they have together?",
        lambda a, b: a + a * b,
        (12, 6),
    ),
    _Template(
        "{who} is {a} years old. {other} is {b} years older than {who}. How old will {other} be in {c} years?",
        lambda a, b, c: a + b + c,
        (15, 10, 10),
    ),
)


def problems(n: int, seed: int = 0) -> list[Problem]:
    """The first ``n`` problems of the sequence that ``seed`` gives; answers are whole numbers from 1 to 60.

    No two have the same text or differ in names alone. The sequence is the same on every machine and for every ``n``.

    Raises SettingError when ``n`` or ``seed`` is negative or there are not so many problems (8,631).
    """
    if n < 0 or seed < 0:
        raise SettingError(f"n and seed must be at least 0 (got {n} and {seed})")
    bits = np.random.PCG64(seed)  # numpy keeps the stream of a bit generator for good, that of a Generator not

    def below(limit: int) -> int:
        return int(bits.random_raw()) % limit

    open_templates = [(template, template.numbers()) for template in _TEMPLATES]
    if n > (most := sum(len(left) for _, left in open_templates)):
        raise SettingError(f"arithmetic has {most} problems: ask for no more (got {n})")
    made = []
    for i in range(n):
        template, left = open_templates[at := below(len(open_templates))]
        numbers = left.pop(below(len(left)))
        if not left:
            del open_templates[at]
        people = list(PEOPLE)
        who, other, things = people.pop(below(len(people))), people[below(len(people))], THINGS[below(len(THINGS))]
        question = template.text.format(who=who, other=other, things=things, **dict(zip("abc", numbers, strict=False)))
        made.append(Problem(f"arithmetic/{i}", question, str(int(template.answer(*numbers)))))
    return made


def _rows() -> list[Row]:
    return [
        Row({"id": p.id, "question": p.question, "answer": p.answer}, "arithmetic", number)
        for number, p in enumerate(problems(500), start=1)
    ]


TASK = Task("arithmetic", "math", _rows, read_question, grade_number, check_number, max_new_tokens=256)
