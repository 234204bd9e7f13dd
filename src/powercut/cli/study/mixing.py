"""``powercut study mixing``: has a chain converged on this model and prompt."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from powercut.cli.load_engine import load_engine
from powercut.cli.options import (
    DEFAULT_SAMPLER,
    ChatFlag,
    ModelFlag,
    TemplateArgFlag,
    sampler_from_flags,
    split_flags,
    template_args,
    with_engine_and_setting_flags,
)
from powercut.cli.study.frame import KeepRecord, OutFlag, QuietFlag, SeedFlag, run_study, study_libraries
from powercut.cli.study.questions import extractor
from powercut.errors import SettingError, quoted
from powercut.prompt import check_prompt, check_template_args
from powercut.samplers import EntropyCut, UniformCut
from powercut.samplers.settings import LARGEST_SEED, check_number
from powercut.text import encode_prompt

if TYPE_CHECKING:
    from powercut.study.findings import Findings, Record


@with_engine_and_setting_flags
def mixing(
    prompt: Annotated[str, typer.Argument(help="What the chains complete.", show_default=False)],
    sampler: Annotated[str, typer.Option(help="entropy-cut or uniform-cut.")] = DEFAULT_SAMPLER,
    starts: Annotated[int, typer.Option(help="Independent starts, each with a coupled pair.")] = 16,
    chains: Annotated[int, typer.Option(help="Chains from each start, for R-hat.")] = 4,
    steps: Annotated[int | None, typer.Option(help="Steps of each of these. Default: 40.")] = None,
    lag: Annotated[int, typer.Option(help="Steps by which one of a pair is ahead.")] = 20,
    most: Annotated[int, typer.Option(help="Steps after which a pair that has not met is given up.")] = 200,
    answer: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="What an answer looks like in the text; its last match, or that of its first group, is followed too.",
        ),
    ] = None,
    chat: ChatFlag = None,
    template_arg: TemplateArgFlag = None,
    seed: SeedFlag = 0,
    out: OutFlag = None,
    quiet: QuietFlag = False,
    model: ModelFlag = None,
    **flags: Any,
) -> None:
    r"""Has a chain converged on this model and prompt? Coupled chains, R-hat of many short ones, autocorrelation.

    One stage of Metropolis-Hastings steps at the full length, from a completion at the proposal's temperature. Pairs of
    chains that share their random numbers give bounds on the distance to the target; several chains from each start
    give nested R-hat and effective sample sizes of log p, length and answer. Whether any step changed the text is said
    first.

    For example:

        powercut study mixing "What is 7 * 8 + 2?" --max-new-tokens 32 --answer "\d+"
    """
    for name, value, least in (
        ("--starts", starts, 2),
        ("--chains", chains, 2),
        ("--lag", lag, 1),
        ("--most", most, 1),
    ):
        check_number(name, value, least, 100_000, whole=True)
    check_number("--seed", seed, 0, LARGEST_SEED, whole=True)
    if most <= lag:
        raise SettingError(f"--most must be above --lag, {lag}: nothing could meet (got {most})")
    if sampler not in ("entropy-cut", "uniform-cut"):
        raise SettingError(f"--sampler must be entropy-cut or uniform-cut (got {quoted(sampler)})")
    engine_options, settings = split_flags(flags)
    for name in ("blocks", "refine_finished"):
        if name in settings:
            raise SettingError(f"--{name.replace('_', '-')} has no place here: the chains have one stage, leave it out")
    built = sampler_from_flags(sampler, settings | {"blocks": "1", "refine_finished": True})
    assert isinstance(built, EntropyCut | UniformCut)
    if built.tries > 1 or built.rule != "exact" or math.isinf(built.alpha) or built.require is not None:
        raise SettingError(
            "chains are coupled with one try, rule exact, a finite alpha and no require: leave these out"
        )
    extract = None if answer is None else extractor(answer)
    length = 40 if steps is None else steps
    check_number("--steps", length, 4, 100_000, whole=True)
    args = check_template_args(template_args(template_arg), chat)
    checked = check_prompt(prompt)
    with study_libraries():
        from powercut.study.mixing.measure import Plan, measure_starts
        from powercut.study.mixing.report import findings

    plan = Plan(starts, chains, length, lag, most, seed)

    def measure(missing: Sequence[str], keep: KeepRecord) -> None:
        import numpy as np

        console = Console(stderr=True, quiet=quiet, highlight=False)
        engine = load_engine(console, model, engine_options, starts * (1 + chains), built.top_k)

        async def all_of_it() -> None:
            tokens = np.array(await encode_prompt(engine.text, checked, chat=chat, template_args=args))
            await measure_starts(engine, built, tokens, plan, missing, keep, extract)

        asyncio.run(all_of_it())

    def found(records: Sequence[Record]) -> Findings:
        return findings(records, plan, f"{model or 'the bundled model'}, {sampler}, {prompt!r}")

    told: dict[str, Any] = {
        "prompt": prompt,
        "chat": chat,
        "template_args": args,
        "model": model,
        "sampler": sampler,
        "answer": answer,
    }
    run_study(
        "mixing", told | asdict(plan) | {"settings": asdict(built)}, plan.keys, measure, found, out=out, quiet=quiet
    )
