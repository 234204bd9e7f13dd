r"""The answer a completion gives: the last \boxed{}, the last number. One pass each, whatever the text."""

from __future__ import annotations

import re
from fractions import Fraction

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+"
# Digits after a letter are part of a name ("x2", "x_2"), after a number and a dot of that number. A minus sign behind
# a number, a letter or a bracket is a difference, unless the number has it to itself ("is -5"). Ordinals do not count.
_NUMBER = re.compile(
    r"(?<![^\W_])(?<![^\W_]_)(?<!\d\.)(?:(?<![\w.)\]}])-(?:(?<![\w.)\]}] -)\s)?)?(?:[$€£]-?)?"
    rf"(?:{_DIGITS})(?!\d*(?:st|nd|rd|th)\b)(?:\s?/\s?\d+)?"
)
_MARKED = re.compile(r"####[ ]*([^#\s]+)[ ]*$", re.MULTILINE)
_STATED = re.compile(r"(?:answer|option|choice)[*_]*(?:\s+is\b[*_]*:?|\s*[:=])[*_]*[ ]*([^\n]+)", re.IGNORECASE)
_MATH = re.compile(r"\$+([^$]+)\$|\\\((.+?)\\\)|(.+?)(?:\.\s.*|\.?$)")
_STYLED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|bf|rm)\s*\{([^{}]*)\}")
_DEGREES = re.compile(r"\^\s*(?:\\circ\b|\{\s*\\circ\s*\})")
_THIN_SPACE = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!|\\ |[\u00a0\u2009\u202f]|,\\!)(?=\d{3}(?!\d))")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")

LONGEST_NUMBER = 1000
"""Digits; a longer one is no answer."""


def boxed(text: str) -> str | None:
    r"""What is inside the last \boxed{} that is closed; None where there is none."""
    open_braces: list[int | None] = []  # where the inside of a box begins; None for any other brace
    last: tuple[int, int] | None = None
    for match in _BRACES.finditer(text):
        mark = match.group()
        if mark == "{":
            open_braces.append(None)
        elif mark == "}":
            start = open_braces.pop() if open_braces else None
            if start is not None and (last is None or start > last[0]):
                last = (start, match.start())
        elif mark.endswith("{") and len(mark) > 2:
            open_braces.append(match.end())
    return text[slice(*last)].strip() if last else None


def marked(text: str) -> str | None:
    """What stands alone behind the last ``####`` (GSM8K's mark of an answer); None where nothing does."""
    found = _MARKED.findall(text)
    return found[-1] if found and last_number(found[-1]) is not None else None


def numbers(text: str) -> list[Fraction]:
    """The numbers in ``text``: signs, decimals, fractions a/b and thousands separators are understood."""
    found = []
    for number in _NUMBER.findall(_simple(text)):
        top, _, bottom = re.sub(r"[\s,$€£]", "", number).partition("/")
        if len(top) <= LONGEST_NUMBER and len(bottom) <= LONGEST_NUMBER:
            value = Fraction(top)
            found.append(value / int(bottom) if bottom and int(bottom) else value)
    return found


def last_number(text: str) -> Fraction | None:
    """The last of ``numbers``."""
    found = numbers(text)
    return found[-1] if found else None


def boxed_number(box: str) -> Fraction | None:
    """The one number that a box holds, behind its last equals sign and beside a unit; None for a formula or several."""
    said = _DEGREES.sub("", _simple(plain(box))).rpartition("=")[2]
    if re.search(r"[\\^_+*]", re.sub(r"\\[%,!; ]|\\(?:left|right|quad|approx)\b", "", said)):
        return None
    found = numbers(said)
    return found[0] if len(found) == 1 else None


def _simple(text: str) -> str:
    text = text.replace("\N{MINUS SIGN}", "-").replace(r"\$", "$")
    return _FRACTION.sub(r" \1/\2 ", _THIN_SPACE.sub(",", text))


def stated(text: str) -> str | None:
    """What follows the last "answer is" or "Answer:" on its line; None where nothing does."""
    found = _STATED.findall(text)
    return found[-1].strip() if found else None


def stated_math(text: str) -> str | None:
    """The formula, or the first sentence, of what is ``stated``."""
    said = (stated(text) or "").strip("*_ ")
    formula = _MATH.match(said)
    return next((part.strip("*_ ") for part in formula.groups() if part), None) if formula else None


def plain(latex: str) -> str:
    r"""LaTeX with the contents of \text{} and its like in their place."""
    return _STYLED.sub(r" \1 ", latex)
