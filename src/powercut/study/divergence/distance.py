"""How far texts are apart: edit distances between sequences of token ids. Pure functions."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence

import numpy as np


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The least number of insertions, deletions and replacements of items that make one sequence of the other.

    A column of the table is the bits of a whole number: those where it rises, and those where it falls, from one item
    of ``first`` to the next (Myers 1999; Hyyro 2003). Its last entry is followed along ``second``.
    """
    if not first or not second:
        return max(len(first), len(second))
    places: dict[Hashable, int] = {}
    for i, item in enumerate(first):
        places[item] = places.get(item, 0) | 1 << i
    every, last = (1 << len(first)) - 1, 1 << (len(first) - 1)
    rises, falls, distance = every, 0, len(first)
    for item in second:
        same = places.get(item, 0)
        diagonal = (((same & rises) + rises) ^ rises) | same | falls
        right_up, right_down = falls | (~(diagonal | rises) & every), rises & diagonal
        distance += bool(right_up & last) - bool(right_down & last)
        right_up = (right_up << 1) | 1
        rises = ((right_down << 1) | ~(diagonal | right_up)) & every
        falls = right_up & diagonal & every
    return distance


def mean_distance(several: Sequence[Sequence[Hashable]]) -> float:
    """The mean edit distance over all pairs of at least two sequences."""
    pairs = itertools.combinations(several, 2)
    return float(np.mean([0 if a == b else edit_distance(a, b) for a, b in pairs]))
