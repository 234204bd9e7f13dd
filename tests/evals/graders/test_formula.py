"""Formulas that are the same and formulas that are not, and answers that would keep a grader busy for ever."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import sympy

from powercut.evals.graders import formula as maths
from powercut.evals.graders.equal import equal
from powercut.evals.graders.formula import grade_math
from powercut.evals.problem import Problem
from powercut.evals.tasks import TASKS
from tests.evals.shared import shared

SAME = {
    "2": ["2.0", "+2", "x = 2", r"\text{2}", r"2 \text{ apples}", "$2$", r"2\,", "2."],
    "-3": ["-3.0", "{-3}"],
    r"\frac12": ["0.5", "1/2", r"\dfrac{1}{2}", r"\tfrac12", ".5", r"\frac{2}{4}", "2/4"],
    r"-\frac{3}{8}": [r"\frac{-3}{8}", "-3/8", "-0.375"],
    r"1\frac{4}{5}": [r"\frac{9}{5}", "1.8"],
    r"137 \frac{1}{2}": ["137.5"],
    r"\frac{\sqrt{3}}{3}": [r"\frac{1}{\sqrt{3}}"],
    r"2\sqrt{5}": [r"\sqrt{20}"],
    r"2\sqrt5": [r"2 \cdot \sqrt{5}"],
    r"11\sqrt2": [r"11\sqrt{2}"],
    r"6\sqrt{2}": [r"\sqrt{72}"],
    r"3\sqrt{13}": [r"3 \sqrt{13}"],
    r"12\pi": [r"12 \pi"],
    r"\frac{20000}{\pi}": [r"20000/\pi"],
    r"-\frac{\pi}{6}": [r"\frac{-\pi}{6}"],
    r"288 \pi": [r"288\cdot\pi"],
    r"18+2\pi": [r"2\pi+18"],
    "p - q": ["-q+p"],
    "3R^2": ["3 R^{2}"],
    "2k+2": ["2(k+1)"],
    "15x - 80": ["5(3x-16)"],
    "(a+5)(b+2)": ["(b+2)(a+5)", "ab+2a+5b+10"],
    "x^3+3x-6": ["3x + x^3 - 6"],
    "8n^2 + 4n + 1": ["1+4n+8n^2"],
    "6r^2-4r-24": ["2(3r^2-2r-12)"],
    r"\frac{11+9a}{20}": [r"\frac{9a+11}{20}"],
    r"\cot x": [r"\frac{\cos x}{\sin x}"],
    "5r^5": ["5 r^{5}"],
    "1+2i": ["2i+1"],
    "6 - 5i": ["-5i+6"],
    "-2 + 7i": ["7i-2"],
    "1+274i": ["1 + 274 i"],
    "(2,4)": ["( 2, 4 )", r"\left(2,4\right)"],
    "(15,-29)": ["(15.0,-29)"],
    r"\left( 3, \frac{\pi}{2} \right)": [r"(3, \pi/2)"],
    r"\left( \frac{3}{2}, -13 \right)": ["(1.5,-13)"],
    "(6,31,-1)": ["(6, 31, -1)"],
    "(3,4]": [r"\left(3, 4\right]"],
    r"(2,\infty)": [r"(2, +\infty)"],
    r"(0,9) \cup (9,36)": [r"(9,36) \cup (0,9)"],
    r"(-\infty, 0]": [r"\left(-\infty,0\right]"],
    r"x \in [-2,7]": ["[-2,7]", r"-2 \le x \le 7"],
    r"(-\sqrt{3}, \sqrt{3})": [r"\left(-\sqrt{3},\sqrt3\right)"],
    "1,-2": ["-2, 1"],
    "3, 5, 7": ["3,5,7", "7, 3, 5"],
    r"1 \pm \sqrt{19}": [r"1+\sqrt{19}, 1-\sqrt{19}"],
    r"3 \pm 2 \sqrt{2}": [r"3 + 2\sqrt2, 3 - 2\sqrt2"],
    r"\{1\pm\sqrt{5},-2\}": [r"\{-2, 1\pm\sqrt{5}\}"],
    "-2,1": [r"\{-2,1\}"],
    "58,500": ["58500", "58{,}500"],
    r"10,\!080": ["10080"],
    r"11,\! 111,\! 111,\! 100": ["11111111100"],
    r"\$32,\!348": ["32348"],
    r"\$18.90": ["18.90", "18.9"],
    r"\$36": ["36", r"36 \text{ dollars}"],
    r"5.4 \text{ cents}": ["5.4"],
    r"15\mbox{ cm}^2": ["15", r"15 \text{ cm}^2"],
    r"864 \mbox{ inches}^2": ["864"],
    r"\frac{270}7\text{ degrees}": [r"\frac{270}{7}", r"\frac{270}{7}^\circ"],
    r"90^\circ": ["90", r"90^{\circ}", r"90 \text{ degrees}"],
    r"\text{even}": ["even"],
    r"\text{Evelyn}": ["Evelyn", r"\textbf{Evelyn}"],
    r"\text{(B)}": ["B", r"\text{B}"],
    r"\text{(E)}": ["(E)"],
    r"\text{ellipse}": [r"\mathrm{ellipse}"],
    r"\text{east}": [r"\text{East}"],
    "40_9": ["40_{9}"],
    "4210_{5}": ["4210_5"],
    "2516_8": ["2516_{8}"],
    "52_8": ["52"],
    "x=5": ["5"],
    "5": ["x=5"],
    "y = 2x + 3": ["2x+3", "y = 3 + 2x"],
    "y = -2x": ["y=-2x"],
    "5x - 7y + 11z + 4 = 0": ["5x-7y+11z = -4", "-5x+7y-11z-4=0"],
    r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}": [r"\begin{pmatrix} \frac15 \\ -\frac{18}{5} \end{pmatrix}"],
    r"\begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}": [r"\begin{bmatrix} -7 \\ 16 \\ 5 \end{bmatrix}"],
    r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}": [r"\begin{pmatrix} -1&0\\0&-1 \end{pmatrix}"],
    ".35625": ["0.35625"],
    ".0000672": [r"6.72 \times 10^{-5}"],
    "0.15": [r"\frac{3}{20}", r"15\%"],
    "10": [r"10\%"],
    "3.21": ["3.210"],
    "2k": [r"k\cdot 2"],
    r"\frac{9}{256}": ["9/256"],
    "1024": ["2^{10}"],
    "5040": ["7!"],
    r"\left[ \frac{\pi^2}{8}, \frac{5 \pi^2}{4} \right]": [r"[\pi^2/8, 5\pi^2/4]"],
}
"""Other ways to write a reference answer."""
DIFFERENT = {
    "2": [
        "3",
        "-2",
        "2.1",
        "20",
        "02.5",
        "2i",
        "2x",
        r"\sqrt{2}",
        "2^2",
        "1,2",
        "2,3",
        "2 or 3",
        "(2,2)",
        "x",
        "two or three",
        r"\frac{1}{2}",
        "12",
        r"2\pi",
        r"200\%5",
    ],
    r"\frac12": ["2", "0.55", "-0.5", r"\frac13", "12", "0.05"],
    r"\frac{14}{3}": ["4.67", "4.6666", "4.667"],
    r"1\frac{4}{5}": ["14/5", "4/5"],
    r"2\sqrt{5}": [r"\sqrt{10}", r"5\sqrt{2}", "4.47", r"-2\sqrt5"],
    r"12\pi": ["12", "37.7", "37.699"],
    r"\pi": ["3.14", "22/7"],
    r"\frac{20000}{\pi}": [r"20000\pi"],
    "p - q": ["q-p", "p+q"],
    "3R^2": ["3R"],
    "2k+2": ["2k+1"],
    "15x - 80": ["15x+80", "-80"],
    "(a+5)(b+2)": ["(a+2)(b+5)"],
    "x^3+3x-6": ["x^3+3x+6"],
    r"\cot x": [r"\tan x"],
    "1+2i": ["1-2i", "2+i", "3"],
    "(2,4)": ["(4,2)", "2", "(2,4,0)", "[2,4]", "(2,4]"],
    "(3,4]": ["[3,4]", "(3,4)", "[3,4)"],
    r"(2,\infty)": [r"[2,\infty)", r"(-\infty,2)"],
    r"(0,9) \cup (9,36)": ["(0,36)"],
    r"(-\infty, 0]": [r"(-\infty,0)"],
    r"x \in [-2,7]": ["(-2,7)", "-2 < x < 7"],
    "1,-2": ["1", "1,2"],
    "3, 5, 7": ["3, 5", "3,5,7,9"],
    r"1 \pm \sqrt{19}": [r"1+\sqrt{19}"],
    r"\{1\pm\sqrt{5},-2\}": [r"1\pm\sqrt5"],
    "58,500": ["58", "500", "5850"],
    r"\$18.90": ["18"],
    r"\$36": ["37"],
    r"90^\circ": ["9", r"\frac{\pi}{3}"],
    r"15\mbox{ cm}^2": ["225"],
    r"\text{Evelyn}": ["Carla"],
    r"\text{(B)}": ["(C)", "A, B"],
    r"\text{even}": ["odd", "neither even nor odd"],
    r"\text{east}": ["west", "northeast"],
    "40_9": ["40_8", "49"],
    "4210_{5}": ["4210_6"],
    "2516_8": ["2516_{10}"],
    "x=5": ["x=6", "-5"],
    "y = 2x + 3": ["y = 2x - 3", "y=3"],
    "5x - 7y + 11z + 4 = 0": ["5x-7y+11z+5=0", "0", "5x-7y+11z+4"],
    r"\begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}": [
        r"\begin{pmatrix} -7 \\ 5 \\ 16 \end{pmatrix}",
        "-7",
        r"\begin{pmatrix} -7 & 16 & 5 \end{pmatrix}",
    ],
    r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}": [r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}"],
    ".35625": ["35.625"],
    "0.15": ["15"],
    ".0000672": [r"6.72 \times 10^{-4}"],
    "1024": ["1025"],
    "326.5": ["326", "327"],
    "10": ["0.1"],
    "0.1": ["10"],
    "5": [r"\text{five or six}"],
    "-1": ["1"],
    "4": ["2+3"],
    "9": [r"3 \cdot 2"],
    "0": [r"\emptyset", r"\text{none}"],
    "3": [r"\frac{3}{0}"],
    "1": [r"\infty"],
}
"""Wrong answers that are close to the reference."""


def grade(reference, answer):
    return grade_math(Problem("p", "?", reference), rf"Hence \boxed{{{answer}}}.")


def at_once(function, pairs):
    """As in a run: from several threads."""
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda pair: function(*pair), pairs))


def test_equivalent_forms():
    pairs = [(reference, answer) for reference, answers in SAME.items() for answer in answers]
    assert len(pairs) >= 60
    grades = at_once(grade, pairs)
    assert [pair for pair, found in zip(pairs, grades, strict=True) if not found.correct] == []


def test_wrong_forms():
    pairs = [(reference, answer) for reference, answers in DIFFERENT.items() for answer in answers]
    assert len(pairs) >= 60
    grades = at_once(grade, pairs)
    assert [pair for pair, found in zip(pairs, grades, strict=True) if found.correct] == []
    assert all(found.reason for found in grades)


def test_all_reference_answers_of_math500():
    """Against themselves, and against the next problem's answer."""
    answers = [problem.answer for problem in TASKS["math500"].problems(data=shared("MATH500.json"))]
    assert len(answers) == 500
    assert all(grade(answer, answer).correct for answer in answers)
    assert sum(equal(*pair) for pair in itertools.pairwise(answers[:100])) < 3


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is $x=5$ because 2 + 3 = 5.", "x=5"),
        ("Answer: 5", "5"),
        ("**Answer:** 5.", "5"),
        (r"The answer is \(5\), as claimed.", "5"),
        ("the final answer is: 5. Done", "5"),
        (r"The answer is 4. No: \boxed{5}", "5"),
    ],
)
def test_where_the_answer_is(text, answer):
    found = grade_math(Problem("p", "?", "5"), text)
    assert (found.correct, found.answer) == (True, answer)


@pytest.mark.parametrize("text", ["", "5", "I think 2 + 3 = 5", r"\boxed{5", r"\boxed{}", "$5$", "The answer is"])
def test_no_answer(text):
    found = grade_math(Problem("p", "?", "5"), text)
    assert (found.correct, found.answer, found.reason) == (False, None, "no answer in the text")


def test_nothing_hangs(monkeypatch):
    monkeypatch.setattr(maths, "SECONDS", 1)
    assert grade("5", "9^{9^{9^{9}}}").reason == "comparing the answer took longer than 1 s"
    assert grade("5", r"\frac{10}{2}").correct  # another process has taken its place
    assert not grade("5", "(" * 200).correct
    for text in ("{" * 100_000, "}" * 100_000, r"\boxed{" * 15_000, "answer is " * 10_000):
        assert not grade_math(Problem("p", "?", "5"), text).correct
    assert grade("5", "{" * 50_000 + "}" * 50_000).reason == "the answer is longer than 2000 characters"


def test_our_gsm8k_and_arithmetic_need_no_such_process(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"question": "?", "answer": "so\n#### 1,000"}]))
    [problem] = TASKS["gsm8k"].problems(data=file)
    assert TASKS["gsm8k"].grade(problem, "It is 1000.").correct


def test_a_failure_that_is_not_sympy_s_is_raised(monkeypatch):
    """A defect of the grader is an error of the run, to be tried again, and no wrong answer."""
    monkeypatch.setattr(maths, "equal", lambda reference, answer: [][0])
    with pytest.raises(IndexError):
        maths.compared("5", "6")


def test_a_failure_of_sympy_is_a_wrong_answer(monkeypatch):
    monkeypatch.setattr(maths, "equal", lambda reference, answer: bool(sympy.Symbol("x") > 1))
    assert maths.compared("5", "6") == "the answer cannot be compared: TypeError"
    monkeypatch.setattr(maths, "equal", lambda reference, answer: maths.equal(reference, answer))
    assert maths.compared("5", "6") == "the answer cannot be compared: RecursionError"
