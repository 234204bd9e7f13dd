"""What people see on a terminal while chains run, and the figures of each completion afterwards."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from powercut.engines.protocol import Usage
from powercut.trace import Completion, Event

_ROWS = 8
_RATE_SAMPLES = 40  # at 8 refreshes a second, a live rate is that of the last 5 seconds


@dataclass(slots=True)
class _Chain:
    """Where one chain stands."""

    stage: int = 0
    stages: int = 1
    step: int = 0
    steps: int = 0
    accepted: int = 0
    changed: int = 0
    length: int = 0

    def update(self, event: Event) -> None:
        if event.stage != self.stage:
            self.step = 0
        self.stage, self.stages, self.length = event.stage, event.stages, len(event.trace)
        if event.step is not None:
            self.step += 1 + event.step.nulls
            self.steps += 1 + event.step.nulls
            self.accepted += event.step.accepted + event.step.nulls
            self.changed += event.step.changed_at is not None


class Display(ABC):
    """What is shown of ``total`` completions while they are drawn: live on a terminal, else a line now and then.

    ``every`` is how often, in seconds.
    """

    def __init__(self, console: Console, usage: Usage, total: int, every: float = 5.0) -> None:
        self._console, self._usage, self._total = console, usage, total
        self._done = 0
        self._rate: deque[tuple[float, int]] = deque([(time.monotonic(), usage.decoded)], maxlen=_RATE_SAMPLES)
        self._live: Live | None = None
        self._every, self._last = every, time.monotonic()

    @abstractmethod
    def __rich__(self) -> RenderableType:
        """Draw the display as it should look now."""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            # A Live that was stopped still knows its old height and would erase lines above it: always a new one.
            self._live = Live(self, console=self._console, transient=True, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def expect(self, total: int) -> None:
        """Take note that there will be only so many completions."""
        self._total = total

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Clear the display while something else is written to the terminal."""
        if self._live is None:
            yield
            return
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def _line(self, more: Callable[[], str]) -> None:
        """Where there is no terminal, write the head and ``more`` on a line if the last one is long enough ago."""
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last >= self._every:
            self._last = now
            self._console.print(f"{self._head()} · {more()}", markup=False, soft_wrap=True)

    def _head(self) -> str:
        now, decoded = time.monotonic(), self._usage.decoded
        then, before = self._rate[0]
        self._rate.append((now, decoded))
        rate = (decoded - before) / max(now - then, 1e-3)
        return f"{self._done}/{self._total} completions · {decoded:,} tokens decoded · {rate:,.0f} tokens/s"


class Progress(Display):
    """The chains of ``powercut sample``."""

    def __init__(
        self, console: Console, usage: Usage, total: int, steps_per_stage: int | None, every: float = 5.0
    ) -> None:
        super().__init__(console, usage, total, every)
        self._steps = steps_per_stage
        self._chains: dict[tuple[int, int], _Chain] = {}

    def observe(self, prompt_index: int, sample_index: int, event: Event) -> None:
        """Take note of what a sampler just did."""
        chain = self._chains.setdefault((prompt_index, sample_index), _Chain())
        chain.update(event)

        def where() -> str:
            cells = ", ".join(f"{name} {value}" for name, value in self._cells(chain).items())
            return f"prompt {prompt_index}, sample {sample_index}: {cells}"

        self._line(where)

    def finish(self, prompt_index: int, sample_index: int) -> None:
        """Take note that a chain has ended, well or not."""
        self._done += 1
        self._chains.pop((prompt_index, sample_index), None)

    def __rich__(self) -> RenderableType:
        """Draw the display as it should look now."""
        head = Text(self._head())
        chains = list(self._chains.items())  # the run adds and removes chains while a thread draws this
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
        cells = [{"prompt": str(i), "sample": str(j), **self._cells(chain)} for (i, j), chain in chains[:_ROWS]]
        for column in cells[0] if cells else ():
            table.add_column(column, justify="right", no_wrap=True)
        for row in cells:
            table.add_row(*row.values())
        more = [Text(f"and {len(chains) - _ROWS} more", style="dim")] if len(chains) > _ROWS else []
        return Group(head, *([table] if chains else []), *more)

    def _cells(self, chain: _Chain) -> dict[str, str]:
        """Where a chain stands, by column; steps only for a sampler that has them."""
        cells = {"stage": f"{chain.stage + 1}/{chain.stages}"}
        if self._steps is not None:
            cells["step"] = f"{chain.step}/{self._steps}"
            for name, count in (("acceptance", chain.accepted), ("changed", chain.changed)):
                cells[name] = f"{count / chain.steps:.0%}" if chain.steps else "–"
        return cells | {"length": str(chain.length)}


def figures(completion: Completion) -> str:
    """Put what a completion is worth and what it cost on one line."""
    stats = completion.stats
    parts = [f"log-probability {completion.logp:.2f}"]
    if stats.acceptance is not None:
        nulls = f", {stats.null_steps:,} null" if stats.null_steps else ""
        of_them = f"{stats.acceptance:.0%} accepted, {stats.changed:.0%} changed the text"
        parts.append(f"of {stats.steps} steps {of_them}{nulls}")
    if stats.log_z is not None:
        parts.append(f"log Z {stats.log_z:.2f}")
    if stats.candidates is not None:
        parts.append(f"best of {stats.candidates}")
    if stats.tries is not None:
        parts.append(f"accepted at try {stats.tries:,}")
    if stats.stages_ended:
        parts.append(f"{stats.stages_ended:,} stages ended by until")
    if stats.agreement is not None:
        parts.append(f"answers agree to {stats.agreement:.0%}")
    parts.append(f"{stats.tokens_decoded:,} tokens decoded, {len(completion.tokens):,} kept")
    parts.append(f"{stats.seconds:.1f} s")
    if not completion.finished:
        parts.append("cut off at max-new-tokens")
    if stats.satisfied is False:
        parts.append("without what is required")
    return " · ".join(parts)
