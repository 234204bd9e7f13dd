"""Trees: completions of T tokens, k of which are decisions, and the targets that are studied on them.

Every other token is *forced* (entropy 0) or a *detail*: drawn independently of everything but the decisions before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from powercut.errors import SettingError

Law = tuple[float, ...]
"""Probabilities of a token's values."""

EVEN: Law = (0.5, 0.5)
LEANING: Law = (0.6, 0.4)
"""Of a pivot: the likelier branch is the worse one."""
TIMID: Law = (0.95, 0.05)
MESSY: Law = (0.8, 0.2)
"""Of the details that mark a worse branch: entropy 0.500 nats; at alpha = 4 each costs 0.888 nats."""

LAYOUTS = ("opening", "closing", "early", "late")
"""Where decisions stand: each at the opening or closing of one of k equal runs, or all together, early or late."""


@dataclass(frozen=True)
class Tree:
    """A model by its decisions: at positions ``decisions``, among as many branches as their laws have values.

    ``law(branches)`` is a decision's law; ``detail(branches, position)`` that of a token at one of ``details``, None
    where it is forced, as all others are. ``branches`` are those taken at the decisions before it.
    """

    tokens: int
    decisions: tuple[int, ...]
    law: Callable[[tuple[int, ...]], Law]
    details: tuple[int, ...]
    detail: Callable[[tuple[int, ...], int], Law | None]

    @property
    def width(self) -> int:
        """Branches of a decision."""
        return len(self.law(()))

    def up_to(self, horizon: int) -> Tree:
        """The same model with completions of ``horizon`` tokens."""
        decisions, details = (tuple(c for c in places if c < horizon) for places in (self.decisions, self.details))
        return replace(self, tokens=horizon, decisions=decisions, details=details)


def positions(layout: str, k: int, tokens: int) -> tuple[int, ...]:
    """Where the decisions stand; a number as ``layout`` is where the first does, the others being spread behind it.

    Raises SettingError for a layout that is none, or more decisions than tokens.
    """
    if not 1 <= k <= tokens:
        raise SettingError(f"--decisions must be from 1 to --tokens, here {tokens} (got {k})")
    run = tokens // k
    if layout.isdecimal() and (first := int(layout)) <= tokens - k:
        return tuple(first + (tokens - first) * j // k for j in range(k))
    places = {
        "opening": tuple(j * run for j in range(k)),
        "closing": tuple(j * run + run - 1 for j in range(k)),
        "early": tuple(range(k)),
        "late": tuple(range(tokens - k, tokens)),
    }
    if layout not in places:
        remedy = f"one of {', '.join(LAYOUTS)}, or the first decision's position, at most {tokens - k}"
        raise SettingError(f"--layout must be {remedy} (got {layout!r})")
    return places[layout]


def binary_of_entropy(nats: float) -> Law:
    """The law of two values whose entropy is so many nats, the likelier one first."""
    low, high = 0.5, 1 - 1e-12
    for _ in range(200):
        middle = (low + high) / 2
        p = np.array((middle, 1 - middle))
        low, high = (middle, high) if -(p * np.log(p)).sum() > nats else (low, middle)
    return (low, 1 - low)


def make_tree(target: str, k: int, tokens: int, layout: str = "opening", details: float = 0.0, every: int = 4) -> Tree:
    """A tree with one of the ``TARGETS``; every ``every``-th token that is free is a detail of ``details`` nats.

    Raises SettingError for a target or a layout that is none, and where the target's own details do not fit.
    """
    if target not in TARGETS:
        raise SettingError(f"--target must be one of {', '.join(TARGETS)} (got {target!r})")
    decisions = positions(layout, k, tokens)
    law, spots = TARGETS[target](decisions, tokens)
    messy = {spot for places in spots for spot in places}
    run_on = len(spots) == k > 1 and any(max(own) > end for own, end in zip(spots, decisions[1:], strict=False))
    if messy and (run_on or max(messy) >= tokens or min(messy) <= decisions[0] or messy & set(decisions)):
        raise SettingError(f"{target} has details of its own, for which {tokens} tokens are too few: raise --tokens")
    free: set[int] = set()
    if details:
        taken = set(decisions) | messy
        near = taken | {c + 1 for c in taken} | {c - 1 for c in messy}
        free = {c for c in range(every // 2, tokens, every) if c not in near}
    noise = binary_of_entropy(details) if details else None

    def detail(branches: tuple[int, ...], position: int) -> Law | None:
        if messy and position in messy and _is_messy(target, branches, position, spots):
            return MESSY
        return noise if position in free else None

    return Tree(tokens, decisions, law, tuple(sorted(messy | free)), detail)


_Spots = list[set[int]]
_Target = Callable[[tuple[int, ...], int], tuple[Callable[[tuple[int, ...]], Law], _Spots]]


def _runs(decisions: tuple[int, ...], count: int) -> _Spots:
    """The places of ``count`` details behind each decision, every second token."""
    return [{d + 2 * (i + 1) for i in range(count)} for d in decisions]


def _independent(decisions: tuple[int, ...], tokens: int) -> tuple[Callable[[tuple[int, ...]], Law], _Spots]:
    return (lambda branches: EVEN), []


def _timid_root(decisions: tuple[int, ...], tokens: int) -> tuple[Callable[[tuple[int, ...]], Law], _Spots]:
    return (lambda branches: EVEN if branches else TIMID), []


def _root_pivot(decisions: tuple[int, ...], tokens: int) -> tuple[Callable[[tuple[int, ...]], Law], _Spots]:
    together = decisions == tuple(range(len(decisions)))
    return (lambda branches: EVEN if branches else LEANING), _runs(decisions[-1:] if together else decisions[:1], 6)


def _all_pivot(decisions: tuple[int, ...], tokens: int) -> tuple[Callable[[tuple[int, ...]], Law], _Spots]:
    return (lambda branches: LEANING), _runs(decisions, 3)


def _two_modes(decisions: tuple[int, ...], tokens: int) -> tuple[Callable[[tuple[int, ...]], Law], _Spots]:
    return (lambda branches: EVEN), _runs(decisions, 2)


def _late_evidence(decisions: tuple[int, ...], tokens: int) -> tuple[Callable[[tuple[int, ...]], Law], _Spots]:
    return (lambda branches: EVEN if branches else LEANING), [{tokens - 1 - 2 * i for i in range(6)}]


TARGETS: Mapping[str, _Target] = {
    "independent": _independent,
    "timid-root": _timid_root,
    "root-pivot": _root_pivot,
    "all-pivot": _all_pivot,
    "two-modes": _two_modes,
    "late-evidence": _late_evidence,
}
"""Of each, from decisions and tokens: the decisions' law, and the places of details that mark worse branches.

independent: all decisions even, and nothing depends on them. timid-root: so but for the first, .95 to .05. root-pivot:
at the first decision the likelier branch (.6) is messy in its first run, the other one sound. all-pivot: every decision
is like that. two-modes: a later decision that differs from the first makes its run messy. late-evidence: a root pivot
whose mess comes in the last run.
"""


def _is_messy(target: str, branches: tuple[int, ...], position: int, spots: _Spots) -> bool:
    if target == "all-pivot":
        return bool(branches) and branches[-1] == 0 and position in spots[len(branches) - 1]
    if target == "two-modes":
        return len(branches) > 1 and branches[-1] != branches[0] and position in spots[len(branches) - 1]
    return bool(branches) and branches[0] == 0
