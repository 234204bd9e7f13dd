r"""Multiple choice: the letter that a text settles on. Two letters or none are no answer; nothing is guessed."""

from __future__ import annotations

import re

from powercut.evals.graders.extract import boxed, plain, stated
from powercut.evals.problem import LETTERS, NO_ANSWER, Grade, Problem

_OPEN, _CLOSE = r"[\s*_$\"'`({\[]*", r"[*_$\"'`)}\]]*"
_NAME = r"(?i:(?:the\s+)?(?:option|choice|answer|letter)\b[\s:]*)"
_LETTER = r"([A-J])(?![\w^'=+<>])"
_FIRST = re.compile(_OPEN + f"(?:{_NAME})?" + _OPEN + _LETTER + _CLOSE)
_NEXT = re.compile(rf"[\s.:]*(?:,\s*(?:or|and)\b|,|/|&|\bor\b|\band\b)\s*(?:{_NAME})?{_OPEN}{_LETTER}{_CLOSE}")
# Behind a bare letter: the end, punctuation or a reason. Anything else makes it a word or a symbol ("a", "C-14").
_AFTER = re.compile(r"\s*(?:$|[.:;,!)]|\.|\n|(?:because|since|as|or|and|is)\b|[—–/&])")
_ALONE = re.compile(r"(?i:(?:so|thus|hence|therefore)\b,?)?" + _FIRST.pattern + r"\W*")

LONGEST = 200
"""Characters in which the letters must come."""


def grade_choice(problem: Problem, text: str) -> Grade:
    r"""Whether ``text`` settles on the letter of the right choice.

    It is looked for in the last \boxed{}, which may hold the text of a choice instead, then behind the last "answer is"
    or "Answer:", then on the last line if that holds nothing else.
    """
    places = (boxed(text), stated(text), _alone(text))
    for place in places:
        found = letters_in(place, len(problem.choices)) or _named(place, problem) if place else ""
        if len(found) > 1:
            return Grade(False, None, f"more than one answer: {', '.join(found)}")
        if found:
            right = found == problem.answer
            return Grade(right, found, None if right else f"the answer is {problem.answer}")
    return Grade(False, None, NO_ANSWER)


def letters_in(said: str, choices: int) -> str:
    """The letters that ``said`` opens with: "C", "(C)", "option C, because ...", "B or C"; "" where it names none."""
    said = plain(said[:LONGEST]).strip()
    if len(said.strip("*_$(){}[].: ")) == 1:
        said = said.upper()
    match = _FIRST.match(said)
    if not match:
        return ""
    bare = match.group().strip() == match[1]
    if bare and not _AFTER.match(said, match.end()):
        return ""
    found = match[1]
    while match := _NEXT.match(said, match.end()):
        found += match[1]
    unique = "".join(dict.fromkeys(found))
    return unique if set(unique) <= set(LETTERS[:choices]) else ""


def _alone(text: str) -> str | None:
    """The letter on the last line, if there is nothing else on it."""
    last = text.strip().rpartition("\n")[2]
    match = _ALONE.fullmatch(last) if len(last) < LONGEST else None
    return match[1] if match else None


def _named(said: str, problem: Problem) -> str:
    """The letters of the choices whose text is ``said``."""
    return "".join(
        letter for letter, choice in zip(LETTERS, problem.choices, strict=False) if _bare(choice) == _bare(said)
    )


def _bare(text: str) -> str:
    return re.sub(r"[\s$]|\\[,!; ]", "", plain(text)).rstrip(".").lower()
