"""``powercut verify``: checks that the law is right on a model and engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console

from powercut.cli.load_engine import load_engine
from powercut.cli.options import (
    ModelFlag,
    TemplateArgFlag,
    split_flags,
    template_args,
    with_engine_flags,
)
from powercut.cli.output import to_stdout
from powercut.engines.protocol import Engine
from powercut.prompt import check_prompt, check_template_args
from powercut.samplers.settings import LARGEST_SEED, check_number
from powercut.text import Text, encode_prompt

PROMPT = "There are many things that I like. The first of them is"


@with_engine_flags
def verify(
    prompt: Annotated[str, typer.Argument(help="What the checks complete.")] = PROMPT,
    draws: Annotated[int, typer.Option(help="Draws of the checks that compare laws.")] = 400,
    top_k: Annotated[
        int, typer.Option(help="Truncate the base model to its K most likely tokens; no more than a server gives.")
    ] = 50,
    seed: Annotated[int, typer.Option(help="The same seed makes the same checks.")] = 0,
    tolerance: Annotated[
        float, typer.Option(help="Nats by which rounding may move a log-probability; more for 16-bit weights.")
    ] = 0.02,
    chat: Annotated[
        bool, typer.Option("--chat/--raw", help="Put the prompt into the model's chat template, or take it as it is.")
    ] = False,
    template_arg: TemplateArgFlag = None,
    model: ModelFlag = None,
    **flags: Any,
) -> None:
    """Check that the law is right on a model and engine: one line a check, exit 1 if one fails.

    Log-probabilities must be raw and finite, and the same alone, in unequal company and with a reused prefix; tokens
    must have the law that comes with them; an abort must free the engine; and short completions by Entropy-Cut must
    have the law of rejection sampling, which is exact. Checks that draw at random say how often a right engine would
    fail them.

    For example:

        powercut verify --model http://localhost:8000/v1
    """
    check_number("--draws", draws, 100, 100_000, whole=True)
    check_number("--top-k", top_k, 3, whole=True)
    check_number("--seed", seed, 0, LARGEST_SEED, whole=True)
    check_number("--tolerance", tolerance, 0, 10)
    console = Console(stderr=True, highlight=False)
    encode = partial(
        encode_prompt,
        prompt=check_prompt(prompt),
        chat=chat,
        template_args=check_template_args(template_args(template_arg), chat),
    )
    engine = load_engine(console, model, split_flags(flags)[0], draws, top_k)
    failed = asyncio.run(_run(engine, encode, top_k, draws, seed, tolerance))
    if failed:
        raise typer.Exit(1)


async def _run(
    engine: Engine,
    encode: Callable[[Text | None], Awaitable[list[int]]],
    top_k: int,
    draws: int,
    seed: int,
    tolerance: float,
) -> int:
    """Print each check as it is done; returns how many failed."""
    import numpy as np

    from powercut.verify import verify as checks

    tokens = np.array(await encode(engine.text))
    failed = 0
    async for check in checks(engine, tokens, top_k=top_k, draws=draws, seed=seed, tolerance=tolerance):
        failed += not check.passed
        to_stdout(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.detail}\n")
    return failed
