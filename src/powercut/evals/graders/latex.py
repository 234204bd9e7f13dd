r"""LaTeX, and what people write in its place, in one way of writing; and taken apart at its outermost commas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

_SYMBOLS = {
    "−": "-",
    "–": "-",
    "×": r"\cdot ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "÷": "/",
    "⁄": "/",
    "π": r"\pi ",
    "∞": r"\infty ",
    "√": r"\sqrt ",
    "±": r"\pm ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "≈": r"\approx ",
    "…": r"\ldots ",
    "°": r"^\circ ",
    "²": "^2",
    "³": "^3",
    "θ": r"\theta ",
    "ℝ": r"\mathbb{R}",
    "，": ",",
    "：": ":",
    "（": "(",
    "）": ")",
    "½": r"\frac{1}{2}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "⅓": r"\frac{1}{3}",
    "⅔": r"\frac{2}{3}",
    "€": r"\euro ",
    "£": r"\pound ",
}
_SPELLINGS = [
    (r"\\(?:left|right|middle|[Bb]igg?[lrm]?|displaystyle|textstyle|limits|hfill|bf|rm|it)(?![a-z])", ""),
    (r"\\(?:boxed|fbox)(?![a-z])|\\(?:text)?color\s*\{[^{}]*\}", ""),
    (r"\\begin\{array\}\s*(?:\{[^{}]*\})?", r"\\begin{matrix}"),
    (r"\\end\{array\}", r"\\end{matrix}"),
    (r"\\\\\s*\[[^\[\]]*\]", r"\\\\ "),  # the space between two rows
    (r"(?<=\d)(?:,\s*\\!\s*|\{,\}|\\[,! ]|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))", ""),
    (r"(?<!\\)\\(?:[,;:!]|q?quad(?![a-z])|\s|hspace\*?\{[^{}]*\})|~", " "),
    (r"\\[dtc]frac(?![a-z])", r"\\frac"),
    (r"\\[dt]binom(?![a-z])", r"\\binom"),
    (r"\\(?:text|math)(?:bf|it|rm|sf|tt|normal|sc)?\s*\{|\\(?:mbox|hbox|operatorname\*?)\s*\{", r"\\text{"),
    (r"\\text\{\s*([A-Za-z])\s*\}", r" \1 "),
    (r"\\text\{\s*(sin|cos|tan|cot|sec|csc|ln|log|exp|arcsin|arccos|arctan|lcm|gcd|max|min)\s*\}", r"\\\1 "),
    (r"\\text\{\s*,?\s*(or|and)\s*\}", r" \1 "),
    (r"\\langle(?![a-z])", "("),
    (r"\\rangle(?![a-z])", ")"),
    (r"\{:\}", ":"),
    (r"\\(?:lor|vee)(?![a-z])", " or "),
    (r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\(?:degree|textdegree)(?![a-z])", r"\\text{degrees}"),
    (r"\\(?:leq|leqslant)(?![a-z])|<=|=<", r"\\le "),
    (r"\\(?:geq|geqslant)(?![a-z])|>=", r"\\ge "),
    (r"\\neq(?![a-z])|!=", r"\\ne "),
    (r"\\lt(?![a-z])", "<"),
    (r"\\gt(?![a-z])", ">"),
    (r"\*\*", "^"),
    (r"\\(?:times|ast)(?![a-z])|\*", r"\\cdot "),
    (r"\\div(?![a-z])", "/"),
    (r"\\lbrace(?![a-z])", r"\\{"),
    (r"\\rbrace(?![a-z])", r"\\}"),
    (r"\\[lr]?vert(?![a-z])|\\mid(?![a-z])", "|"),
    (r"\\varnothing(?![a-z])|\\\{\s*\\\}", r"\\emptyset "),
    (r"\\[cdl]?dots(?:[bcmo])?(?![a-z])|\.\.\.", r"\\ldots "),
    (r"(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])", r"\\infty "),
    (r"(?<![\\A-Za-z])(pi|theta|alpha|beta|sqrt|sin|cos|tan|ln|log|cup|cap)(?![A-Za-z])", r"\\\1 "),
    (r"\+\s*-", "-"),
    (r"-\s*-", "+"),
    (r"(?<![\d.}])(\d+(?:\.\d+)?)[eE]([+-]?\d+)(?![\dA-Za-z])", r"\1\\cdot 10^{\2}"),
    (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
    (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
    (r"\\sqrt\s*(\d+|[A-Za-z])", r"\\sqrt{\1}"),
    (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"([\^_])\s*(-?\d+)", r"\1{\2}"),
    (r"\^\s*\(([^()]*)\)", r"^{\1}"),
    (r"(?<!\\)%", r"\\%"),
    (r"(?<![\d.])\.(?=\d)", "0."),
]
_DELIMITER = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])")
_COMPILED = [(re.compile(pattern), replacement) for pattern, replacement in _SPELLINGS]
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*(?:\{(\d+)\}|(\d))")
_MIXED = re.compile(r"(?<![\d.}])(\d+)\s*(\\frac\{\d+\}\{\d+\}|(?<=\s)\d+\s*/\s*\d+(?!\d))")
_OPENING = {"(": ")", "[": "]", "{": "}"}


def clean(latex: str) -> str:
    """One way of writing: plain brackets, braces around arguments, no spacing, mixed numbers as sums."""
    for symbol, name in _SYMBOLS.items():
        latex = latex.replace(symbol, name)
    latex = _DELIMITER.sub("", latex).strip().rstrip(".").strip()
    for pattern, replacement in _COMPILED:
        latex = pattern.sub(replacement, latex)
    latex = _REPEATING.sub(_repeating, latex)
    latex = _MIXED.sub(r"(\1+\2)", latex)
    latex = re.sub(r"\s+", " ", latex).strip()
    while latex.startswith("{") and _closing(latex, 0) == len(latex) - 1:
        latex = latex[1:-1].strip()
    return latex


def _repeating(match: re.Match[str]) -> str:
    whole, once, period = match[1] or "0", match[2], match[3] or match[4]
    value = Fraction(f"{whole}.{once or 0}") + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(once))
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def split(latex: str, separators: Sequence[str]) -> list[str]:
    """The parts between ``separators`` that stand outside every bracket and environment, without outer spaces."""
    parts, start, depth, at = [], 0, 0, 0
    while at < len(latex):
        if latex.startswith((r"\{", r"\begin"), at):
            depth, at = depth + 1, at + 2
        elif latex.startswith((r"\}", r"\end"), at):
            depth, at = depth - 1, at + 2
        elif latex[at] in "([{":
            depth, at = depth + 1, at + 1
        elif latex[at] in ")]}":
            depth, at = depth - 1, at + 1
        elif depth == 0 and (found := next((mark for mark in separators if _stands(latex, at, mark)), None)):
            parts.append(latex[start:at])
            start = at = at + len(found)
        else:
            at += 1
    return [part.strip() for part in [*parts, latex[start:]]]


def _stands(latex: str, at: int, mark: str) -> bool:
    """Whether ``mark`` is at ``at``, and is no part of a longer word."""
    end = at + len(mark)
    if not latex.startswith(mark, at):
        return False
    if mark.isalpha() and at and latex[at - 1].isalpha():
        return False
    return not (mark[-1].isalpha() and end < len(latex) and latex[end].isalpha())


def has(latex: str, marks: Sequence[str]) -> bool:
    """Whether one of ``marks`` stands outside every bracket."""
    return len(split(latex, marks)) > 1


def bare(latex: str) -> str:
    """Without the spaces that do not keep two numbers apart."""
    return re.sub(r"(?<!\d)\s|\s(?!\d)", "", latex)


def enclosed(latex: str) -> tuple[str, str, str] | None:
    r"""Opening bracket, inside and closing bracket, where one pair ((, [ or \{, in any mix) is around all of it."""
    if latex.startswith(r"\{") and latex.endswith(r"\}"):
        inside = latex[2:-2]
        return (r"\{", inside.strip(), r"\}") if _balanced(inside) else None
    if latex[:1] in ("(", "[") and latex[-1:] in (")", "]") and _balanced(latex[1:-1]):
        return latex[0], latex[1:-1].strip(), latex[-1]
    return None


def _balanced(inside: str) -> bool:
    depth = 0
    for char in inside:
        depth += (char in "([{") - (char in ")]}")
        if depth < 0:
            return False
    return depth == 0


def _closing(latex: str, at: int) -> int:
    """Where the brace that opens at ``at`` is closed; -1 where it is not."""
    depth = 0
    for index in range(at, len(latex)):
        depth += (latex[index] == "{") - (latex[index] == "}")
        if depth == 0:
            return index
    return -1
