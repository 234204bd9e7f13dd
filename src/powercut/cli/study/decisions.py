"""``powercut study decisions``: where a model decides."""

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
def decisions(
    prompt: PromptArgument = None,
    cuts: Annotated[
        int, typer.Option(help="Cuts of a completion: half where the entropy jumps most, half at random.")
    ] = 20,
    redraws: Annotated[int, typer.Option(help="Re-drawings from each cut.")] = 16,
    temperature: Annotated[float, typer.Option(help="Of the completion and of its re-drawings.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Longest completion, in tokens.")] = 256,
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
    """Where does this model decide? The information that each token has on the final answer, beside the entropy's jump.

    Draws a completion of each prompt, and from each cut several new endings; how much the token at the cut tells of the
    final answer is its weight as a decision. Over many prompts: does a larger jump mean a decision more often?

    For example:

        powercut study decisions "What is 7 * 8 + 2?" --max-new-tokens 64

        powercut study decisions --task gsm8k --limit 20
    """
    for name, value, least in (("--cuts", cuts, 2), ("--redraws", redraws, 4), ("--max-new-tokens", max_new_tokens, 1)):
        check_number(name, value, least, 100_000, whole=True)
    check_number("--seed", seed, 0, LARGEST_SEED, whole=True)
    built = LowTemperature(temperature=temperature, max_new_tokens=max_new_tokens, top_k=top_k)
    args = check_template_args(template_args(template_arg), chat)
    asked = read_questions(prompt, file, task, data, limit, style, answer, chat, args)
    engine_options = split_flags(flags)[0]
    with study_libraries():
        from powercut.study.decisions.measure import Redraws, measure_prompts
        from powercut.study.decisions.report import findings

    plan = Redraws(cuts, redraws, seed)
    console = Console(stderr=True, quiet=quiet, highlight=False)
    keys = [f"prompt {i}" for i in range(len(asked))]
    announce(console, len(asked) * (1 + cuts * redraws) * max_new_tokens)

    def measure(missing: Sequence[str], keep: KeepRecord) -> None:
        engine = load_engine(console, model, engine_options, len(asked) * cuts * redraws, top_k)

        async def all_of_it() -> None:
            await measure_prompts(
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
        return findings(records, f"{asked.what(model)}, temperature {temperature:g}", seed)

    settings = told(asked, answer) | {"model": model} | asdict(plan) | {"settings": asdict(built)}
    run_study("decisions", settings, keys, measure, found, out=out, quiet=quiet)
