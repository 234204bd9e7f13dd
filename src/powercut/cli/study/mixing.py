"""``powercut study mixing``: has a chain converged on this model and prompt."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from powercut.cli.load_engine import load_engine
from powercut.cli.options import (
    DEFAULT_SAMPLER,
    ChatFlag,
    ModelFlag,
    TemplateArgFlag,
    flag,
    given,
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

_DEFAULTS = {"starts": 16, "chains": 4, "steps": 40, "lag": 20, "most": 200}
_LEAST = {"starts": 2, "chains": 2, "steps": 4, "lag": 1, "most": 1}

_LATER = "arviz_stats.base"
"""What effective_draws imports, which comes when all is measured."""


@with_engine_and_setting_flags
def mixing(
    prompt: Annotated[
        str,
        typer.Argument(
            metavar="PROMPT|RUN_DIR|CHAIN",
            help="What the chains complete; or a folder of powercut eval, or a file of --save-trace, whose chains are "
            "looked at as they are.",
            show_default=False,
        ),
    ],
    sampler: Annotated[
        str | None, typer.Option(help=f"entropy-cut or uniform-cut. Default: {DEFAULT_SAMPLER}.")
    ] = None,
    starts: Annotated[
        int | None, typer.Option(help="Independent starts, each with a coupled pair. Default: 16.")
    ] = None,
    chains: Annotated[int | None, typer.Option(help="Chains from each start, for R-hat. Default: 4.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of each of these. Default: 40.")] = None,
    lag: Annotated[int | None, typer.Option(help="Steps by which one of a pair is ahead. Default: 20.")] = None,
    most: Annotated[
        int | None, typer.Option(help="Steps after which a pair that has not met is given up. Default: 200.")
    ] = None,
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
    first. Of the chains of a run, or of a file that --save-trace wrote, it is said too, and what their last stages are
    worth.

    For example:

        powercut study mixing "What is 7 * 8 + 2?" --max-new-tokens 32 --answer "\d+"

        powercut study mixing runs/first
    """
    check_number("--seed", seed, 0, LARGEST_SEED, whole=True)
    counts = {"starts": starts, "chains": chains, "steps": steps, "lag": lag, "most": most}
    if _is_path(prompt):
        others = given(
            **counts, **flags, sampler=sampler, answer=answer, chat=chat, model=model, template_arg=template_arg
        )
        if others:
            raise SettingError(f"{flag(next(iter(others)))} has no place beside a run, whose chains are as they are")
        recorded(Path(prompt), seed, out, quiet)
        return
    plan_of = {name: _DEFAULTS[name] if value is None else value for name, value in counts.items()}
    for name, value in plan_of.items():
        check_number(flag(name), value, _LEAST[name], 100_000, whole=True)
    if plan_of["most"] <= plan_of["lag"]:
        raise SettingError(f"--most must be above --lag, {plan_of['lag']}: nothing could meet (got {plan_of['most']})")
    sampler = sampler or DEFAULT_SAMPLER
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
    args = check_template_args(template_args(template_arg), chat)
    checked = check_prompt(prompt)
    with study_libraries(_LATER):
        from powercut.study.mixing.measure import Plan, measure_starts
        from powercut.study.mixing.report import findings

    plan = Plan(**plan_of, seed=seed)

    def measure(missing: Sequence[str], keep: KeepRecord) -> None:
        import numpy as np

        console = Console(stderr=True, quiet=quiet, highlight=False)
        engine = load_engine(console, model, engine_options, plan.starts * (1 + plan.chains), built.top_k)

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


def recorded(path: Path, seed: int, out: Path | None, quiet: bool) -> None:
    """The study of the chains of a run."""
    with study_libraries(_LATER):
        from powercut.study.mixing.recorded import digest, measure_recorded, read_recorded
        from powercut.study.mixing.recorded_report import findings

    found = {f"{label} {digest(chains)}": (label, chains) for label, chains in read_recorded(path).items()}

    def measure(missing: Sequence[str], keep: KeepRecord) -> None:
        for key in missing:
            keep(key, measure_recorded(*found[key]))

    settings = {"run": str(path), "seed": seed}
    run_study("mixing", settings, list(found), measure, lambda r: findings(r, str(path)), out=out, quiet=quiet)


def _is_path(prompt: str) -> bool:
    """Whether a run is meant. Raises SettingError for what can only be the name of one, and is not there."""
    try:
        there = Path(prompt).exists()
    except (OSError, ValueError):  # a prompt that no file can be called
        return False
    if not there and re.fullmatch(r"\S*/\S*", prompt):
        raise SettingError(f"there is no folder {prompt}: give the one that powercut eval wrote, or a prompt of words")
    return there
