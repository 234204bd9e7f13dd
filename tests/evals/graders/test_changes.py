"""Formulas against themselves and against each that differs in one place."""

import pytest

from powercut.evals.graders.equal import equal
from powercut.evals.graders.formula import compared
from powercut.evals.tasks import TASKS
from tests.evals.graders.changes import changes
from tests.evals.shared import shared

OWN_MATRIX = r"\begin{pmatrix} 2 & -5 \\ %s & 7 \end{pmatrix}"
OWN = [
    *("27", "-1.25", "0", r"\frac{5}{12}", r"-\frac{7\pi}{4}", r"3\sqrt{7} - 2", "4 - 9i", "301_7", r"7:45 \text{ AM}"),
    *("(8,-3)", "[2,6)", r"\{4, -6\}", "3, -8", r"(-\infty, 4) \cup (7, 9]", "2x^3 - 5x + 6", "y = 4x - 7", "n(n+5)"),
    *(OWN_MATRIX % "0", r"\text{odd}", r"40\text{ cm}^2", r"\$6.50", "3a - 8b = 6"),
    *("7!", r"\log_{3} 7", r"\cot 5x", "e^{4}", r"\frac{8}{3} \pm \sqrt{2}", r"35^\circ", "x < 4", "1,234"),
    r"6.4 \times 10^{-8}",
]
"""One of each kind."""

MATRIX = r"\begin{pmatrix} -1 & %s \\ %s & -1 \end{pmatrix}"
PLANE, QUINTIC = "5x - 7y + 11z + 4 = ", "x^5 - x^4 + x^3 - x^2 + x - 1"
OCTIC = "x^8 + x^7 + x^6 + x^5 + x^4 + x^3 + x^2 + x + 1"

EQUAL = {
    *((OWN_MATRIX % "0", OWN_MATRIX % "00"), ("0", "00"), ("0", "-0"), ("0", "0^2")),
    *((r"\$6.50", r"\$6.5"), (r"\$6.50", r"\$6.500")),
}
"""Changes of those that change no value."""

EQUAL_IN_MATH500 = {
    *(("0.15", ".15"), ("0.15", "00.15"), ("1", "1^2"), ("-1", "-1^2"), ("0", "00"), ("0", "-0"), ("0", "0^2")),
    *((r"\text{(B)}", r"\text{(b)}"), (r"\text{(C)}", r"\text{(c)}"), (r"\text{(E)}", r"\text{(e)}")),
    *((PLANE + "0", PLANE + "00"), (PLANE + "0", PLANE + "0x"), (PLANE + "0", PLANE + "0^2")),
    *((MATRIX % ("0", "0"), MATRIX % ("00", "0")), (MATRIX % ("0", "0"), MATRIX % ("0", "00"))),
    *((r"(-\infty, 0]", r"(-\infty, 00]"), (r"(0,9) \cup (9,36)", r"(00,9) \cup (9,36)"), ("-2,1", "-2,1^2")),
    *((r"\$18.90", r"\$18.9"), (r"\$18.90", r"\$18.900"), ("8n^2 + 4n + 1", "8n^2 + 4n + 1^2")),
    *((QUINTIC, QUINTIC + "^2"), (OCTIC, OCTIC + "^2")),
}
"""The same, of MATH-500's references."""


def taken_for_equal(references):
    pairs = ((reference, changed) for reference in references for changed in changes(reference))
    return {pair for pair in pairs if compared(*pair) is True}


@pytest.mark.parametrize("reference", OWN)
def test_one_of_each_kind(reference):
    assert equal(reference, reference)
    assert taken_for_equal([reference]) == {pair for pair in EQUAL if pair[0] == reference}


def test_the_changes():
    digits = ["22", "82", "2", "112", "13", "19", "1", "122"]
    assert changes("12") == [*digits, "-12", "212", "not 12", "12x", "12^2", "12, 5", r"12 \text{ or } 5"]
    assert sum(len(changes(reference)) for reference in OWN) > 500


@pytest.mark.slow
def test_math500():
    """Its 500 references against themselves, and against 5,754 that differ in one place."""
    answers = [problem.answer for problem in TASKS["math500"].problems(data=shared("MATH500.json"))]
    assert len(answers) == 500
    assert all(equal(answer, answer) for answer in answers)
    assert sum(len(changes(answer)) for answer in dict.fromkeys(answers)) == 5754
    assert taken_for_equal(dict.fromkeys(answers)) == EQUAL_IN_MATH500
