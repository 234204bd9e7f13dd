"""``powercut study anchors``: the paper's ordering, end to end, on a model known exactly."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from powercut.cli.load_engine import load_engine
from powercut.cli.study.frame import KeepRecord, OutFlag, QuietFlag, SeedFlag, run_study, study_libraries
from powercut.samplers.settings import LARGEST_SEED, check_number

if TYPE_CHECKING:
    from powercut.study.anchors.measure import Portion
    from powercut.study.findings import Findings, Record

_SIZE, _MODEL_SIZE = 25, 100
"""Problems of a record, with the law and with a model."""


def anchors(
    problems: Annotated[int, typer.Option(help="Problems, drawn at random.")] = 100,
    steps: Annotated[int, typer.Option(help="Metropolis-Hastings steps of a chain, in all.")] = 40,
    alpha: Annotated[float, typer.Option(help="Power of the target.")] = 4.0,
    model: Annotated[
        str | None,
        typer.Option(
            help="A language model of the task in place of the law itself: anchor-lm, which comes with powercut, or a "
            "folder of another."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes at once. Default: one for each core.")] = None,
    seed: SeedFlag = 0,
    out: OutFlag = None,
    quiet: QuietFlag = False,
) -> None:
    """A language model small enough to know exactly: which sampler is right how often, after how many tokens.

    Every sampler meets problems whose decision is where to start. Accuracy against steps and against decoded tokens,
    with intervals and tests on the same problems, beside the accuracy of the power distribution itself; and a control
    whose decision comes late. The model is the law itself, and nothing is loaded, unless --model names one that was
    taught it.

    For example:

        powercut study anchors

        powercut study anchors --model anchor-lm --out studies/anchor-lm
    """
    check_number("--problems", problems, 2, 100_000, whole=True)
    check_number("--steps", steps, 1, 10_000, whole=True)
    check_number("--alpha", alpha, 1, 100)
    check_number("--seed", seed, 0, LARGEST_SEED, whole=True)
    if jobs is not None:
        check_number("--jobs", jobs, 1, 1000, whole=True)
    with study_libraries():
        from powercut.study.anchors.measure import exact_accuracy, portions
        from powercut.study.anchors.report import findings

    size, control = (_SIZE, True) if model is None else (_MODEL_SIZE, False)
    work = portions(problems, steps, alpha, seed, size, control=control)

    def measure(missing: Sequence[str], keep: KeepRecord) -> None:
        wanted = set(missing)
        todo = [portion for portion in work if wanted & set(portion.keys)]
        done = _in_processes(todo, jobs or os.cpu_count() or 1) if model is None else _on_model(todo, model)
        for key, record in done:
            if key in wanted:
                keep(key, record)

    def found(records: Sequence[Record]) -> Findings:
        what = "the law itself is the model" if model is None else f"the model is {model}"
        return findings(records, exact_accuracy(problems, alpha, seed), what)

    keys = [key for portion in work for key in portion.keys]
    settings = {"problems": problems, "steps": steps, "alpha": alpha, "model": model, "seed": seed}
    run_study("anchors", settings, keys, measure, found, out=out, quiet=quiet)


def _in_processes(work: Sequence[Portion], jobs: int) -> Iterator[tuple[str, Record]]:
    """The records of all portions with their keys, as they are measured."""
    from powercut.study.anchors.measure import measure_exactly

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(work)), context, initializer=_begin_worker) as pool:
        try:
            for done in as_completed([pool.submit(measure_exactly, portion) for portion in work]):
                yield from done.result().items()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _on_model(work: Sequence[Portion], model: str) -> Iterator[tuple[str, Record]]:
    """The same with a language model, in this process."""
    from powercut.study.anchors.measure import SHIPPED
    from powercut.study.anchors.task import check_model

    folder = str(SHIPPED) if model == SHIPPED.name else model
    engine = load_engine(Console(stderr=True, highlight=False), folder, {"slots": 32, "context_length": 128}, 32)
    check_model(engine)
    for portion in work:
        yield from portion.measure(engine).items()


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end when that does, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
