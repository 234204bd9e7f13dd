"""``powercut study tree``: the theory, exact, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from powercut.cli.study.frame import KeepRecord, OutFlag, QuietFlag, run_study, study_libraries
from powercut.samplers.settings import LARGEST_SEED, check_number

_GRID = "A grid of one's own"


def tree(
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="independent, timid-root, root-pivot, all-pivot, two-modes or late-evidence; may be given several "
            "times, like the others here. Default: root-pivot.",
            rich_help_panel=_GRID,
        ),
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(
            help="Where decisions stand: opening, closing, early, late, or the first one's position. Default: opening.",
            rich_help_panel=_GRID,
        ),
    ] = None,
    decisions: Annotated[
        list[int] | None, typer.Option(help="k, decisions of two branches. Default: 4.", rich_help_panel=_GRID)
    ] = None,
    tokens: Annotated[
        list[int] | None, typer.Option(help="T, tokens of a completion. Default: 256.", rich_help_panel=_GRID)
    ] = None,
    details: Annotated[
        list[float] | None,
        typer.Option(help="Entropy of every fourth token, in nats. Default: 0.", rich_help_panel=_GRID),
    ] = None,
    blocks: Annotated[
        list[int] | None,
        typer.Option(help="Also what so many stages of --steps steps return.", rich_help_panel=_GRID),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of a stage.", rich_help_panel=_GRID)] = 10,
    law: Annotated[
        list[str] | None,
        typer.Option(
            help="A cut law: uniform, a β such as 4, or 4+0.1 with uniform cuts mixed in; may be given several times. "
            "Default: 4, 1 and uniform."
        ),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Power of the target.")] = 4.0,
    seed: Annotated[int, typer.Option(help="As every study has it; nothing is drawn here.")] = 0,
    out: OutFlag = None,
    quiet: QuietFlag = False,
) -> None:
    """The paper's theory, exact, without a model: steps until the chain mixes, and when that grows with what.

    Without options the report has the claim and every way in which it fails. With any of a grid's options it has each
    combination of theirs. Every figure comes from the whole transition matrix; none is estimated.

    For example:

        powercut study tree

        powercut study tree --target root-pivot --decisions 2 --decisions 8 --tokens 512
    """
    check_number("--alpha", alpha, 1, 100)
    check_number("--steps", steps, 0, 10_000, whole=True)
    check_number("--seed", seed, 0, LARGEST_SEED, whole=True)
    for stages in blocks or ():
        check_number("--blocks", stages, 1, 1000, whole=True)
    with study_libraries():
        from powercut.study.tree.cases import LAWS, default_cases, grid_cases, parse_law
        from powercut.study.tree.report import findings

    laws = law or list(LAWS)
    for each in laws:
        parse_law(each)
    grid = [target, layout, decisions, tokens, details, blocks]
    cases = list(default_cases(laws, alpha))
    if any(grid):
        cases = list(
            grid_cases(
                target or ["root-pivot"],
                layout or ["opening"],
                decisions or [4],
                tokens or [256],
                details or [0.0],
                laws,
                alpha,
                blocks or [0],
                steps,
            )
        )
    by_key = {case.key: case for case in cases}

    def measure(missing: Sequence[str], keep: KeepRecord) -> None:
        for key in missing:
            keep(key, by_key[key].measure())

    settings = {"laws": laws, "alpha": alpha, "seed": seed}
    if any(grid):
        names = ("target", "layout", "decisions", "tokens", "details", "blocks")
        settings |= dict(zip(names, grid, strict=True)) | {"steps": steps}
    run_study("tree", settings, list(by_key), measure, findings, out=out, quiet=quiet)
