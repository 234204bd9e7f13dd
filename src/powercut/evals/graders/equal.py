r"""Whether two pieces of LaTeX say the same: kind of thing by kind of thing, and every part of them read whole.

A list without brackets is a set, or the pair or tuple of the same order; apart from that two kinds of thing are never
equal: a set is no pair, an open end no closed one, AM not PM.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from powercut.evals.graders.expression import Unreadable, letters, multiple, parse
from powercut.evals.graders.latex import bare, clean, enclosed, has, split
from powercut.evals.graders.quantity import same_quantities
from powercut.evals.graders.region import MEMBER, NAME, ORDERS, SETS, region, same_inequalities, same_regions

_BETWEEN = (",", ";", "or", "and")
_WORDS = re.compile(r"(?:\\text\{[^{}]*\}\s*)+")
_ARTICLE = re.compile(r"^(?:the|an?)\s+")
_NUMERAL = re.compile(r"\(?\s*(\d[\dA-Fa-f]*)\s*\)?\s*_\s*\{(\d+|\\text\{\w+\})\}")
_CLOCK = re.compile(r"(\d{1,2})\s*:\s*(\d\d)\s*(?:\\text\{|\\)?\s*(?:([ap])\.?\s?m\.?)?\s*\}?", re.IGNORECASE)
_GROUPED = re.compile(r"(?:\\\$)?\s*-?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?:[^\d,]*|\s*\\text.*)")
_MATRIX = re.compile(r"([(\[]?)\s*\\begin\{([pb]?)matrix\}(.*)\\end\{\2matrix\}\s*[)\]]?", re.DOTALL)
_PAIR_OF_NAMES = re.compile(rf"^\({NAME}(?:\s*,\s*{NAME})+\)\s*=\s*(?=[(\[])")
_BASES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def equal(reference: str, answer: str) -> bool:
    """Whether ``answer`` says what ``reference`` says. Raises Unreadable, and whatever sympy raises on them."""
    return _same(clean(reference), clean(answer))


def _same(reference: str, answer: str) -> bool:
    if bare(reference) == bare(answer):
        return True
    for special in (_same_words, _same_times, _same_numerals, _same_matrices):
        if (verdict := special(reference, answer)) is not None:
            return verdict
    if (verdict := _same_members(reference, answer)) is not None:
        return verdict
    if _is_region(reference) or _is_region(answer):
        return _same_regions(reference, answer)
    if (listed := _same_lists(reference, answer)) is not None:
        return listed
    if has(reference, ("=",)):
        return _same_equations(reference, answer)
    if has(answer, ("=", r"\approx")):
        answer = _value(answer)
    return same_quantities(reference, answer)


def _same_members(reference: str, answer: str) -> bool | None:
    r"""Of x \in S, which may also be put as S alone; None where neither has a name."""
    names = [MEMBER.match(each) for each in (reference, answer)]
    if not any(names):
        return None
    if all(names) and len({bare(name[0]) for name in names if name}) > 1:
        return False
    one, other = (each[name.end() :] if name else each for each, name in zip((reference, answer), names, strict=True))
    return _same(one, other)


def _is_region(latex: str) -> bool:
    brackets = enclosed(latex)
    told = brackets is not None and brackets[0] == r"\{" and has(brackets[1], ORDERS)
    return told or has(latex, ORDERS + SETS)


def _same_words(reference: str, answer: str) -> bool | None:
    """Of words, (A) and A; None where the reference is none, and no word is the answer."""
    if _WORDS.fullmatch(reference) or re.fullmatch(r"\(?[A-Z]\)|[A-Za-z]{2,}", reference):
        if _label(reference) == _label(answer):
            return True
        return False if _WORDS.fullmatch(reference) else None
    said = _label(answer) if _WORDS.fullmatch(answer) else None
    if said is None:
        return None
    counted = re.fullmatch(r"(-?[\d.,/]+) ([a-z ]+)", said)
    return _same(reference, rf"{counted[1]} \text{{{counted[2]}}}" if counted else clean(said))


def _label(latex: str) -> str:
    return _ARTICLE.sub("", " ".join(re.sub(r"\\text\{|[{}().]", " ", latex).split()).lower())


def _same_times(reference: str, answer: str) -> bool | None:
    """Of times of a day, as minutes; a half of the day that is left out is the first."""
    times = [_CLOCK.fullmatch(each) for each in (reference, answer)]
    if times[0] is None:
        return None
    minutes = [
        (int(t[1]) % 12 if t[3] else int(t[1])) * 60 + int(t[2]) + 720 * ((t[3] or "").lower() == "p") if t else None
        for t in times
    ]
    return minutes[0] == minutes[1]


def _same_numerals(reference: str, answer: str) -> bool | None:
    """Of numerals with a base, 40_9, as they are written: the question asks for that base. It may be left out."""
    one, other = (_NUMERAL.fullmatch(each) for each in (reference, answer))
    if one is None:
        return _same(reference, other[1]) if other and _base(other) == "10" else False if other else None
    return one[1].lower() == other[1].lower() and _base(one) == _base(other) if other else one[1] == answer


def _base(numeral: re.Match[str]) -> str:
    word = _label(numeral[2])
    return str(_BASES.index(word)) if word in _BASES else word


def _same_matrices(reference: str, answer: str) -> bool | None:
    tables = [_MATRIX.fullmatch(each) for each in (reference, answer)]
    if not any(tables):
        return None
    if not all(tables):
        return False
    one, other = ([split(row, ("&",)) for row in re.split(r"\\\\|\\cr", t[3]) if row.strip()] for t in tables if t)
    if [len(row) for row in one] != [len(row) for row in other]:
        return False
    return all(_same(a, b) for row, line in zip(one, other, strict=True) for a, b in zip(row, line, strict=True))


def _same_lists(reference: str, answer: str) -> bool | None:
    """Of lists, sets, pairs and intervals; None where neither is one."""
    kind, one = _items(_PAIR_OF_NAMES.sub("", reference))
    other_kind, other = _items(_PAIR_OF_NAMES.sub("", answer))
    if not kind and not other_kind:
        return None
    if len(one) != len(other) or (not (kind and other_kind) and "{" not in (kind, other_kind)):
        return False
    loose = ("", ",", "{")
    if kind in loose and other_kind in loose:
        if any(r"\ldots" in item for item in (*one, *other)):  # a rule for what is left out
            return [bare(item) for item in one] == [bare(item) for item in other]
        return _matched(one, other)
    if "," not in (kind, other_kind) and kind != other_kind:
        return False
    return all(_same(a, b) for a, b in zip(one, other, strict=True))


def _matched(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether each item of ``one`` is one of ``other``, whatever their order."""
    left = list(other)
    for item in one:
        found = next((candidate for candidate in left if _same(item, candidate)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _items(latex: str) -> tuple[str, list[str]]:
    """What kind of list it is, and its items: "{" for a set, "," without brackets, "(]" and so on, "" for none."""
    inside = latex
    kind = ","
    if brackets := enclosed(latex):
        opening, inside, closing = brackets
        kind = "{" if opening == r"\{" else opening + closing
    elif _GROUPED.fullmatch(latex):
        return "", [latex]
    items = [part for item in split(inside, _BETWEEN) if item for part in _signs(item)]
    if len(items) < 2 and kind != "{":
        return "", [latex]
    if kind == "," and (named := re.match(rf"({NAME})\s*=", items[0])) and not any("=" in item for item in items[1:]):
        items[0] = items[0][named.end() :].strip()
    return kind, items


def _signs(item: str) -> list[str]:
    r"""The two that one \pm stands for."""
    parts = split(item, (r"\pm",))
    if len(parts) != 2:
        return [item]
    return [f"{parts[0]} {sign} {parts[1]}".strip(" +") for sign in "+-"]


def _same_equations(reference: str, answer: str) -> bool:
    """The value of a name with or without it; two equations, if one is a multiple of the other."""
    one, other = split(reference, ("=",)), split(answer, ("=",))
    named = re.fullmatch(NAME, one[0]) is not None
    if len(other) == 1:
        return named and _same(one[-1], answer)
    if named and bare(one[0]) == bare(other[0]) and _same(one[-1], other[-1]):
        return True
    if len(one) != 2 or len(other) != 2:
        return False
    return multiple(parse(one[0]) - parse(one[1]), parse(other[0]) - parse(other[1])) is not None


def _value(answer: str) -> str:
    """What an equation gives: behind a name, an expression of several letters or an equal one; in front of ≈."""
    exact = split(answer, (r"\approx",))
    if len(exact) > 1 and not re.fullmatch(NAME, exact[0]) and exact[0]:
        answer = exact[0]
    sides = split(answer, ("=", r"\approx"))
    first, last = sides[0], sides[-1]
    if len(sides) == 1 or not first or re.fullmatch(NAME, first) or _WORDS.fullmatch(first):
        return last
    named = letters(re.sub(r"_\{[^{}]*\}", "", first))
    if len(named) > 1 or (named and not re.search(r"\d", first)) or all(same_quantities(last, s) for s in sides):
        return last
    raise Unreadable(f"an equation that is no value: {answer}")


def _same_regions(reference: str, answer: str) -> bool:
    """Of sets of real numbers, by inequalities, intervals and their unions; of inequalities in several letters."""
    named = [letters(each) for each in (reference, answer)]
    if all(named) and named[0] != named[1]:
        return False
    try:
        return same_regions(region(reference), region(answer))
    except Unreadable:
        lists = _same_lists(reference, answer)
        return same_inequalities(reference, answer) if lists is None else lists
