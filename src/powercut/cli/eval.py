"""``powercut eval``: tasks x models x samplers, into a run folder that survives any interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from powercut.cli.interrupts import interruptible
from powercut.cli.options import (
    DEFAULT_SAMPLER,
    RUN_PANEL,
    AllowUnsafeLocalFlag,
    KeepTraceFlag,
    QuietFlag,
    StyleFlag,
    TemplateArgFlag,
    check_counts,
    flag,
    split_flags,
    template_args,
    unescaped,
    with_engine_and_repeated_setting_flags,
)
from powercut.cli.output import say
from powercut.errors import SettingError
from powercut.evals.tasks import TASKS
from powercut.models.converting import DEFAULT_MODEL
from powercut.prompt import check_template_args
from powercut.samplers import SAMPLERS


@with_engine_and_repeated_setting_flags
def evaluate(
    tasks: Annotated[
        list[str],
        typer.Argument(metavar="TASK", help=f"Of {', '.join(TASKS)}.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option(metavar="RUN_DIR", help="The run's folder. What is done there is not done again.")
    ],
    sampler: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(SAMPLERS)}; may be given several times. Default: {DEFAULT_SAMPLER}."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Completions of each problem.")] = 1,
    limit: Annotated[int | None, typer.Option(help="The first so many problems of each task. Default: all.")] = None,
    match: Annotated[
        str | None,
        typer.Option(metavar="SAMPLER", help="Let best-of-n spend what SAMPLER did on the same problem and seed."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="The task's problems, as JSON or JSON lines; TASK=FILE where there are several tasks.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = None,
    style: StyleFlag = None,
    template_arg: TemplateArgFlag = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            help="Completions at once; as many as keep the engine full if not given.", rich_help_panel=RUN_PANEL
        ),
    ] = None,
    allow_unsafe_local: AllowUnsafeLocalFlag = False,
    regrade: Annotated[
        bool,
        typer.Option(
            "--regrade",
            help="Grade again what is in the folder, by today's graders. Nothing of it is sampled again.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = False,
    save_trace: KeepTraceFlag = False,
    quiet: QuietFlag = False,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A hub name, a local folder, vllm:NAME or a URL; may be given several times, to compare. "
            "Default: the bundled SmolLM2-135M-Instruct.",
            rich_help_panel="Model",
        ),
    ] = None,
    **flags: Any,
) -> None:
    """Evaluate samplers on benchmarks.

    Every task with every model and every sampler. A setting that is given several times makes a cell of each value, for
    the samplers that have it; those that are not given are as published for the task. The same command again goes on
    where the last one was interrupted. `powercut report RUN_DIR` makes the tables, and Inspect's logs are in
    RUN_DIR/logs.

    For example:

        powercut eval arithmetic --sampler standard --sampler entropy-cut --limit 20 --out runs/first

        powercut eval math500 --model Qwen/Qwen2.5-Math-7B --alpha 2 --alpha 4 --out runs/ablation
    """
    try:
        with interruptible():
            from powercut.cli.run_cells import Run, fail_if_any_failed
            from powercut.evals.runs.benchmarks import load_benchmarks
            from powercut.evals.runs.plan import variants
            from powercut.evals.sandbox.local_sandbox import LocalSandbox
    except ImportError as error:
        raise SettingError(f"powercut eval needs {error.name}: pip install 'powercut[eval]'") from error
    from powercut.cli.eval_progress import show_summary

    check_counts(seeds=seeds, limit=limit, concurrency=concurrency)
    names = list(dict.fromkeys(sampler or [DEFAULT_SAMPLER]))
    options, values = split_flags(flags)
    args = check_template_args(template_args(template_arg))
    if "stop" in values:
        values["stop"] = [unescaped(values["stop"])]  # several stops are one setting
    local = LocalSandbox() if allow_unsafe_local else None
    benches = load_benchmarks(list(dict.fromkeys(tasks)), data or [], limit, local)
    run = Run(
        out=out,
        chosen={bench: variants(names, values, bench.defaults, match, flag) for bench in benches},
        models=model or [DEFAULT_MODEL],
        options=options,
        seeds=seeds,
        style=style,
        template_args=args,
        concurrency=concurrency,
        local=local,
        quiet=quiet,
        regrade=regrade,
        save_trace=save_trace,
    )
    results = run()
    show_summary(results)
    say(f"powercut report {out} makes tables, tests and plots; inspect view --log-dir {out / 'logs'} shows the texts")
    fail_if_any_failed(results)
