"""Where a completion is cut: one arm for each kind of place. Pure functions of entropies.

As published: the top and the bottom tenth of positions by their jump, from each tenth up to five, ties as they come.
Jumps are clipped at 0, so most of the bottom ones are ties, and what is early in a text differs from what is late. So
here ties are drawn by the seed, and each position of another arm is the nearest one to a position of the first arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from powercut.cuts import EntropyJump
from powercut.trace import FloatArray, IntArray

JUMP, STILL, HIGH, UNIFORM = "top jumps", "bottom jumps", "high entropy, no jump", "uniform"
PUBLISHED, MENDED = (JUMP, STILL), (JUMP, STILL, HIGH, UNIFORM)
"""The arms by their names in the report."""

SHORTEST = 20
"""Tokens of a completion that is looked at."""

MOST, APART, _EDGE = 5, 10, 5
"""Positions of an arm, the tokens between two of them, and the least that is left out at each end."""


class Place(NamedTuple):
    """A position of an arm; ``pair`` is the place in the first arm that it belongs to, None where nothing is paired."""

    arm: str
    position: int
    pair: int | None = None


def published_places(entropy: FloatArray) -> list[Place]:
    """As published, from the entropies ``[n]`` of a completion, in nats; none where one of the two arms is empty."""
    inside, jumps = _inside(entropy)
    size = max(1, len(inside) // 10)
    order = np.argsort(jumps[inside], kind="stable")
    top, bottom = inside[order[::-1][:size]], inside[order[:size]]
    return [Place(arm, at) for arm, pool in ((JUMP, top), (STILL, bottom)) for at in _spaced(pool.tolist())]


def mended_places(entropy: FloatArray, rng: np.random.Generator) -> list[Place]:
    """Four arms: ties by ``rng``, no place without a jump among the top jumps, the others matched to these by position.

    Entropy is high above the mean of the completion.
    """
    inside, jumps = _inside(entropy)
    size = max(1, len(inside) // 10)
    by_chance = rng.permutation(inside)
    by_jump = by_chance[np.argsort(jumps[by_chance], kind="stable")]
    mean = entropy[inside].mean() if len(inside) else 0.0
    still = by_chance[(jumps[by_chance] == 0) & (entropy[by_chance] > mean)]
    pools = {
        STILL: by_jump[:size],
        HIGH: still[np.argsort(-entropy[still], kind="stable")][:size],
        UNIFORM: rng.permutation(inside)[:size],
    }
    first = _spaced([at for at in by_jump[::-1][:size].tolist() if jumps[at] > 0])
    places = [Place(JUMP, at, pair) for pair, at in enumerate(first)]
    for arm, pool in pools.items():
        places += [Place(arm, at, pair) for pair, at in _matched(pool, first)]
    return places


def _inside(entropy: FloatArray) -> tuple[IntArray, FloatArray]:
    """The positions that are not left out, and the jumps at all."""
    edge = max(_EDGE, len(entropy) // 20)
    return np.arange(edge, len(entropy) - edge), EntropyJump(1)(entropy)


def _spaced(order: Sequence[int]) -> list[int]:
    """The first of ``order``, and further ones far enough from all before, up to MOST."""
    taken: list[int] = []
    for at in order:
        if len(taken) < MOST and all(abs(at - other) >= APART for other in taken):
            taken.append(at)
    return taken


def _matched(pool: IntArray, first: Sequence[int]) -> list[tuple[int, int]]:
    """Of each of ``first`` its place and the position of ``pool`` nearest to it, far enough from those before."""
    pairs: list[tuple[int, int]] = []
    for pair, at in enumerate(first):
        left = [each for each in pool.tolist() if all(abs(each - other) >= APART for _, other in pairs)]
        if left:
            pairs.append((pair, min(left, key=lambda each: abs(each - at))))
    return pairs
