"""What the server has done, as Prometheus reads it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from powercut.server.turns import Turns

if TYPE_CHECKING:
    from powercut.server.choice import Choice

_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Upper bounds, in seconds."""


class Metrics:
    """Counts since the server began. ``joined``: retries that were given the answer of their first try."""

    def __init__(self) -> None:
        self.joined = 0
        self._requests: Counter[tuple[str, int]] = Counter()
        self._stopped: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request on ``path`` (one of the server's own) ended with ``status`` after so many seconds."""
        self._requests[path, status] += 1
        self._buckets.setdefault(path, [0] * (len(_BUCKETS) + 1))[bisect_left(_BUCKETS, seconds)] += 1
        self._seconds[path] += seconds

    def drawn(self, choice: Choice) -> None:
        """A choice was drawn, or given up."""
        if choice.watched is not None:
            self._counts["tokens_decoded"] += choice.watched.decoded
        self._counts["chains"] += 1
        drawn, steps = choice.completion, choice.steps
        # Those behind the last step that was made are known once the chain has ended.
        nulls = sum(step.nulls for step in steps) if drawn is None else drawn.stats.steps - len(steps)
        self._counts["steps"] += len(steps) + nulls
        self._counts["steps_accepted"] += sum(step.accepted for step in steps) + nulls
        self._counts["steps_changed"] += sum(step.changed_at is not None for step in steps)
        if drawn is not None:
            self._counts["tokens_kept"] += len(drawn.tokens)
        if choice.stopped is not None:
            self._stopped[choice.stopped] += 1

    def page(self, turns: Turns) -> str:
        """The text that Prometheus asks for."""
        lines: list[str] = []

        def add(name: str, kind: str, text: str, *samples: tuple[str, float]) -> None:
            lines.extend((f"# HELP powercut_{name} {text}", f"# TYPE powercut_{name} {kind}"))
            lines.extend(f"powercut_{name}{label} {value}" for label, value in samples)

        by_path = [(f'{{path="{path}",status="{status}"}}', n) for (path, status), n in sorted(self._requests.items())]
        add("requests_total", "counter", "Requests answered.", *by_path)
        for name, text in _COUNTED.items():
            add(f"{name}_total", "counter", text, ("", self._counts[name]))
        stopped = [(f'{{reason="{reason}"}}', self._stopped[reason]) for reason in ("budget", "deadline")]
        add("stopped_total", "counter", "Chains that a bound ended where they stood.", *stopped)
        add("retries_joined_total", "counter", "Retries that began no second chain.", ("", self.joined))
        steps = self._counts["steps"]
        if steps:
            share = self._counts["steps_accepted"] / steps
            add("acceptance", "gauge", "Share of all steps that were accepted.", ("", share))
        add("chains_running", "gauge", "Chains that decode.", ("", turns.running))
        add("chains_waiting", "gauge", "Chains that wait for their turn.", ("", turns.waiting))
        samples: list[tuple[str, float]] = []
        for path, buckets in sorted(self._buckets.items()):  # each its own: probes of /health are many, and fast
            total = 0
            for bound, count in zip((*map(str, _BUCKETS), "+Inf"), buckets, strict=True):
                total += count
                samples.append((f'_bucket{{path="{path}",le="{bound}"}}', total))
            samples += [(f'_sum{{path="{path}"}}', self._seconds[path]), (f'_count{{path="{path}"}}', total)]
        add("request_seconds", "histogram", "Seconds from a request to the end of its answer.", *samples)
        return "\n".join(lines) + "\n"


_COUNTED = {
    "chains": "Chains drawn or given up.",
    "tokens_decoded": "Tokens decoded, kept or not.",
    "tokens_kept": "Tokens of the completions returned.",
    "steps": "Metropolis-Hastings steps.",
    "steps_accepted": "Steps that were accepted.",
    "steps_changed": "Steps that changed the text.",
}
