"""The letter that a text settles on, and the texts that settle on none."""

import pytest

from powercut.evals.graders.letter import grade_choice
from powercut.evals.problem import Problem

PROBLEM = Problem("p", "?", "C", choices=("10 m", r"$5 \times 10^3$ kg", "42", "20"))

RIGHT = [
    r"\boxed{C}",
    r"\boxed{(C)}",
    r"\boxed{\text{C}}",
    r"\boxed{\textbf{(C)}}",
    r"\boxed{\textbf{(C) }42}",
    r"\boxed{C.}",
    r"\boxed{C. 42}",
    r"\boxed{C: 42}",
    r"\boxed{c}",
    r"\boxed{\text{Option C}}",
    r"\boxed{42}",
    r"\boxed{ 42. }",
    r"\boxed{A}, no: \boxed{C}",
    r"A is wrong, B is wrong. \boxed{C} and not D",
    "Answer: C",
    "Answer: (C)",
    "Answer: **C**",
    "**Answer:** C",
    "**Answer: C**",
    "answer: c",
    "ANSWER: C.",
    "The answer is C.",
    "The answer is (C) because A is too small.",
    "The answer is C, because A is too small.",
    "The answer is C because A is too small.",
    "the correct answer is option C",
    "The correct option is **(C)**.",
    "The right choice is: C) 42",
    "The answer is $C$",
    "Answer: B\nWait, no.\nAnswer: C",
    r"\boxed{7}. The answer is (C).",
    "C",
    "(C)",
    "**C**",
    "C.",
    "Both fail.\n\nTherefore, C.",
    "Let me think.\n\n(C)",
]
WRONG = [r"\boxed{A}", "Answer: B", "(D)", r"\boxed{10 m}", r"\boxed{5 \times 10^3 \text{ kg}}", r"\boxed{20}"]
NONE = [
    "",
    "   \n ",
    "I do not know.",
    r"\boxed{}",
    r"\boxed{7}",
    r"\boxed{E}",
    r"\boxed{CD}",
    r"\boxed{C^2}",
    r"\boxed{C",
    r"\boxed{A, C}",
    r"\boxed{C \text{ or } D}",
    r"\boxed{B/C}",
    "The answer is A or C.",
    "Answer: A and C",
    "Answer: (A), (C)",
    "Answer: (B) & (C)",
    "The answer is a large number",
    "The answer is A large number",
    "The answer is C-14 dating",
    "The answer is not C",
    "Answer C was my first thought",
    "A looks good, and C too",
    "C is the speed of light",
    "Option C is wrong, and so is D",
    "(C) is wrong",
    "A\nB\nC\nD\nnone of them",
    "I answered: Cats",
]


@pytest.mark.parametrize("text", RIGHT)
def test_right(text):
    grade = grade_choice(PROBLEM, text)
    assert (grade.correct, grade.answer, grade.reason) == (True, "C", None)


@pytest.mark.parametrize("text", WRONG)
def test_wrong(text):
    grade = grade_choice(PROBLEM, text)
    assert not grade.correct
    assert grade.answer is not None
    assert grade.answer in "ABD"


@pytest.mark.parametrize("text", NONE)
def test_nothing_is_guessed(text):
    grade = grade_choice(PROBLEM, text)
    assert not grade.correct
    assert grade.answer is None
    assert grade.reason


def test_two_choices_of_the_same_text_are_no_answer():
    problem = Problem("p", "?", "A", choices=("1", "1", "2"))
    assert grade_choice(problem, r"\boxed{1}").reason == "more than one answer: A, B"


@pytest.mark.parametrize(
    "text", ["answer is " * 20_000, "(" * 100_000, "A or " * 20_000, "answer" + " " * 100_000, "C" * 100_000]
)
def test_no_text_takes_long(text):
    """100 kB take milliseconds; a rule that is quadratic in the text would make this test take minutes."""
    assert not grade_choice(PROBLEM, text).correct
    assert not grade_choice(PROBLEM, rf"\boxed{{{text}}}").correct
    assert not grade_choice(PROBLEM, "Answer: " + text).correct
