"""The grader of numbers. Pure and fast, whatever the text."""

from __future__ import annotations

from fractions import Fraction

from powercut.evals.graders.extract import boxed, boxed_number, last_number, marked
from powercut.evals.problem import NO_ANSWER, Grade, Problem


def grade_number(problem: Problem, text: str) -> Grade:
    r"""Whether the number that ``text`` ends with is the reference.

    It is the number inside the last \boxed{} (a formula there is none), else the one alone behind the last ``####``
    (GSM8K's own mark), else the last in the text. Units, currency, thousands separators and markup around it do not
    matter.
    """
    box = boxed(text)
    found = boxed_number(box) if box is not None else last_number(marked(text) or text)
    if found is None:
        return Grade(False, box, NO_ANSWER if box is None else r"not a single number in \boxed{}")
    reference = last_number(problem.answer)
    if reference is None:
        raise ValueError(f"problem {problem.id} has no number as its answer: {problem.answer!r}")
    return Grade(found == reference, show(found), None if found == reference else f"the answer is {show(reference)}")


def show(value: Fraction) -> str:
    """A number as people write it: 14, 2.5, 1/3."""
    if value.denominator == 1:
        return str(value.numerator)
    decimal = f"{float(value):.12g}" if abs(value) < 10**15 else ""
    return decimal if decimal and Fraction(decimal) == value else str(value)
