"""``powercut study divergence``: whether suffixes go further apart where the entropy jumps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from powercut.cli.load_engine import load_engine
from powercut.cli.options import (
    ChatFlag,
    ModelFlag,
    StyleFlag,
    TemplateArgFlag,
    split_flags,
    template_args,
    with_engine_flags,
)
from powercut.cli.study.frame import KeepRecord, OutFlag, QuietFlag, SeedFlag, announce, run_study, study_libraries
from powercut.cli.study.questions import (
    AnswerFlag,
    DataFlag,
    FileFlag,
    LimitFlag,
    PromptArgument,
    TaskFlag,
    read_questions,
    told,
)
from powercut.prompt import check_template_args
from powercut.samplers import LowTemperature
from powercut.samplers.settings import LARGEST_SEED, check_number

if TYPE_CHECKING:
    from powercut.study.findings import Findings, Record


@with_engine_flags
def divergence(
    prompt: PromptArgument = None,
    suffixes: Annotated[int, typer.Option(help="Suffixes from each place.")] = 16,
    suffix_tokens: Annotated[int, typer.Option(help="Longest suffix, in tokens.")] = 192,
    to_end: Annotated[
        bool, typer.Option("--to-end", help="Let suffixes go to the end of the completion: most reach an answer then.")
    ] = False,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="The two arms of arXiv 2605.30327 as they were: ties in order, nothing matched by position.",
        ),
    ] = False,
    temperature: Annotated[float, typer.Option(help="Of the completion and of its suffixes.")] = 0.25,
    max_new_tokens: Annotated[int, typer.Option(help="Longest completion, in tokens.")] = 3072,
    top_k: Annotated[int, typer.Option(help="Truncate the model to its K most likely tokens.")] = 50,
    file: FileFlag = None,
    task: TaskFlag = None,
    data: DataFlag = None,
    limit: LimitFlag = None,
    style: StyleFlag = None,
    answer: AnswerFlag = None,
    chat: ChatFlag = None,
    template_arg: TemplateArgFlag = None,
    seed: SeedFlag = 0,
    out: OutFlag = None,
    quiet: QuietFlag = False,
    model: ModelFlag = None,
    **flags: Any,
) -> None:
    """Do texts diverge where the entropy jumps? Suffixes from there, and from other places of the same completion.

    Draws a completion of each prompt and from up to five places of each arm several suffixes: top jumps, bottom jumps,
    high entropy without a jump, and places at random. Edit distances and distinct answers, paired by prompt.

    For example:

        powercut study divergence --task math500 --data MATH500.json --to-end

        powercut study divergence --task math500 --published
    """
    for name, value, least in (
        ("--suffixes", suffixes, 2),
        ("--suffix-tokens", suffix_tokens, 1),
        ("--max-new-tokens", max_new_tokens, 20),
    ):
        check_number(name, value, least, 100_000, whole=True)
    check_number("--seed", seed, 0, LARGEST_SEED, whole=True)
    built = LowTemperature(temperature=temperature, max_new_tokens=max_new_tokens, top_k=top_k)
    args = check_template_args(template_args(template_arg), chat)
    asked = read_questions(prompt, file, task, data, limit, style, answer, chat, args)
    engine_options = split_flags(flags)[0]
    with study_libraries():
        from powercut.study.divergence.measure import Suffixes, measure_suffixes
        from powercut.study.divergence.report import findings

    plan = Suffixes(suffixes, None if to_end else suffix_tokens, published, seed)
    console = Console(stderr=True, quiet=quiet, highlight=False)
    keys = [f"prompt {i}" for i in range(len(asked))]
    announce(console, len(asked) * plan.most_tokens(max_new_tokens))

    def measure(missing: Sequence[str], keep: KeepRecord) -> None:
        engine = load_engine(console, model, engine_options, 40 * suffixes, top_k)

        async def all_of_it() -> None:
            await measure_suffixes(
                engine,
                replace(built, stop=asked.stops(engine)),
                await asked.encode(engine),
                plan,
                asked.answer,
                [keys.index(key) for key in missing],
                lambda number, record: keep(keys[number], record),
            )

        asyncio.run(all_of_it())

    def found(records: Sequence[Record]) -> Findings:
        return findings(records, plan, f"{asked.what(model)}, temperature {temperature:g}")

    settings = told(asked, answer) | {"model": model} | asdict(plan) | {"settings": asdict(built)}
    run_study("divergence", settings, keys, measure, found, out=out, quiet=quiet)
