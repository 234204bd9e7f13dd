"""``powercut reproduce``: a table of the paper, with one command."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from powercut.cli.interrupts import interruptible
from powercut.cli.options import (
    RUN_PANEL,
    AllowUnsafeLocalFlag,
    KeepTraceFlag,
    ModelFlag,
    QuietFlag,
    TemplateArgFlag,
    check_counts,
    split_flags,
    template_args,
    with_engine_flags,
)
from powercut.cli.output import say
from powercut.cli.report import report
from powercut.errors import SettingError
from powercut.evals.tasks import TASKS
from powercut.models.converting import DEFAULT_MODEL
from powercut.prompt import check_template_args

if TYPE_CHECKING:
    from powercut.engines.protocol import Engine
    from powercut.evals.runs.harness import Harness
    from powercut.evals.runs.plan import Cell

_TASKS = [name for name, task in TASKS.items() if task.published_seeds is not None]
_MEASURE = 60.0
"""Seconds for which the engine is measured."""


@with_engine_flags
def reproduce(
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"Of {', '.join(_TASKS)}.", show_default=False)],
    scale: Annotated[
        float, typer.Option(help="Shrink lengths, steps and problems together, for a try: 0.1 is a tenth of each.")
    ] = 1.0,
    seeds: Annotated[
        int | None, typer.Option(help="Completions of each problem. Default: 8, for aime26 64, as published.")
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            metavar="exact|published",
            help="The Metropolis-Hastings step: the exact one, or the paper's, which is biased.",
        ),
    ] = "exact",
    estimate: Annotated[bool, typer.Option("--estimate", help="Say what the run will cost, and stop there.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN_DIR", help="The run's folder. Default: runs/TASK-MODEL.", show_default=False),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The task's problems, as JSON or JSON lines.", rich_help_panel=RUN_PANEL),
    ] = None,
    style: Annotated[
        str, typer.Option(metavar="STYLE", help="How problems are put; `powercut eval --help` names the others.")
    ] = "paper",
    template_arg: TemplateArgFlag = None,
    allow_unsafe_local: AllowUnsafeLocalFlag = False,
    save_trace: KeepTraceFlag = False,
    quiet: QuietFlag = False,
    model: ModelFlag = None,
    **flags: Any,
) -> None:
    """Run a table of the paper (arXiv 2605.30327) on a model.

    Standard and low-temperature sampling, SMC, TMC, Uniform-Cut and Entropy-Cut, and best-of-n at Entropy-Cut's cost at
    two temperatures, with the published prompts and settings. Says beforehand how many tokens that takes and, from a
    minute's measurement, how long. The same command again goes on where the last one was interrupted; at the end is the
    table, and a report in RUN_DIR/report.

    For example:

        powercut reproduce math500 --model vllm:Qwen/Qwen2.5-Math-7B

        powercut reproduce humaneval --scale 0.02 --seeds 1 --allow-unsafe-local
    """
    try:
        with interruptible():
            from powercut.cli.run_cells import Run, fail_if_any_failed
            from powercut.evals import published
            from powercut.evals.runs.benchmarks import load_benchmarks
            from powercut.evals.runs.plan import folder_name
            from powercut.evals.sandbox.local_sandbox import LocalSandbox
            from powercut.report import build  # noqa: F401  # what the end needs is missed at the start
    except ImportError as error:
        raise SettingError(f"powercut reproduce needs {error.name}: pip install 'powercut[eval,report]'") from error

    if task not in _TASKS:
        raise SettingError(f"there is no table of {task!r}: the paper has {', '.join(_TASKS)}")
    check_counts(seeds=seeds)
    published.check_scale(scale)
    local = LocalSandbox() if allow_unsafe_local else None
    [bench] = load_benchmarks([task], [data] if data else [], None, local)
    bench = replace(bench, problems=bench.problems[: published.scaled(len(bench.problems), scale)])
    arms = published.arms(TASKS[task], scale, rule=rule)
    count = seeds or TASKS[task].published_seeds or 1
    longest = arms[0].sampler.max_new_tokens
    say(f"{task}: {len(bench.problems)} problems x {count} seeds x {len(arms)} samplers, of up to {longest:,} tokens")
    name = model or DEFAULT_MODEL
    folder = out or Path("runs", f"{task}-{folder_name(name)}")

    def announce(engine: Engine, harness: Harness) -> bool:
        _announce(engine, harness, longest)
        return not estimate

    results = Run(
        out=folder,
        chosen={bench: arms},
        models=[name],
        options=split_flags(flags)[0],
        seeds=count,
        style=style,
        template_args=check_template_args(template_args(template_arg)),
        local=local,
        save_trace=save_trace,
        quiet=quiet,
        before=announce,
    )()
    if not estimate:
        report([folder])
        fail_if_any_failed(results)


def _announce(engine: Engine, harness: Harness, longest: int) -> None:
    """Say how many tokens what is missing will take, and how long."""
    from powercut.evals.measure import measure
    from powercut.evals.styles import STYLES, make_prompt

    missing = [(cell, len(harness.missing(cell))) for cell in harness.files]
    missing = [(cell, count) for cell, count in missing if count]
    if not missing:
        say("nothing is left to sample")
        return
    say(f"{_amount(_tokens(missing, longest))} tokens if no completion ends early; measuring for {_MEASURE:.0f} s ...")
    cell = next((cell for cell, _ in missing if cell.sampler == "low-temperature"), missing[0][0])
    style, kind = STYLES[cell.style], cell.bench.task.kind
    prompts = [make_prompt(style, kind, problem) for problem in cell.bench.problems]
    drawing = measure(
        engine,
        cell.settings,
        prompts,
        chat=kind in style.chat,
        template_args=cell.template_args,
        seconds=_MEASURE,
    )
    found = asyncio.run(drawing)
    tokens = _tokens(missing, found.length)
    say(
        f"{found.tokens_per_second:,.0f} tokens/s, {found.length:,.0f} tokens a completion: about {_amount(tokens)} "
        f"tokens in all, {_duration(tokens / found.tokens_per_second)}; early rejection and repeats make it less"
    )


def _tokens(missing: Sequence[tuple[Cell, int]], length: float) -> float:
    """Tokens to decode for so many completions of each cell, if they have ``length`` tokens."""
    from powercut.evals.published import expected_cost

    return sum(count * expected_cost((cell.matched or cell).settings, length) for cell, count in missing)


def _amount(tokens: float) -> str:
    for size, unit in ((1e9, " billion"), (1e6, " million")):
        if tokens >= size:
            return f"{tokens / size:,.1f}{unit}"
    return f"{tokens:,.0f}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} seconds"
