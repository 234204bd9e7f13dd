"""One run of ``powercut sample``: draws a job's completions and passes each on to where it should go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console

from powercut.cli.output import InOrder, Write, say
from powercut.cli.progress import Progress, figures
from powercut.cli.prompts import Asked, shorten
from powercut.engines.protocol import Engine
from powercut.engines.with_rows import WithRows
from powercut.errors import PowercutError, PromptError, SettingError, visible
from powercut.records import Completed
from powercut.run import Failure, stream
from powercut.run_options import RunOptions, sampler_at
from powercut.samplers import Sampler
from powercut.step_lines import StepLines
from powercut.strict_json import json_line
from powercut.trace import Completion, Event

Record = Callable[[dict[str, Any]], None]
"""Takes a line of step_lines.py."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be sampled."""

    sampler_name: str
    sampler: Sampler
    asked: Sequence[Asked]
    options: RunOptions

    @property
    def total(self) -> int:
        """How many completions there will be."""
        return len(self.asked) * self.options.n


class Session:
    """Samples a job. ``finished`` counts completions, also when it is interrupted, of those still ``expected``.

    ``record`` is given the lines of every step. ``exit_code`` is for the shell.
    """

    def __init__(
        self, job: Job, console: Console, *, as_json: bool, write: Write, record: Record | None = None
    ) -> None:
        self.finished, self.expected = 0, job.total
        self.exit_code = 0
        self._job, self._console, self._as_json = job, console, as_json
        self._write, self._record = write, record
        self._shown = 0
        self._failed: Counter[str] = Counter()

    async def run(self, engine: Engine) -> None:
        """Draw everything. However this ends, what is finished has been written."""
        job = self._job
        progress = Progress(self._console, engine.usage, job.total, getattr(job.sampler, "steps", None))
        record = self._record
        settings = asdict(job.sampler)
        lines = StepLines(
            engine.text, sampler=job.sampler_name, settings=settings, seed=job.options.seed, model=engine.name
        )
        texts = InOrder(self._show_text, ((i, j) for i in range(len(job.asked)) for j in range(job.options.n)))

        def observe(prompt_index: int, sample_index: int, event: Event) -> None:
            progress.observe(prompt_index, sample_index, event)
            if record is not None:
                for line in lines.event(prompt_index, sample_index, event):
                    record(line)

        def take(outcome: Completion | Failure) -> None:
            place = (outcome.prompt_index, outcome.sample_index)
            progress.finish(*place)
            if isinstance(outcome, Failure):
                self._report(outcome)
                texts.add(place, None)
                return
            self.finished += 1
            completed = Completed.of(
                outcome,
                sampler=job.sampler_name,
                settings=asdict(sampler_at(job.sampler, job.options, *place)),
                seed=job.options.seed,
                model=engine.name,
                meta=job.asked[place[0]].meta,
                template_args=job.options.template_args,
            )
            if record is not None:
                record(lines.completion(completed))
            if self._as_json:
                self._write(json_line(completed))
            else:
                texts.add(place, outcome)
            agree, agreement = job.options.agree, outcome.stats.agreement
            if agree is not None and agreement is not None and agreement >= agree:  # the prompt's others do not come
                for j in range(place[1] + 1, job.options.n):
                    texts.add((place[0], j), None)
                    self.expected -= 1
                progress.expect(self.expected)

        prompts = [asked.prompt for asked in job.asked]
        told = engine if record is None else WithRows(engine)
        options = replace(job.options, observe=observe)
        try:
            with progress:
                async with aclosing(stream(told, job.sampler, prompts, options)) as outcomes:
                    async for outcome in outcomes:
                        with progress.aside():
                            take(outcome)
        except PromptError as error:
            raise SettingError(f"{job.asked[error.index].place}: {error.reason}") from None
        finally:
            texts.close()
            for reason, times in self._failed.items():
                if times > 1:
                    say(f"error: {times - 1} more completions failed so: {reason}")

    def _show_text(self, completion: Completion) -> None:
        text = completion.text if completion.text is not None else " ".join(map(str, completion.tokens))
        if self._shown:
            self._write("\n")
        if self._job.total > 1:
            place = f"prompt {completion.prompt_index}, sample {completion.sample_index}"
            prompt = shorten(self._job.asked[completion.prompt_index].prompt)
            self._remark(f"{place}: {prompt}")
        self._write(text + "\n")
        self._remark(figures(completion))
        self._shown += 1

    def _remark(self, line: str) -> None:
        self._console.print(visible(line), style="dim", markup=False, soft_wrap=True)

    def _report(self, failure: Failure) -> None:
        error = failure.error
        if self._job.options.skip_bad and isinstance(error, SettingError):
            if failure.sample_index == 0:  # the same for every completion of the prompt
                say(f"skipped: {self._job.asked[failure.prompt_index].place}: {error}")
            return
        known = isinstance(error, PowercutError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        self._failed[reason] += 1
        if self._failed[reason] == 1:
            say(f"error: prompt {failure.prompt_index}, sample {failure.sample_index}: {reason}")
        self.exit_code = max(self.exit_code, 2 if known else 1)
