"""One order of precedence for every grader, on many ways in which answers are stated."""

import pytest

from powercut.evals.graders import formula
from powercut.evals.graders.formula import grade_math
from powercut.evals.graders.letter import grade_choice
from powercut.evals.graders.number import grade_number
from powercut.evals.graders.stated import boxed, read
from powercut.evals.problem import Problem
from powercut.evals.tasks import TASKS
from tests.evals.graders import formula_ways, letter_ways, number_ways
from tests.evals.shared import shared

CHOICES = Problem("p", "?", "C", choices=("10 m", r"$5 \times 10^3$ kg", "42", "20"))


def lines(block):
    return [line.replace("⏎", "\n") for line in block.strip().split("\n")]


def pairs(block):
    return [tuple(line.rsplit(" | ", 1)) for line in lines(block)]


@pytest.mark.parametrize("text", lines(number_ways.NUMBERS))
def test_a_number(text):
    assert grade_number(Problem("p", "?", "14"), text).correct


@pytest.mark.parametrize("text", lines(number_ways.OTHER_NUMBERS))
def test_another_number(text):
    grade = grade_number(Problem("p", "?", "14"), text)
    assert not grade.correct
    assert grade.reason


@pytest.mark.parametrize("text", lines(letter_ways.LETTERS))
def test_a_letter(text):
    assert grade_choice(CHOICES, text).correct


@pytest.mark.parametrize("text", lines(letter_ways.OTHER_LETTERS))
def test_another_letter(text):
    grade = grade_choice(CHOICES, text)
    assert not grade.correct
    assert grade.reason


@pytest.fixture
def in_this_process(monkeypatch):
    """Comparing without its processes, which other tests are about."""
    monkeypatch.setattr(formula, "compare", lambda reference, answer: formula.compared(reference, answer))


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(("reference", "text"), pairs(formula_ways.FORMULAS))
def test_a_formula(reference, text):
    assert grade_math(Problem("p", "?", reference), text).correct


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(("reference", "text"), pairs(formula_ways.OTHER_FORMULAS))
def test_another_formula(reference, text):
    grade = grade_math(Problem("p", "?", reference), text)
    assert not grade.correct
    assert grade.reason


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        (r"The answer is 5. \boxed{3} <answer>4</answer>", ["3", "4", "5. \\boxed{3} <answer>4</answer>"]),
        ("answer: 1\nFinal answer: 2\n#### 3\nanswer: 4\n5 is the answer", ["3", "2", "4", "1", "5"]),
        ("#### 3\n#### 4", ["3", "4"]),
        ("The answer is 1. <think> The answer is 2.</think> The answer is 3.", ["3."]),
        ("<think>The answer is 2.</think>\n", ["2.</think>"]),
        ("The answer is 1.\n\nQuestion: more?\nThe answer is 2.", ["1."]),
        ("Question: what?\nThe answer is 2.", ["2."]),
        (r"\boxed{} <answer></answer> The answer is not 5. Final answer:", []),
        (r"\boxed{answer} \boxed{...} \boxed{\text{your answer}} <answer> answer here </answer>", []),
        (r"\boxed{1}, \boxed{2} and \boxed{3}", ["1, 2, 3"]),
        (r"\boxed{1} is wrong, \boxed{2}", ["2"]),
        (r"\boxed{\boxed{1}}", ["1"]),
    ],
)
def test_the_order_of_precedence(text, stated):
    found = read(text)
    assert [*([found.box] if found.box else []), *(sentence.text for sentence in found.sentences)] == stated


FORMS = (
    *(
        "So it is {}.",
        r"\boxed{{{}}}",
        "It is 7 times 3.\n#### {}\n\nQuestion: Tom has 3. How many?\nAnswer: 3\n#### 3",
    ),
    *("The answer is {}. That was for 2 people in 2023.", "**Final answer: ${}** (checked in 2 ways)"),
    *("Final answer: Altogether it is {}.\n\nThis took 3 steps.", "Answer: 3 boxes hold 4 each.\nSo it is {}"),
)


def test_all_answers_of_gsm8k():
    """Every one of the 1,319, in each form; and not one that is larger by a digit."""
    task = TASKS["gsm8k"]
    problems = task.problems(data=shared("gsm8k_test.jsonl"))
    assert len(problems) == 1319
    for form in FORMS:
        assert all(grade_number(problem, form.format(problem.answer)).correct for problem in problems), form
        assert not any(grade_number(problem, form.format(problem.answer + "1")).correct for problem in problems), form


LONG = ["answer is " * 20_000, "answer is\n" * 20_000, "<answer>" * 20_000, "#### 1\n" * 20_000, "Question: " * 20_000]
LONG += [
    "answer" + " to" * 50_000,
    "</think>" * 20_000,
    "a is the answer" * 10_000,
    r"\boxed{1}," * 20_000,
    "$" * 100_000,
]
LONG += ["answer: $1" * 10_000, "Question:\n" * 20_000 + r"\boxed{1}", r"\boxed{1" + "{" * 50_000, "answer (" * 20_000]


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("text", LONG, ids=lambda text: f"{text[:10]!r}...")
def test_no_text_takes_long(text):
    """100 kB take milliseconds; a rule that is quadratic in the text would make this test take minutes."""
    assert boxed(text) in (None, "1")
    assert not grade_number(Problem("p", "?", "14"), text).correct
    assert not grade_choice(CHOICES, text).correct
    assert not grade_math(Problem("p", "?", "14"), text).correct


TOKENS = (
    *(" ", "*", "$ ", r"\text{ }", "(", "{", ",", "and ", "1 ", "1/", "111,", "- ", "x=", r"\quad ", r"\frac{1}"),
    *(
        "A, ",
        "is ",
        "the ",
        "1. ",
        r"\boxed{1},",
        "Answer: ",
        "#### ",
        "½",
        "\u2009",
        r"\times 10^",
        "not ",
        "because ",
    ),
)
STATING = (("The answer is 5", "x"), ("Answer: ", "5 y"), (r"\boxed{5", "x}"), ("Final answer: C", " (C)"))


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("token", TOKENS)
def test_no_statement_takes_long(token, monkeypatch):
    """2,000 characters in a statement take milliseconds; a rule that is cubic in them would take minutes."""
    monkeypatch.setattr(formula, "compare", lambda reference, answer: False)
    for before, behind in (
        ("The answer is 5", "x"),
        ("Answer: ", "5 y"),
        (r"\boxed{5", "x}"),
        ("Final answer: C", " (C)"),
    ):
        text = before + token * (1900 // len(token)) + behind
        assert not grade_number(Problem("p", "?", "14"), text).correct
        assert grade_choice(CHOICES, text) is not None
        assert not grade_math(Problem("p", "?", "14"), text).correct
