"""``powercut study lengths``: what shaping the target does to length and answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from powercut.cli.load_engine import load_engine
from powercut.cli.options import (
    DEFAULT_SAMPLER,
    ChatFlag,
    ModelFlag,
    StyleFlag,
    TemplateArgFlag,
    sampler_from_flags,
    split_flags,
    template_args,
    with_engine_and_setting_flags,
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
from powercut.errors import SettingError, quoted
from powercut.evals.problem import Grade
from powercut.prompt import check_template_args
from powercut.samplers import EntropyCut, UniformCut
from powercut.samplers.settings import LARGEST_SEED, check_number

if TYPE_CHECKING:
    from powercut.study.findings import Findings, Record
    from powercut.study.lengths.measure import Shape

_BONUSES = (0.5, 1.0)
_SHAPES = "Settings that shape the target; each may be given several times, and each value is looked at by itself"


@with_engine_and_setting_flags
def lengths(
    prompt: PromptArgument = None,
    sampler: Annotated[str, typer.Option(help="entropy-cut or uniform-cut.")] = DEFAULT_SAMPLER,
    completions: Annotated[int, typer.Option("-n", help="Completions of each prompt under each target.")] = 4,
    min_new_tokens: Annotated[
        list[int] | None,
        typer.Option(
            help="No stop before so many tokens. Default: a quarter of --max-new-tokens.", rich_help_panel=_SHAPES
        ),
    ] = None,
    length_bonus: Annotated[
        list[float] | None,
        typer.Option(help="Nats that the target adds for each token. Default: 0.5 and 1.", rich_help_panel=_SHAPES),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGEX", help="What a finished text must have in it. Default: an answer.", rich_help_panel=_SHAPES
        ),
    ] = None,
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
    """What a least length, a bonus for each token and a requirement do to length and answer.

    Exactly, on a tree that may answer at once or work the answer out; and with prompts or a task on a model too, each
    setting beside the plain target with the same random numbers.

    For example:

        powercut study lengths

        powercut study lengths --task arithmetic --limit 20 --max-new-tokens 64 --blocks 4 --steps 5
    """
    check_number("--seed", seed, 0, LARGEST_SEED, whole=True)
    check_number("-n", completions, 1, 100_000, whole=True)
    engine_options, settings = split_flags(flags)
    if sampler not in ("entropy-cut", "uniform-cut"):
        raise SettingError(f"--sampler must be entropy-cut or uniform-cut (got {quoted(sampler)})")
    built = sampler_from_flags(sampler, settings)
    assert isinstance(built, EntropyCut | UniformCut)
    if built.rule != "exact" or math.isinf(built.alpha):
        raise SettingError("a shaped target needs rule exact and a finite alpha: leave these out")
    args = check_template_args(template_args(template_arg), chat)
    asked = None
    if not (prompt is None and file is None and task is None):
        asked = read_questions(prompt, file, task, data, limit, style, answer, chat, args)
    with study_libraries():
        from powercut.study.lengths.measure import measure_shapes
        from powercut.study.lengths.report import findings
        from powercut.study.lengths.tree import SHAPED

    shapes = _shapes(min_new_tokens, length_bonus, require, built.max_new_tokens)
    for each in shapes:
        each.applied(built, 0, lambda *_: Grade(False))  # refuses what cannot be, before anything is loaded
    exact = {f"tree, {name}": shaped for name, shaped in SHAPED.items()}
    drawn = {}
    if asked is not None:
        drawn = {
            f"{shape.name}, prompt {i}": (which, i) for which, shape in enumerate(shapes) for i in range(len(asked))
        }
    console = Console(stderr=True, quiet=quiet, highlight=False)
    if drawn:
        chain = built.max_new_tokens + built.steps * built.tries * sum(built.horizons)
        announce(console, len(drawn) * completions * chain)

    def measure(missing: Sequence[str], keep: KeepRecord) -> None:
        for key in (key for key in missing if key in exact):
            keep(key, {"of": "tree", "shape": exact[key].name} | exact[key].measure(built.alpha))
        todo = {drawn[key]: key for key in missing if key in drawn}
        if asked is None or not todo:
            return
        engine = load_engine(console, model, engine_options, len(todo) * completions, built.top_k)

        async def all_of_it() -> None:
            assert asked is not None
            own = replace(built, stop=(*built.stop, *asked.stops(engine)))
            prompts = await asked.encode(engine)

            def done(which: int, number: int, record: Record) -> None:
                keep(todo[which, number], {"of": "model", **record})

            await measure_shapes(engine, own, shapes, prompts, completions, seed, asked.grade, list(todo), done)

        asyncio.run(all_of_it())

    def found(records: Sequence[Record]) -> Findings:
        what = None if asked is None else f"{asked.what(model)}, {sampler}"
        return findings(records, what, graded=asked is not None and asked.graded, seed=seed)

    own: dict[str, Any] = {"alpha": built.alpha, "seed": seed}
    if asked is not None:
        own |= told(asked, answer) | {"model": model, "sampler": sampler, "completions": completions}
        own |= {"settings": asdict(built), "shapes": [asdict(shape) for shape in shapes]}
    run_study("lengths", own, [*exact, *drawn], measure, found, out=out, quiet=quiet)


def _shapes(
    least: list[int] | None, bonuses: list[float] | None, require: list[str] | None, longest: int
) -> list[Shape]:
    """The plain target and the shaped ones: those that were given, or one of each kind."""
    from powercut.study.lengths.measure import Shape
    from powercut.study.lengths.report import PLAIN

    given = bool(least or bonuses or require)
    shapes = [Shape(PLAIN)]
    shapes += [
        Shape(f"min_new_tokens {m}", min_new_tokens=m) for m in least or ([] if given else [max(1, longest // 4)])
    ]
    shapes += [Shape(f"length_bonus {b:g}", length_bonus=b) for b in bonuses or ([] if given else _BONUSES)]
    shapes += [Shape(f"require {pattern}", require=pattern) for pattern in require or ()]
    return shapes if given else [*shapes, Shape("require an answer", answered=True)]
