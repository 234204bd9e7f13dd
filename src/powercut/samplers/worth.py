"""Whether to decode one more request ahead of its time: what it is likely to bring, against what it is seen to cost."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence

from powercut.trace import Step

MOST_AHEAD = 8
"""Most requests of a chain that ``auto`` decodes at once."""

LEAST_CHANCE = 0.1
"""``auto`` decodes no request that is less likely to count."""

FORGETS = 0.98
"""What is left of a measurement's weight after the next: the engine's other work comes and goes."""


class Worth:
    """Chances from the ``steps`` that a chain has made, and costs from the times between its tokens."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._seen = self._accepted = 0
        self._rejected: list[int] = []  # tokens decoded for each, in order
        self._sums = [0.0] * 5  # of weights, b, s, b^2, b s; b requests in the engine, s seconds for the next token

    def acceptance(self, decoded: int = 0) -> float:
        """The chance that a step is accepted of which so many tokens were decoded, and which is not rejected yet."""
        for step in self._steps[self._seen :]:
            self._seen += 1
            if step.accepted:
                self._accepted += 1
            else:
                insort(self._rejected, step.tokens_decoded)
        rejected = len(self._rejected) - bisect_right(self._rejected, decoded)
        return (1 + self._accepted) / (2 + self._accepted + rejected)

    def took(self, seconds: float, busy: int) -> None:
        """The next token of a request came after so long, while so many were in the engine."""
        new = (1.0, busy, seconds, busy * busy, busy * seconds)
        self._sums = [FORGETS * old + each for old, each in zip(self._sums, new, strict=True)]

    def pays(self, chance: float, busy: int, likely: float) -> bool:
        """Whether to add a request that counts with this ``chance`` to ``busy`` others, of which ``likely`` will count.

        It pays if the tokens that count come faster with it: (likely + chance) / s(b + 1) > likely / s(b), where s(b)
        is a straight line through what was seen.
        """
        return chance >= LEAST_CHANCE and chance > likely * self._growth(busy)

    def _growth(self, busy: int) -> float:
        """(s(b + 1) - s(b)) / s(b) at ``busy`` requests; 0 as long as only one b was seen, so that others are tried."""
        n, b, s, bb, bs = self._sums
        spread = n * bb - b * b
        if spread <= 1e-6 * n * bb:
            return 0.0
        slope = (n * bs - b * s) / spread
        here = s / n + slope * (busy - b / n)
        return max(0.0, slope / here) if here > 0 else 0.0
