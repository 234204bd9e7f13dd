"""What the commands that evaluate share: cells are run, model by model, into a run folder."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from powercut.cli.eval_progress import EvalProgress
from powercut.cli.load_engine import load_engine
from powercut.cli.output import say
from powercut.engines.protocol import Engine
from powercut.evals.runs.benchmarks import Benchmark
from powercut.evals.runs.folder import RunFolder
from powercut.evals.runs.harness import Harness
from powercut.evals.runs.plan import Cell, Variant, make_cells
from powercut.evals.runs.provenance import provenance
from powercut.evals.sandbox.local_sandbox import LocalSandbox
from powercut.records import Result, RunFacts


@dataclass(frozen=True, kw_only=True)
class Run:
    """Variants of samplers on benchmarks, by one model after another, each loaded with ``options``.

    ``before`` is called with the engine and the harness of each model before anything is sampled, and says whether to
    go on. ``local`` runs the programs of tasks that need it; ``save_trace`` keeps the steps of each completion.
    """

    out: Path
    chosen: Mapping[Benchmark, Sequence[Variant]]
    models: Sequence[str]
    options: Mapping[str, Any]
    seeds: int
    style: str | None = None
    template_args: Mapping[str, Any] | None = None
    concurrency: int | None = None
    local: LocalSandbox | None = None
    quiet: bool = False
    regrade: bool = False
    save_trace: bool = False
    before: Callable[[Engine, Harness], bool] = lambda engine, harness: True

    def __call__(self) -> dict[Cell, list[Result]]:
        """Run what is missing; returns what is in the folder then. Ctrl-C ends with exit code 130, and keeps it."""
        results: dict[Cell, list[Result]] = {}
        if self.local is not None and any(bench.execute is not None for bench in self.chosen):
            say(f"note: {self.local.describe()}")
        with RunFolder(self.out) as folder:
            facts = provenance(["powercut", *sys.argv[1:]])
            folder.record(facts)
            try:
                for name in dict.fromkeys(self.models):
                    facts = self._run_model(name, folder, facts, results)
            except KeyboardInterrupt:
                kept = sum(map(len, results.values()))
                say(f"interrupted: {kept} completions are in {self.out}, and the same command goes on from there")
                raise typer.Exit(130) from None
        return results

    def _run_model(self, name: str, folder: RunFolder, facts: RunFacts, results: dict[Cell, list[Result]]) -> RunFacts:
        """The facts with this model's among them. No reference to its engine is left: the next needs the memory."""
        console = Console(stderr=True, quiet=self.quiet, highlight=False)
        engine = load_engine(console, name, dict(self.options), self._most(), self._top_k())
        try:
            facts = replace(facts, engines={**(facts.engines or {}), name: engine.describe()})
            folder.record(facts)
            cells = make_cells(
                self.chosen,
                name,
                engine,
                style=self.style,
                seeds=self.seeds,
                dtype=self.options.get("dtype"),
                template_args=self.template_args,
            )
            progress = EvalProgress(console, engine.usage)
            harness = Harness(
                *(engine, folder, cells, progress.observe, self.concurrency),
                regrade=self.regrade,
                save_trace=self.save_trace,
            )
            try:
                if self.before(engine, harness):
                    progress.start(harness.results())
                    with progress:
                        harness.run()
            finally:
                results.update(harness.results())
        finally:
            asyncio.run(engine.aclose())
        return facts

    def _most(self) -> int:
        """How many requests there can be at once."""
        return sum(
            len(bench.problems) * self.seeds * each.sampler.width
            for bench, several in self.chosen.items()
            for each in several
        )

    def _top_k(self) -> int | None:
        """The largest top_k that is asked for."""
        given = (each.sampler.top_k for several in self.chosen.values() for each in several)
        return max((top_k for top_k in given if top_k is not None), default=None)


def fail_if_any_failed(results: Mapping[Cell, Sequence[Result]]) -> None:
    """Say how many completions failed, and exit with 1 if any did."""
    errors = [each.error for done in results.values() for each in done if each.error is not None]
    if errors:
        say(f"error: {len(errors)} completions failed, the first with: {errors[0]}; the same command tries them again")
        raise typer.Exit(1)
