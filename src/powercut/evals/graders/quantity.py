r"""A number with its unit, as LaTeX writes it: "15\text{ cm}^2", "\$36", "90^\circ", "5 \text{ million}", "15\%"."""

from __future__ import annotations

import re

from powercut.evals.graders.expression import letters, parse, same

_WORD = (
    r"(?:square |sq\.? |cubic )?(?:[mck]m|inch(?:es)?|in|feet|foot|ft|yards?|miles?|[km]g|grams?|seconds?|minutes?"
    r"|hours?|days?|weeks?|months?|years?|dollars?|cents?|degrees?|units?|met(?:er|re)s?|lit(?:er|re)s?|mph"
    r"|cent[i]?met(?:er|re)s?|kilomet(?:er|re)s?|percent|million|billion|thousand)"
)
_UNIT = re.compile(
    r"(?P<core>.*?[\d})A-Za-z])\s*"
    rf"(?:(?P<text>(?:\\text\{{[A-Za-z .,/°²³-]*\}}\s*)+)|(?:(?<=[\d}})])|(?<=\s))(?P<word>{_WORD})(?![A-Za-z]))"
    r"\s*(?:\^\s*\{?(?P<power>-?\d)\}?)?(?P<below>\s*/\s*(?:\\text\{[A-Za-z .]*\}|[A-Za-z]+)(?:\^\{?\d\}?)?)?"
)
_NO_UNIT = re.compile(r"\b(?:or|and|not|if|when|where|for|to|than|less|more|mod|is|are|no)\b", re.IGNORECASE)
_CURRENCY = re.compile(r"(-?)\s*(?:\\(\$|euro|pound)|(?:\\text\{\s*)?(?:Rs\.?|USD|US\\\$)\s*\}?)\s*(?=[-\d\\(.])")
_ANGLES = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_DEGREES = re.compile(r"(\d+)\s*\\text\{degrees\}")
_SAME_UNIT = {
    "inche": "in",
    "inch": "in",
    "foot": "ft",
    "feet": "ft",
    "dollar": "$",
    "usd": "$",
    "degree": "deg",
    "meter": "m",
    "metre": "m",
    "centimeter": "cm",
    "centimetre": "cm",
    "kilometer": "km",
    "kilometre": "km",
    "millimeter": "mm",
    "millimetre": "mm",
    "second": "s",
    "sec": "s",
    "minute": "min",
    "hour": "h",
    "hr": "h",
    "gram": "g",
    "kilogram": "kg",
    "yard": "yd",
    "mile": "mi",
    "pound": "lb",
    "liter": "l",
    "litre": "l",
}
_FACTORS = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}


def same_quantities(reference: str, answer: str) -> bool:
    """Whether two cleaned pieces of LaTeX are the same number or formula, in the same unit if both name one.

    15% is 0.15, and also the 15 of a question that asks for per cent. Raises what ``parse`` raises.
    """
    (core, unit), (other_core, other_unit) = _unit(reference), _unit(answer)
    if not letters(other_core) <= letters(core):  # another letter, or a word of prose
        return False
    one, other = parse(core), parse(other_core)
    decimals = "." in core and "." in other_core
    if unit != other_unit and "%" in (unit, other_unit) and "" in (unit, other_unit):
        hundredth = (one / 100, other) if unit else (one, other / 100)
        return same(one, other, decimals) or same(*hundredth, decimals)
    if unit and other_unit and unit != other_unit:
        return False
    return same(one, other, decimals)


def _unit(latex: str) -> tuple[str, str]:
    """A quantity's number and its unit, "" without one."""
    if _ANGLES.search(latex):
        latex = _DEGREES.sub(r"(\\frac{\1\\pi}{180})", latex)
    if currency := _CURRENCY.match(latex):
        core, unit = _unit(currency[1] + latex[currency.end() :])
        return core, unit or {"euro": "€", "pound": "£"}.get(currency[2], "$")
    if latex.endswith(r"\%"):
        return latex[:-2].strip(), "%"
    found = _UNIT.fullmatch(latex)
    if found is None or _NO_UNIT.search(words := _words(found["text"] or found["word"])):
        return latex, ""
    if words in _FACTORS:
        return f"({found['core']})\\cdot {_FACTORS[words]}", ""
    if words in ("percent", "per cent", "percentage"):
        return found["core"], "%"
    if len(words.split()) > 1 and words.split()[0] in _FACTORS:  # "5 million dollars"
        first, rest = words.split(" ", 1)
        return f"({found['core']})\\cdot {_FACTORS[first]}", _name(rest, found["power"])
    return found["core"], _name(words, found["power"]) + re.sub(r"\\text|[\s{}]", "", found["below"] or "")


def _words(text: str) -> str:
    return re.sub(r"\\text\{|\}|[.,]", " ", text).strip().lower()


def _name(words: str, power: str | None) -> str:
    """A unit as it is compared: one name for inches and inch, for square and the exponent 2."""
    words = words.replace("²", " squared").replace("³", " cubed")
    for spelt, exponent in (("square", "2"), ("sq", "2"), ("squared", "2"), ("cubic", "3"), ("cubed", "3")):
        parts = words.split()
        if len(parts) > 1 and spelt in (parts[0], parts[-1]):
            parts.remove(spelt)
            words, power = " ".join(parts), power or exponent
    single = words.removesuffix("s") if len(words) > 2 else words
    return _SAME_UNIT.get(single, _SAME_UNIT.get(words, single)) + (f"^{power}" if power else "")
