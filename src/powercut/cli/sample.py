"""``powercut sample``: draw completions and show them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from powercut.chains import Chains
from powercut.cli.load_engine import load_engine
from powercut.cli.options import (
    DEFAULT_SAMPLER,
    PROMPTS_PANEL,
    ChatFlag,
    ModelFlag,
    TemplateArgFlag,
    sampler_from_flags,
    split_flags,
    template_args,
    with_engine_and_setting_flags,
)
from powercut.cli.output import OutFile, say, to_stdout
from powercut.cli.prompts import read_prompts
from powercut.cli.session import Job, Session
from powercut.records import read_completions
from powercut.run_options import RunOptions, spent_on
from powercut.samplers import SAMPLERS
from powercut.samplers.settings import LARGEST_SEED, check_number
from powercut.strict_json import json_line
from powercut.view.page import view_page

_OUTPUT = "Output"


@with_engine_and_setting_flags
def sample(
    prompt: Annotated[str | None, typer.Argument(help="What to complete.", show_default=False)] = None,
    sampler: Annotated[str, typer.Option(help=f"One of {', '.join(SAMPLERS)}.")] = DEFAULT_SAMPLER,
    completions: Annotated[int, typer.Option("-n", help="Completions of each prompt.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same completions.")] = 0,
    concurrency: Annotated[
        int | None, typer.Option(help="Chains at once; as many as the engine decodes at once if not given.")
    ] = None,
    max_total_tokens: Annotated[
        int | None, typer.Option(help="Start no further completion once so many tokens have been decoded.")
    ] = None,
    agree: Annotated[
        float | None,
        typer.Option(
            help="Draw no more of a prompt's completions once it is so likely (0.95) that the leading answer is the "
            "likeliest: --answer finds it, -n is how many there are at most."
        ),
    ] = None,
    match: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Let best-of-n spend on each completion what the one in FILE took, which --json wrote there.",
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='Read prompts from FILE (- is stdin): one a line, or JSON objects with "prompt", "messages" or '
            '"tokens"; their other fields come back under "meta".',
            rich_help_panel=PROMPTS_PANEL,
        ),
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Leave out prompts that cannot be used, and say which.", rich_help_panel=PROMPTS_PANEL
        ),
    ] = False,
    chat: ChatFlag = None,
    system: Annotated[str | None, typer.Option(help="The system message.", rich_help_panel=PROMPTS_PANEL)] = None,
    template_arg: TemplateArgFlag = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object a line for each completion, as it finishes.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there, not to stdout.", rich_help_panel=_OUTPUT)
    ] = None,
    save_trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write every step of every chain there, as JSON lines: cut, proposal, acceptance.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a page there that shows every chain, step by step (powercut view).",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files that exist.", rich_help_panel=_OUTPUT)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no figures on stderr.", rich_help_panel=_OUTPUT)
    ] = False,
    model: ModelFlag = None,
    **flags: Any,
) -> None:
    """Sample completions of one or more prompts.

    Texts go to stdout in the order of the prompts, with an empty line between two; progress and figures to stderr.
    Ctrl-C keeps what is finished.

    For example:

        powercut sample "What is 7 * 8 + 2?"

        powercut sample --file prompts.jsonl -n 4 --max-new-tokens 256 --json > completions.jsonl
    """
    engine_options, settings = split_flags(flags)
    built = sampler_from_flags(sampler, settings)
    asked = read_prompts(prompt, file, (lambda why: say(f"skipped: {why}")) if skip_bad else None)
    check_number("-n", completions, 1, whole=True)
    check_number("--seed", seed, 0, LARGEST_SEED, whole=True)
    options = RunOptions(
        n=completions,
        seed=seed,
        chat=chat,
        system=system,
        template_args=template_args(template_arg),
        concurrency=concurrency,
        max_total_tokens=max_total_tokens,
        match=None if match is None else spent_on(read_completions(match)),
        skip_bad=skip_bad,
        agree=agree,
    )
    job = Job(sampler, built, asked, options)
    console = Console(stderr=True, quiet=quiet, highlight=False)
    with contextlib.ExitStack() as stack:
        files: list[OutFile] = []

        def opened(option: str, path: Path | None, fallback: Callable[[str], None] | None = None) -> OutFile | None:
            if path is None:
                return None
            files.append(stack.enter_context(OutFile(option, path, force=force, fallback=fallback, others=files)))
            return files[-1]

        out = opened("--output", output, to_stdout)
        trace, page = opened("--save-trace", save_trace), opened("--html", html)
        chains = Chains()

        def record(line: dict[str, Any]) -> None:
            if trace is not None:
                trace.write(json_line(line))
            if page is not None:
                chains.add(line)

        session = Session(
            job,
            console,
            as_json=as_json,
            write=out.write if out else to_stdout,
            record=record if trace or page else None,
        )
        try:
            engine = load_engine(console, model, engine_options, job.total * built.width, built.top_k)
            asyncio.run(session.run(engine))
        except KeyboardInterrupt:
            say(f"interrupted: {session.finished} of {session.expected} completions finished")
            raise typer.Exit(130) from None
        finally:
            if page is not None and chains.by_place:
                page.write(view_page(chains, html.name if html else ""))
        if any(file.failed for file in files):
            raise typer.Exit(2)
    raise typer.Exit(session.exit_code)
