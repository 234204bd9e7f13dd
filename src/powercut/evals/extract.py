r"""The answer a completion gives: the last \boxed{}, the last number. One pass each, whatever the text."""

from __future__ import annotations

import re
from fractions import Fraction

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+"
# Digits after a letter are part of a name ("x2", "x_2"), after a number and a dot of that number. A minus sign after a
# number, a letter or a bracket is a difference. Ordinals count nothing.
_NUMBER = re.compile(
    r"(?<![^\W_])(?<![^\W_]_)(?<!\d\.)(?:(?<![\w.)\]}])(?<![\w.)\]}] )-\s?)?(?:[$€£]-?)?"
    rf"(?:{_DIGITS})(?!\d*(?:st|nd|rd|th)\b)(?:\s?/\s?\d+)?"
)
_MARKED = re.compile(r"####[ ]*([^#\s]+)[ ]*$", re.MULTILINE)
_THIN_SPACE = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!|\\ |[\u00a0\u2009\u202f]|,\\!)(?=\d{3}(?!\d))")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")


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


def last_number(text: str) -> Fraction | None:
    """The last number in ``text``: signs, decimals, a fraction a/b and thousands separators are understood."""
    text = _FRACTION.sub(r" \1/\2 ", _THIN_SPACE.sub(",", text.replace("\N{MINUS SIGN}", "-").replace(r"\$", "$")))
    found = _NUMBER.findall(text)
    if not found:
        return None
    top, _, bottom = re.sub(r"[\s,$€£]", "", found[-1]).partition("/")
    if len(top) > 1000 or len(bottom) > 1000:
        return None  # no answer has so many digits, and Python refuses to read them
    value = Fraction(top)
    return value / int(bottom) if bottom and int(bottom) else value
