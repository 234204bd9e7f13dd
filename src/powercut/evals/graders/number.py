"""The grader of numbers, and how numbers are read. Pure and fast, whatever the text."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from powercut.evals.graders.stated import Sentence, first_sentence, plain, read
from powercut.evals.problem import NO_ANSWER, Grade, Problem

LONGEST_NUMBER = 1000
"""Digits; a longer one is no answer."""

_DIGITS = r"(?:\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+"
_SCALE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SYMBOL = r"[a-df-zABDEGHIMO-UX-Z](?<![mghsdl])(?![A-Za-z])"  # one letter that is neither a unit nor an exponent's e
# Digits after a letter are part of a name ("x2", "x_2"), after a number and a dot of that number, after ^ a power. A
# minus sign behind a number, a letter or a bracket is a difference, unless the number has it to itself ("is -5").
# Ordinals do not count, nor does what is raised to a power or multiplied by a letter, nor the 5 of "not 5".
_NUMBER = re.compile(
    r"(?<![^\W_])(?<![^\W_]_)(?<!\d\.)(?<!\^)(?<!\^\{)(?<!\bnot )"
    r"(?:(?<![\w.)\]}])-(?:(?<![\w.)\]}] -)\s)?)?(?:[$€£]-?)?"
    rf"(?:\d+[ ]\d+/\d+(?!\d)|(?:{_DIGITS})(?:[eE][+-]?\d{{1,3}}(?![\w.]))?(?!\d*(?:st|nd|rd|th)\b)(?:\s?/\s?\d+)?)"
    rf"(?!\d*\s?\^)(?!\d*{_SYMBOL})(?:\s{{1,4}}(?:{'|'.join(_SCALE)})\b)?"
)
_THIN_SPACE = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!|\\ |[\u00a0\u2009\u202f]|,\\!\s?)(?=\d{3}(?!\d))")
_MIXED = re.compile(r"(?<=\d)\s*\\[dtc]?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_SCIENTIFIC = re.compile(
    r"(?<=\d)\s*(?:\\times|\\cdot|[×·*])\s*10\s?\^\s?(?:\{\s?([+-]?\d{1,3})\s?\}|([+-]?\d{1,3})(?!\d))"
)
_DEGREES = re.compile(r"\^\s*(?:\\circ\b|\{\s*\\circ\s*\})|°")
_SPACING = re.compile(r"\\[,;:! ]|\\(?:left|right|q?quad|approx|displaystyle)(?![a-z])|~|\\(?=%)")
_UNIT_POWER = re.compile(r"(?<=[A-Za-z}])\s*\^\s*(?:\{\s?-?[23]\s?\}|[23])(?![\d}])")
_NO_NUMBER = re.compile(
    rf"[\\^_+*<>≤≥≠]|\d\s*/\s*[A-Za-z(]|\d[(!]|\d\s*\(\s*[-\d]|(?<=\d)\s*{_SYMBOL}|\b(?:or|and|not|to|than|more|less|least|most)\b"
)
"""What makes a formula, a bound or several numbers of what a box holds."""

_FILLER = re.compile(
    r"(?:(?:the|an?|about|around|approximately|approx\.?|roughly|exactly|simply|just|only|equal to|therefore|thus|so"
    r"|that|US|USD|Rs\.?|INR|EUR)\s+|[\s*_`~≈(\[\"':=]|\$(?=\s)|\\[(\[])+",
    re.IGNORECASE,
)
_OPERATOR = re.compile(
    r"[$)]*\s*(?:[+×·÷^]\s*[-\dA-Za-z(\\]|\*[\dA-Za-z(\\]|(?<=\s)\*\s|[-/]\s?[\d(\\]|\\(?:times|cdot|div|pm|sqrt|pi|frac)|=|π|√|\*\*"
    r"|(?:to|times|plus|minus)\s\d)"
)
_CALCULATED = re.compile(r"\s?(?:[*×·÷+]\s?[\d(]|\\(?:times|cdot|div|pi|sqrt)(?![a-z])|[π√])")
_CALCULATED_WITH = re.compile(r"(?:[\d)]\s?[*×·÷+]|\\(?:times|cdot|div))\s?[$€£]?\Z")
_REASON = re.compile(r"\b(?:because|since|as)\b.*|\([^()]*\)")
_EMPHASIS = re.compile(r"(?<!\d)\*\*|\*\*(?!\d)|__")
_HEDGE = re.compile(r"[*_$\w%)\]. ]{0,30}?(?:,\s*)?\b(?:or|and)\s+[*_$(]*[-$]?\d|(?:,\s*[-$]?\d+)+[.\s*_$]*$")


def grade_number(problem: Problem, text: str) -> Grade:
    r"""Whether the number that ``text`` states is the reference.

    It is what a box holds as a whole (several numbers, or a formula, are none), else the number that a statement begins
    with, or the value of what it calculates; without any statement the last number in the text. Units, currency,
    thousands separators and markup around it do not matter. ``stated`` says where a statement stands.
    """
    stated = read(text)
    found = boxed_number(stated.box) if stated.box is not None else None
    for sentence in stated.sentences if found is None else ():
        if (found := _stated_number(sentence)) is not None:
            break
    if found is None and stated.box is None:
        found = last_number(stated.text)
    if found is None:
        return Grade(False, stated.box, NO_ANSWER if stated.box is None else r"not a single number in \boxed{}")
    reference = boxed_number(problem.answer)
    if reference is None:
        raise ValueError(f"problem {problem.id} has no number as its answer: {problem.answer!r}")
    return Grade(found == reference, show(found), None if found == reference else f"the answer is {show(reference)}")


def check_number(problem: Problem) -> str | None:
    """What is wrong with the reference: it must be one number, beside at most a unit."""
    if boxed_number(problem.answer) is None:
        return f"answer must be a number (it is {problem.answer[:40]!r})"
    return None


def numbers(text: str) -> list[Fraction]:
    """The numbers in ``text``: signs, decimals, fractions and mixed numbers, powers of ten, thousands separators."""
    return [value for number in _NUMBER.findall(_simple(text)) if (value := _value(number)) is not None]


def last_number(text: str) -> Fraction | None:
    """The last of ``numbers`` that is no part of a calculation, apart from a difference."""
    text = _simple(text)
    found = [
        number
        for number in _NUMBER.finditer(text)
        if not _CALCULATED.match(text, number.end())
        and not _CALCULATED_WITH.search(text, max(0, number.start() - 8), number.start())
    ]
    return next((value for number in reversed(found) if (value := _value(number[0])) is not None), None)


def boxed_number(box: str) -> Fraction | None:
    """The one number that a box holds, behind its last equals sign and beside a unit; None for a formula or several."""
    said = _simple(plain(_UNIT_POWER.sub("", box))).rpartition("=")[2]
    said = re.sub(r"(?<=\d) (?=\d{3}(?!\d))", "", said)
    if _NO_NUMBER.search(said.strip().strip("*_")):
        return None
    found = list(_NUMBER.finditer(said))
    if len(found) != 1 or re.search(r"\d", said[: found[0].start()] + said[found[0].end() :]):
        return None
    return _value(found[0][0])


def show(value: Fraction) -> str:
    """A number as people write it: 14, 2.5, 1/3."""
    if value.denominator == 1:
        return str(value.numerator)
    decimal = f"{float(value):.12g}" if abs(value) < 10**15 else ""
    return decimal if decimal and Fraction(decimal) == value else str(value)


def _stated_number(sentence: Sentence) -> Fraction | None:
    said = _simple(plain(sentence.text))
    if sentence.ends:
        found = list(_NUMBER.finditer(said))
        return _value(found[-1][0]) if found and not re.search(r"\d", said[found[-1].end() :]) else None
    said = first_sentence(_EMPHASIS.sub("", said))
    filler = _FILLER.match(said)
    start = filler.end() if filler else 0
    leading = _NUMBER.match(said, start)
    if leading and _HEDGE.match(said, leading.end()):
        return None
    if leading and not _OPERATOR.match(said, leading.end()):
        short = _REASON.sub("", said[leading.end() :])
        stands = sentence.firm or (len(short.split()) <= 3 and not re.search(r"\d", short))
        return _value(leading[0]) if stands else None
    if sentence.firm and "=" in said and (leading or re.match(r"[\w()]{1,4}\s*[-+*/(=]", said[start:])):
        for side in reversed(said.split("=")):
            found = list(_NUMBER.finditer(side))
            if found and not _OPERATOR.match(side, found[0].end()) and not re.search(r"\w", side[: found[0].start()]):
                return _value(found[0][0])
    if leading or not sentence.firm:
        return None
    found = list(_NUMBER.finditer(re.sub(r"\([^()]*\)", "", said)))
    return _value(found[0][0]) if len(found) == 1 and not _OPERATOR.match(said, found[0].end()) else None


def _value(number: str) -> Fraction | None:
    """What a piece of text that is one number says; None for a division by zero, and for one that is too long."""
    parts = re.sub(r"[,$€£]|(?<=-)\s|\s(?=/)|(?<=/)\s", "", number).split()
    scale = _SCALE[parts.pop()] if parts[-1] in _SCALE else 1
    top, _, bottom = parts[-1].partition("/")
    if max(map(len, (*parts, bottom))) > LONGEST_NUMBER or (bottom and not int(bottom)):
        return None
    value = Fraction(top) / int(bottom or 1)
    if len(parts) == 2:  # 1 2/3
        value = Fraction(parts[0]) + (-value if parts[0].startswith("-") else value)
    return value * scale


def _simple(text: str) -> str:
    """Numbers in one way of writing: 1 2/3 for mixed ones, 2e3 for powers of ten, commas between thousands."""
    text = text.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-").replace(r"\$", "$")
    if not text.isascii():
        text = "".join(_vulgar(char) if unicodedata.category(char) == "No" else char for char in text)
    text = _DEGREES.sub("", _THIN_SPACE.sub(",", text))
    text = _SCIENTIFIC.sub(lambda match: f"e{int(match[1] or match[2])}", text)
    text = _FRACTION.sub(r" \1\2/\3\4 ", _MIXED.sub(r" \1\2/\3\4", text))
    return _SPACING.sub(" ", text)


def _vulgar(char: str) -> str:
    """½ as " 1/2"; an exponent (², ³) or a number in a circle as nothing."""
    parts = unicodedata.normalize("NFKC", char).split("\N{FRACTION SLASH}")
    return f" {parts[0]}/{parts[1]}" if len(parts) == 2 else ""
