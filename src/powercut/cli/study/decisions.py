"""``powercut study decisions``: where a model decides."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from powercut.cli.load_engine import load_engine
from powercut.cli.options import (
    ChatFlag,
    ModelFlag,
    TemplateArgFlag,
    split_flags,
    template_args,
    with_engine_flags,
)
from powercut.cli.prompts import read_prompts
from powercut.cli.study.answers import extractor
from powercut.cli.study.frame import KeepRecord, OutFlag, QuietFlag, SeedFlag, run_study, study_libraries
from powercut.prompt import check_template_args
from powercut.samplers import LowTemperature
from powercut.samplers.settings import LARGEST_SEED, check_number
from powercut.text import encode_prompt

if TYPE_CHECKING:
    from powercut.study.findings import Findings, Record

NUMBER = r"-?\d[\d,]*(?:\.\d+)?"


@with_engine_flags
def decisions(
    prompt: Annotated[str | None, typer.Argument(help="What to complete.", show_default=False)] = None,
    file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Many prompts, as powercut sample takes them (- is stdin).")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="The first so many of them. Default: all.")] = None,
    answer: Annotated[
        str,
        typer.Option(
            metavar="REGEX",
            help="What an answer looks like in the text; its last match counts, or that of its first group.",
        ),
    ] = NUMBER,
    cuts: Annotated[
        int, typer.Option(help="Cuts of a completion: half where the entropy jumps most, half at random.")
    ] = 20,
    redraws: Annotated[int, typer.Option(help="Re-drawings from each cut.")] = 16,
    temperature: Annotated[float, typer.Option(help="Of the completion and of its re-drawings.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Longest completion, in tokens.")] = 256,
    top_k: Annotated[int, typer.Option(help="Truncate the model to its K most likely tokens.")] = 50,
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

        powercut study decisions --file problems.txt --limit 20
    """
    asked = read_prompts(prompt, file)[:limit]
    for name, value, least in (("--cuts", cuts, 2), ("--redraws", redraws, 4), ("--max-new-tokens", max_new_tokens, 1)):
        check_number(name, value, least, 100_000, whole=True)
    check_number("--limit", limit or 1, 1, whole=True)
    check_number("--seed", seed, 0, LARGEST_SEED, whole=True)
    built = LowTemperature(temperature=temperature, max_new_tokens=max_new_tokens, top_k=top_k)
    extract, engine_options = extractor(answer), split_flags(flags)[0]
    args = check_template_args(template_args(template_arg), chat)
    with study_libraries():
        from powercut.study.decisions.measure import Redraws, measure_prompts
        from powercut.study.decisions.report import findings

    plan = Redraws(cuts, redraws, seed)
    console = Console(stderr=True, quiet=quiet, highlight=False)
    keys = [f"prompt {i}" for i in range(len(asked))]
    most = len(asked) * (1 + cuts * redraws) * max_new_tokens
    console.print(f"at most {most:,} tokens are to be decoded, if every ending is as long as it can be", markup=False)

    def measure(missing: Sequence[str], keep: KeepRecord) -> None:
        import numpy as np

        engine = load_engine(console, model, engine_options, len(asked) * cuts * redraws, top_k)

        async def all_of_it() -> None:
            encoded = [
                np.array(await encode_prompt(engine.text, each.prompt, chat=chat, template_args=args)) for each in asked
            ]
            await measure_prompts(
                engine,
                built,
                encoded,
                plan,
                extract,
                [keys.index(key) for key in missing],
                lambda number, record: keep(keys[number], record),
            )

        asyncio.run(all_of_it())

    def found(records: Sequence[Record]) -> Findings:
        return findings(records, f"{model or 'the bundled model'}, temperature {temperature:g}", seed)

    told: dict[str, Any] = {"prompts": [each.prompt for each in asked], "answer": answer, "chat": chat, "model": model}
    told |= asdict(plan) | {"template_args": args, "settings": asdict(built)}
    run_study("decisions", told, keys, measure, found, out=out, quiet=quiet)
