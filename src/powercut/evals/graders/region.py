r"""Sets of real numbers, as inequalities, intervals and unions of them write them; and inequalities in any letters."""

from __future__ import annotations

import re
from typing import Any

from powercut.evals.graders.expression import Unreadable, multiple, parse, same
from powercut.evals.graders.latex import bare, enclosed, has, split

ORDERS = (r"\le", r"\ge", r"\ne", "<", ">")
SETS = (r"\cup", r"\cap", r"\setminus", r"\backslash")
"""Marks of a formula that is a set of real numbers."""

NAME = r"\\?[A-Za-z]+(?:_\{[^{}]*\}|_[A-Za-z])?(?:\^\{-1\})?(?:\s*\([^()]*\))?"
MEMBER = re.compile(rf"(?:{NAME})\s*\\in(?![a-z])\s*")


def region(latex: str) -> Any:
    """A sympy set of real numbers; Unreadable for what is none."""
    import sympy

    for marks, joined in (
        (("or",), sympy.Union),
        (("and",), sympy.Intersection),
        ((r"\cup",), sympy.Union),
        ((r"\cap",), sympy.Intersection),
        ((r"\setminus", r"\backslash"), sympy.Complement),
    ):
        if len(parts := split(latex, marks)) > 1:
            return joined(*(region(MEMBER.sub("", part, count=1)) for part in parts))
    if bare(latex) == r"\mathbb{R}":
        return sympy.S.Reals
    if bare(latex) == r"\emptyset":
        return sympy.S.EmptySet
    brackets = enclosed(latex)
    if brackets and brackets[0] == r"\{":
        if len(told := re.split(r"\||(?<!\d)\s*:", brackets[1], maxsplit=1)) == 2:
            return region(told[1].strip())
        return sympy.FiniteSet(*(parse(item) for item in split(brackets[1], (",",))))
    if brackets and len(ends := split(brackets[1], (",",))) == 2:
        low, high = map(parse, ends)
        if (low.is_infinite and brackets[0] == "[") or (high.is_infinite and brackets[2] == "]"):
            raise Unreadable(f"closed at infinity: {latex}")
        return sympy.Interval(low, high, brackets[0] == "(", brackets[2] == ")")
    if brackets and has(brackets[1], ORDERS + SETS):
        return region(brackets[1])
    return _solutions(latex)


def _solutions(latex: str) -> Any:
    """Where a chain of inequalities in one letter holds."""
    import sympy

    marks = re.findall(r"\\(?:le|ge|ne)(?![a-z])|[<>]", latex)
    sides = [parse(side) for side in split(latex, ORDERS)]
    letters = {symbol for side in sides for symbol in side.free_symbols}
    if len(letters) != 1 or len(sides) != len(marks) + 1 or not marks:
        raise Unreadable(f"no set of real numbers: {latex}")
    real = {symbol: sympy.Symbol(symbol.name, real=True) for symbol in letters}
    relation = {"<": sympy.Lt, ">": sympy.Gt, r"\le": sympy.Le, r"\ge": sympy.Ge, r"\ne": sympy.Ne}
    steps = zip(sides, marks, sides[1:], strict=False)
    holding = [relation[mark](left.xreplace(real), right.xreplace(real)).as_set() for left, mark, right in steps]
    return sympy.Intersection(*holding)


def same_regions(one: Any, other: Any) -> bool:
    """Whether two sympy sets of real numbers are the same, ends that are written differently too."""
    import sympy

    if one == other:
        return True
    parts = [list(each.args) if isinstance(each, sympy.Union) else [each] for each in (one, other)]
    if len(parts[0]) != len(parts[1]) or not all(isinstance(part, sympy.Interval) for part in (*parts[0], *parts[1])):
        return False
    left, right = (sorted(each, key=lambda part: part.start) for each in parts)
    return all(
        (a.left_open, a.right_open) == (b.left_open, b.right_open) and same(a.start, b.start) and same(a.end, b.end)
        for a, b in zip(left, right, strict=True)
    )


def same_inequalities(reference: str, answer: str) -> bool:
    """Of one inequality each: the same sign, and sides whose differences are positive multiples."""
    gaps, strict = [], []
    for each in (reference, answer):
        marks = re.findall(r"\\(?:le|ge)(?![a-z])|[<>]", each)
        sides = split(each, ORDERS)
        if len(sides) != 2 or len(marks) != 1:
            raise Unreadable(f"no inequality: {each}")
        low, high = (sides[0], sides[1]) if marks[0] in ("<", r"\le") else (sides[1], sides[0])
        gaps.append(parse(high) - parse(low))
        strict.append(marks[0] in "<>")
    ratio = multiple(*gaps)
    return strict[0] == strict[1] and ratio is not None and bool(ratio > 0)
