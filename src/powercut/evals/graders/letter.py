r"""Multiple choice: the letter that a text settles on. Two letters or none are no answer; nothing is guessed."""

from __future__ import annotations

import re

from powercut.evals.graders.stated import Sentence, first_sentence, plain, read
from powercut.evals.problem import LETTERS, NO_ANSWER, Grade, Problem

_OPEN, _CLOSE = r"(?:[\s*_$\"'`“({\[]|\\[(\[])*", r"(?:[*_$\"'`”)}\]]|\\[)\]])*"
_NAME = r"(?i:(?:the\s+)?(?:option|choice|answer|letter)\b[\s:]*)"
_LETTER = r"([A-J])(?![\w^'=+<>])"
_FIRST = re.compile(_OPEN + f"(?:{_NAME})?" + _OPEN + _LETTER + _CLOSE)
_LAST = re.compile(rf"(?:^|[\s*_$\"'`(\[]|\\[(\[])(?:{_NAME})?{_OPEN}{_LETTER}{_CLOSE}[\s.]*$")
_NEXT = re.compile(rf"[\s.:]*(?:,\s*(?:or|and)\b|,|/|&|\bor\b|\band\b)\s*(?:{_NAME})?{_OPEN}{_LETTER}{_CLOSE}")
_OTHER = re.compile(r"\s+(?:is|are|was|would|can(?:not)?|does|fails?|has|gives)\b")
# Behind a bare letter: the end, punctuation or a reason. Anything else makes it a word or a symbol ("a", "C-14").
_AFTER = re.compile(r"\s*(?:$|[.:;,!)(]|\.|\n|\\|(?:because|since|as|or|and|is|with|which)\b|[—–/&])|\s+-\s|\s\s+")
_ALONE = re.compile(r"(?i:(?:so|thus|hence|therefore)\b,?)?" + _FIRST.pattern + r"\W*")
_BETWEEN = re.compile(r"[\s.:;,()\[\]*_$\"'`“”—–-]+")

LONGEST = 200
"""Characters in which the letters must come."""


def grade_choice(problem: Problem, text: str) -> Grade:
    r"""Whether ``text`` settles on the letter of the right choice.

    In a box and in each statement (``stated`` says where they stand) it is the letter that comes first, or the letter
    or the words of a choice that are all there is; without any, the letter that stands alone on the last line.
    """
    stated = read(text)
    places = ([Sentence(stated.box)] if stated.box else []) + list(stated.sentences)
    if alone := _alone(stated.text):
        places.append(Sentence(alone))
    for place in places:
        found = _settled(place, problem)
        if len(found) > 1:
            return Grade(False, None, f"more than one answer: {', '.join(found)}")
        if found:
            right = found == problem.answer
            return Grade(right, found, None if right else f"the answer is {problem.answer}")
    return Grade(False, None, NO_ANSWER)


def check_choices(problem: Problem) -> str | None:
    """What is wrong with the choices: they must differ by more than spaces."""
    texts = [" ".join(choice.split()) for choice in problem.choices]
    twice = next((text for text in texts if texts.count(text) > 1), None)
    return None if twice is None else f"two choices are the same ({twice[:40]!r})"


def letters_in(said: str, choices: int) -> tuple[str, str]:
    """The letters that ``said`` opens with, and what follows: "C", "(C)", "option C, because ...", "B or C"."""
    if len(said.strip("*_$(){}[].:\\ ")) == 1:
        said = said.upper()
    match = _FIRST.match(said)
    if not match:
        return "", said
    bare = match.group().strip() == match[1]
    if bare and not _AFTER.match(said, match.end()):
        return "", said
    found, end = match[1], match.end()
    while match := _NEXT.match(said, end):
        if _OTHER.match(said, match.end()) and not re.search(r"\b(?:or|and)\b", match[0]):
            break  # "C, D is wrong" is another clause
        found, end = found + match[1], match.end()
    unique = "".join(dict.fromkeys(found))
    return (unique, said[end:]) if set(unique) <= set(LETTERS[:choices]) else ("", said)


def _settled(place: Sentence, problem: Problem) -> str:
    """The letters of the choices that a statement names: one is an answer, several are none."""
    said = plain(re.sub(r"\\q?quad|\\[,;: ]|~", "  ", place.text[:LONGEST])).strip()
    if place.ends:
        last = _LAST.search(said)
        if last and last[1] in LETTERS[: len(problem.choices)]:
            return last[1]
        said = re.sub(r"^\W*(?:so|thus|hence|therefore)\b,?\s*", "", said, flags=re.IGNORECASE)
        found, rest = letters_in(said, len(problem.choices))
        return _named(said, problem) or (found if found and found == _named(rest, problem) else "")
    found, rest = letters_in(said, len(problem.choices))
    if not found:
        sentence = first_sentence(said)
        return _named(said, problem) or _named(sentence, problem) or _behind_its_words(sentence, problem)
    if re.match(r"\s*(?:is|are|was)\s+(?:not|n't|wrong|incorrect|false|too|impossible|un\w+)\b", rest):
        return ""
    if len(found) == 1:  # "C. 20", where 20 is D
        return "".join(dict.fromkeys(found + _named(_BETWEEN.sub(" ", rest, count=1), problem)))
    return found


def _behind_its_words(sentence: str, problem: Problem) -> str:
    """The letter of "42 (C)", where 42 is C; both letters where it is not."""
    last = re.fullmatch(r"(.+?)(?:,?\s(?:i\.e\.|that is|which is|option|choice),?)?\s*\(([A-J])\)[\s*_$.]*", sentence)
    named = _named(last[1], problem) if last else ""
    return "".join(dict.fromkeys(named + last[2])) if last and named else ""


def _alone(text: str) -> str | None:
    """The letter on the last line, if there is nothing else on it."""
    last = text.strip().rpartition("\n")[2]
    match = _ALONE.fullmatch(last) if len(last) < LONGEST else None
    return match[1] if match else None


def _named(said: str, problem: Problem) -> str:
    """The letters of the choices whose text is ``said``."""
    for same in (str.strip, _bare):
        if found := [LETTERS[i] for i, choice in enumerate(problem.choices) if same(choice) == same(said)]:
            return "".join(found)
    return ""


def _bare(text: str) -> str:
    return re.sub(r"[\s$*]|\\[,!; ()]", "", plain(text)).strip(".()").lower()
