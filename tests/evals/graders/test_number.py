"""Numbers as models write them."""

from fractions import Fraction

import pytest

from powercut.evals.graders.number import grade_number, last_number
from powercut.evals.graders.stated import boxed
from powercut.evals.problem import Problem

FOURTEEN = [
    "14",
    "The answer is 14.",
    "7 * 2 = 14.",
    "7*2=14",
    "**14**",
    "The answer is **14 apples**.",
    "__14__",
    "$14",
    "$14.00",
    r"\$14",
    "14 dollars",
    "14kg",
    "14%",
    "(14)",
    "[14]",
    "so x=14!",
    "14,",
    "014",
    "+14",
    "14.0",
    "`14`",
    "Tom has 3 boxes, so 14",
    "20 - 6 = 14",
    "20 -6=14",
    r"\boxed{14}",
    r"\boxed{14 \text{ apples}}",
    r"\boxed{\$14}",
    r"$\boxed{ 14 }$ as 3 + 11 = 14, checked on page 5",
    r"\fbox{14}",
    r"\boxed{3}, no: \boxed{14}",
    r"\boxed{\boxed{14}}",
    r"\boxed{x = 14}",
    "#### 14",
    "#### 14\nThat was problem 3 of 9",
    "28/2",
    r"\frac{28}{2}",
    "On the 3rd day there are 14 on the 2nd shelf",
    "14\n\n",
    "the answer is 14 (see x2)",
    "the answer is 14 = x_2",
    "so... 14",
    "so...14",
    "#### Step 3\n#### 14\n",
    "#### Step 3\nadd up to 14",
    "#### $14.",
]
NOT_FOURTEEN = [
    "15",
    "-14",
    "\N{MINUS SIGN}14",
    "- 14",
    "1.4",
    "14.5",
    "140",
    "1,400",
    "1/14",
    "3/14",
    r"\frac{3}{14}",
    r"\boxed{13} 14",
    r"\boxed{14} or \boxed{15}",
    "14 or 15",
    "#### 13 #### 15",
    r"\boxed{\frac{14}{3}}",
    "14th",
    "x14",
    "fourteen",
    "",
    "   ",
    r"\boxed{}",
    r"\boxed{\text{fourteen}} 14",
    "A. B. C.",
    "14 000",
]


@pytest.mark.parametrize("text", FOURTEEN)
def test_fourteen(text):
    grade = grade_number(Problem("p", "?", "14"), text)
    assert grade.correct, grade
    assert (grade.answer, grade.reason) == ("14", None)


@pytest.mark.parametrize("text", NOT_FOURTEEN)
def test_not_fourteen(text):
    grade = grade_number(Problem("p", "?", "14"), text)
    assert not grade.correct
    assert grade.reason


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234", 1234),
        ("12,345,678.5", Fraction("12345678.5")),
        (r"1{,}234", 1234),
        (r"1\,234", 1234),
        ("1\N{NARROW NO-BREAK SPACE}234", 1234),
        ("1, 2, 3", 3),
        ("1,23", 23),
        ("-5", -5),
        ("(-5)", -5),
        ("= -5", -5),
        ("it is -5", -5),
        ("it is -$5", -5),
        ("(x) -5", -5),
        ("7 - 5", 5),
        ("-$5", -5),
        ("$-5", -5),
        ("10-5", 5),
        ("10 - 5", 5),
        ("f(x) - 5", 5),
        (".5", Fraction(1, 2)),
        ("0.25", Fraction(1, 4)),
        ("1/3", Fraction(1, 3)),
        ("1/0", None),
        ("5e", 5),
        ("3:30", 30),
    ],
)
def test_last_number(text, value):
    assert last_number(text) == value


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"\boxed{a{b}c}", "a{b}c"),
        (r"\boxed {x}", "x"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{1} \boxed{2", "1"),
        (r"\boxed{2", None),
        (r"boxed{2}", None),
        (r"}}} \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}} {", r"\frac{1}{2}"),
        ("", None),
    ],
)
def test_boxed(text, inside):
    assert boxed(text) == inside


LONG = [
    *("{" * 100_000, "}" * 100_000, r"\boxed{" * 15_000, "\\" * 100_000, r"\frac{" * 15_000, r"\frac{1}{" * 10_000),
    *("1" * 100_000, "1," * 50_000, "111," * 25_000 + "1111", "1/" * 50_000, "-" * 100_000, " " * 100_000 + "14"),
    *("#### " * 20_000, "####" + " " * 100_000 + "x", "." * 100_000, "####" + "1" * 100_000),
    *(r"\frac{" + " " * 100_000, "####" + "." * 100_000 + " x", r"\boxed" + " " * 100_000, "#### " + "1 " * 50_000),
]


@pytest.mark.parametrize("text", LONG, ids=lambda text: f"{text[:8]}...")
def test_no_text_takes_long(text):
    """100 kB take milliseconds; a rule that is quadratic in the text would make this test take minutes."""
    assert grade_number(Problem("p", "?", "14"), text).correct == text.endswith("14")
