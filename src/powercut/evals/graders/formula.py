"""The grader of formulas: the stated one is compared in processes that are killed if they take too long."""

from __future__ import annotations

import functools
import importlib.util
import logging
import re
import traceback

from powercut.errors import SettingError
from powercut.evals.data import INSTALL
from powercut.evals.graders.equal import equal
from powercut.evals.graders.expression import Unreadable
from powercut.evals.graders.latex import clean
from powercut.evals.graders.processes import CrashError, Processes
from powercut.evals.graders.stated import Stated, first_sentence, formula_at_start, read
from powercut.evals.problem import NO_ANSWER, Grade, Problem

SECONDS = 5
"""Processor time of one comparison: ample for any answer that a person would write, and the same on a busy machine."""

WALL_SECONDS = 60
"""Wall time of one comparison, for systems that do not limit processor time."""

MEMORY = 2 << 30
"""Address space of a comparing process, in bytes."""

LONGEST = 2000
"""Characters of an answer; no reference has a tenth of them."""

_LIBRARIES = ("sympy", "mpmath", "latex2sympy2_extended", "antlr4")

_FILLER = re.compile(
    r"(?:(?:the|an?|about|around|approximately|approx\.?|roughly|exactly|simply|just|only|equal to|therefore|thus|so"
    r"|that)\s+|[\s*_`≈:]|\\approx(?![a-z]))+",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"\s*(?:,?\s*\b(?:because|since|as|which|where|so|when|for|with|by|obtained|found)\b.*|\*\*.*"
    r"|\((?:rounded|approx\w*|to|in|i\.e\.|since|because|as|see|where|for)\b[^()]*\))$",
    re.IGNORECASE,
)


def grade_math(problem: Problem, text: str) -> Grade:
    r"""Whether the formula that ``text`` states says what the reference says.

    It is what a box holds, else the formula between $ that a statement begins with, or its first sentence where that is
    no prose. ``stated`` says where a statement stands, ``equal`` what is the same.

    Blocks for at most SECONDS while another process compares: call it in a thread. An answer that is no formula, one on
    which sympy fails and one that takes longer or eats its memory counts as wrong, and the reason says so. Whatever
    else goes wrong is raised.
    """
    answer = _stated_formula(read(text))
    if not answer:
        return Grade(False, None, NO_ANSWER)
    if len(answer) > LONGEST:
        return Grade(False, answer[:LONGEST], f"the answer is longer than {LONGEST} characters")
    try:
        same = compare(problem.answer, answer)
    except TimeoutError:
        return Grade(False, answer, f"comparing the answer took longer than {SECONDS} s")
    if isinstance(same, str):
        return Grade(False, answer, same)
    return Grade(same, answer, None if same else f"the answer is {problem.answer}")


def check_formula(problem: Problem) -> str | None:
    """What is wrong with the reference: nothing in it, or more than is compared.

    Raises SettingError where the libraries that compare are not installed.
    """
    for library in ("latex2sympy2_extended", "sympy"):
        if importlib.util.find_spec(library) is None:
            raise SettingError(f"grading mathematics needs {library}: {INSTALL}")
    if not clean(problem.answer):
        return f"answer must be a formula (it is {problem.answer[:40]!r})"
    if len(problem.answer) > LONGEST:
        return f"answer has more than {LONGEST} characters"
    return None


def compare(reference: str, answer: str) -> bool | str:
    """Whether two pieces of LaTeX are ``equal``; text where that cannot be found out, and why.

    Raises TimeoutError when the comparison takes too long, PowercutError when no process can compare.
    """
    try:
        same: bool | str = _processes().run(compared, (reference, answer), SECONDS, WALL_SECONDS)
    except CrashError:
        return "the answer cannot be compared: it crashes the process that does"
    return same


def _stated_formula(stated: Stated) -> str | None:
    if stated.box is not None:
        return stated.box
    for sentence in stated.sentences:
        if sentence.ends:
            formula = re.search(r"(?:\$[^$]+\$|\\\([^$]+?\\\))$", sentence.text)
            said = formula_at_start(formula[0]) if formula else None
        else:
            said = _formula_of(sentence.text, sentence.firm)
        if said:
            return said
    return None


def _formula_of(said: str, firm: bool) -> str | None:
    """The formula that a statement begins with, or all of its first sentence that is not a reason and no prose."""
    filler = _FILLER.match(said)
    said = said[filler.end() :] if filler else said
    if formula := formula_at_start(said):
        return formula
    said = _REASON.sub("", first_sentence(said)).strip("*_` ,")
    if firm and (inside := re.fullmatch(r"[A-Za-z ,]+?(\$[^$]+\$|\\\(.+?\\\))[A-Za-z ,]*", said)):
        return formula_at_start(inside[1])
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", said)
    prose = len(words) > (3 if firm else 2) and not (firm and re.search(r"[\d\\^=+]", said))
    return None if prose or not said else said


@functools.cache  # sympy takes a second to import, so they stay
def _processes() -> Processes:
    return Processes(_prepare, MEMORY)


def _prepare() -> None:
    logging.disable(logging.CRITICAL)  # what cannot be parsed is logged: the grade says it
    compared(r"\sqrt{x}", "x+1")  # loads imports and grammars


def compared(reference: str, answer: str) -> bool | str:
    """``equal``; or the reason where the text is no formula, or one on which sympy or its parser fails.

    Any other failure is not the text's and is raised.
    """
    try:
        return equal(reference, answer)
    except Unreadable:
        return "the answer is no formula that can be compared"
    except Exception as error:
        if not (isinstance(error, MemoryError | RecursionError) or _raised_in(error) in _LIBRARIES):
            raise
        return f"the answer cannot be compared: {type(error).__name__}"


def _raised_in(error: BaseException) -> str:
    """The package in which an exception was raised."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
