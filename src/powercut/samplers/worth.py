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

LINE = 3.0
"""How many measurements at a number of requests the line through all of them counts for, as odd ones do occur."""


class Worth:
    """Chances from the ``steps`` that a chain has made, and costs from the times between its tokens."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._seen = self._accepted = 0
        self._rejected: list[int] = []  # tokens decoded for each, in order
        self._times: dict[int, tuple[float, float]] = {}  # by requests in the engine: sums of weights, and of seconds
        self._weight = 1.0  # of the next measurement

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
        weight, sums = self._times.get(busy, (0.0, 0.0))
        self._times[busy] = weight + self._weight, sums + self._weight * seconds
        self._weight /= FORGETS
        if self._weight > 1e9:
            self._times = {b: (weight / self._weight, sums / self._weight) for b, (weight, sums) in self._times.items()}
            self._weight = 1.0

    def pays(self, chance: float, busy: int, likely: float) -> bool:
        """Whether to add a request that counts with this ``chance`` to ``busy`` others, of which ``likely`` will count.

        It pays if the tokens that count come faster with it: (likely + chance) / s(b + 1) > likely / s(b). s(b) is the
        mean of what was seen at b, and of LINE measurements more on the straight line through all that was seen.
        """
        return chance >= LEAST_CHANCE and chance > likely * self._growth(busy)

    def _growth(self, busy: int) -> float:
        """(s(b + 1) - s(b)) / s(b) at ``busy`` requests; 0 as long as only one b was seen, so that others are tried."""
        times = self._times.items()
        n = sum(weight for _, (weight, _) in times)
        if not n:
            return 0.0
        b, s = sum(at * weight for at, (weight, _) in times) / n, sum(sums for _, (_, sums) in times) / n
        spread = sum(weight * (at - b) ** 2 for at, (weight, _) in times) / n
        if spread <= 1e-6 * (b * b + spread):
            return 0.0
        slope = sum((at - b) * sums for at, (_, sums) in times) / n / spread

        def seconds(at: int) -> float:
            weight, sums = self._times.get(at, (0.0, 0.0))
            line = LINE * self._weight
            return (sums + line * (s + slope * (at - b))) / (weight + line)

        here = seconds(busy)
        return max(0.0, seconds(busy + 1) / here - 1) if here > 0 else 0.0
