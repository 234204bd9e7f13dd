r"""One formula of numbers and letters: read whole by latex2sympy, and compared with another exactly."""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import Any

TOLERANCE = Fraction(1, 10**9)
"""Of two numbers that are both written as decimals, relative to the larger."""

_NUMBER = re.compile(r"(-?)(?:\\frac\{(-?\d+)\}\{(\d+)\}|(\d+)/(\d+)|(\d+(?:\.\d+)?))")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
# What latex2sympy reads without complaint, and not as it is meant.
_MISREAD = re.compile(r"'|\\prime|\^\{?T\}?$|\d\s+\d|\d_|\\text|\\ldots|[!]{2}|^$")
_DECIMAL = re.compile(r"(\d+)\.(\d+)")
_SHOWN = 40
"""Digits in which two formulas with letters agree, where they are compared at points."""
_POINTS = ((7, 3), (-9, 4), (5, 13), (-2, 11), (83, 6), (-61, 7), (11, 2), (1, 17))
"""Where formulas with letters are compared: fractions, of both signs, small and large."""


class Unreadable(Exception):  # noqa: N818  # a text is at fault, not the program
    """A text that is no formula as a whole."""


@functools.lru_cache(maxsize=1000)
def parse(latex: str) -> Any:
    """A cleaned piece of LaTeX as a sympy expression with exact numbers. Raises Unreadable, and what sympy raises."""
    latex = _GROUPED.sub(lambda match: match[0].replace(",", ""), latex.strip())
    import sympy

    if number := _NUMBER.fullmatch(latex.replace(" ", "") if not _MISREAD.search(latex) else ""):
        sign, top, bottom, left, right, plain = number.groups()
        if (below := bottom or right) is not None and not int(below):
            raise Unreadable("a division by zero")
        value = Fraction(plain) if plain else Fraction(int(top or left), int(bottom or right))
        return sympy.Rational(value.numerator, value.denominator) * (-1 if sign else 1)
    if _MISREAD.search(latex):
        raise Unreadable(f"not a formula: {latex}")
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    latex = _DECIMAL.sub(lambda match: rf"\frac{{{int(match[1] + match[2])}}}{{1{'0' * len(match[2])}}}", latex)
    latex = re.sub(r"(?<![\d}])(\d+)\s*/\s*(\d+)(?!\d)", r"\\frac{\1}{\2}", latex)
    latex = re.sub(r"(?<=\d)\s*(?=\(|\\frac)", r"\\cdot ", latex)  # side by side they are a mixed number to it
    latex = re.sub(r"\\[A-Za-z]+|I", lambda match: r"\text{I}" if match[0] == "I" else match[0], latex)  # not i
    try:
        found = latex2sympy(
            latex,
            is_real=False,
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=False, interpret_as_mixed_fractions=False),
        )
    except (ImportError, MemoryError, RecursionError):
        raise
    except Exception as error:  # its grammar raises nothing more precise
        raise Unreadable(f"not a formula: {latex}") from error
    return _usual(found)


def _usual(expression: Any) -> Any:
    """With i as the imaginary unit, e as its number, functions that nobody defined as symbols, and evaluated."""
    import sympy
    from sympy.core.function import AppliedUndef

    if not isinstance(expression, sympy.Expr | sympy.MatrixBase):
        raise Unreadable(f"not a formula of numbers and letters: {expression}")
    named = {function: sympy.Symbol(str(function)) for function in expression.atoms(AppliedUndef)}
    expression = expression.xreplace(named)
    known = {"i": sympy.I, "e": sympy.E}
    names = {symbol: re.sub(r"^math|[{}]", "", symbol.name) for symbol in expression.free_symbols}
    return expression.xreplace({s: known.get(name, sympy.Symbol(name)) for s, name in names.items()}).doit()


def letters(latex: str) -> set[str]:
    """The letters of a cleaned formula that are neither e nor i, nor part of a command."""
    return set(re.findall(r"[A-Za-z]", re.sub(r"\\text\{[^{}]*\}|\\[A-Za-z]+", " ", latex))) - {"e", "i"}


def same(one: Any, other: Any, decimals: bool = False) -> bool:
    """Whether two sympy expressions are equal: exactly, or within TOLERANCE for two numbers that are ``decimals``."""
    import sympy

    if isinstance(one, sympy.MatrixBase) or isinstance(other, sympy.MatrixBase):
        alike = isinstance(one, sympy.MatrixBase) and isinstance(other, sympy.MatrixBase) and one.shape == other.shape
        return alike and all(same(a, b, decimals) for a, b in zip(one, other, strict=True))
    if one.has(sympy.zoo, sympy.nan) or other.has(sympy.zoo, sympy.nan):
        return False
    if one == other:
        return True
    if one.is_Rational and other.is_Rational:
        gap, size = abs(one - other), max(abs(one), abs(other))
        return decimals and bool(gap * TOLERANCE.denominator <= size * TOLERANCE.numerator)
    if one.has(sympy.oo, -sympy.oo) or other.has(sympy.oo, -sympy.oo):
        return False
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    if not symbols:
        return _agree(one, other, 50) and _agree(one, other, 1000)
    return _same_at_points(one, other, symbols)


def multiple(one: Any, other: Any) -> Any:
    """The number that ``other`` is ``one`` times; None if there is none."""
    import sympy

    ratio = sympy.cancel(other / one)
    return ratio if ratio.is_number and ratio.is_finite and not ratio.is_zero else None


def _same_at_points(one: Any, other: Any, symbols: list[Any]) -> bool:
    """Whether they agree wherever both are real (anywhere, if they have the imaginary unit), at three points or more.

    Roots of negative numbers are why: sqrt(1/n) and 1/sqrt(n) are the same for every n that has a real root.
    """
    import sympy

    everywhere = one.has(sympy.I) or other.has(sympy.I)
    agreed = 0
    for place in range(len(_POINTS)):
        values = {}
        for index, symbol in enumerate(symbols):
            top, bottom = _POINTS[(place + 3 * index) % len(_POINTS)]
            values[symbol] = sympy.Rational(top, bottom + index)
        here, there = one.xreplace(values), other.xreplace(values)
        if here.has(sympy.zoo, sympy.nan, sympy.oo) or there.has(sympy.zoo, sympy.nan, sympy.oo):
            continue
        if _agree(here, there, _SHOWN):
            agreed += 1
        elif everywhere or (_real(here) and _real(there)):
            return False
    return agreed >= 3


def _real(number: Any) -> bool:
    return bool(abs(number.evalf(_SHOWN).as_real_imag()[1]) < 1e-20)


def _agree(one: Any, other: Any, digits: int) -> bool:
    import sympy

    left, right = one.evalf(digits + 15), other.evalf(digits + 15)
    if not (left.is_number and right.is_number):
        raise Unreadable(f"no number: {one}")
    gap, size = abs(left - right), max(abs(left), abs(right))
    if size < 10.0**-30:  # one of them may be nothing, written at length
        return bool(sympy.simplify(one - other) == 0)
    return bool(gap <= size * sympy.Float(10, 30) ** -digits)
