"""Runs cells: each is an Inspect task over the completions that it lacks, drawn by powercut's provider."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any, NoReturn, TypeVar

import inspect_ai
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import display_type

import powercut.integrations.inspect  # noqa: F401  # registers it with Inspect
from powercut.engines.protocol import Engine
from powercut.errors import PowercutError, one_line
from powercut.evals.problem import Problem
from powercut.evals.runs.folder import Key, RunFolder
from powercut.evals.runs.plan import Cell, sampler_seed
from powercut.evals.runs.step_file import StepFile
from powercut.evals.sandbox.docker_sandbox import DOCKER, run_in_docker
from powercut.evals.styles import STYLES, make_prompt
from powercut.records import Result, as_result
from powercut.strict_json import strict

T = TypeVar("T")
Watch = Callable[[Cell, Result | None], None]
"""Called with a cell when one of its completions begins (None), and with the result when it ends."""

_TASKS_AT_ONCE = 2
"""While the last completions of a cell end, the first of the next begin: the engine stays full."""

_LOGGED_AT_ONCE = 200
"""Samples that Inspect adds to its log at a time: each time costs. The results are in the folder before that."""


class Harness:
    """Runs the cells of one model into a run folder. ``files`` are the cells' folders, which know what is done.

    ``concurrency`` bounds the completions of a cell that are sampled at once (None: as many as keep the engine full).
    ``regrade`` grades once more what is graded already; ``save_trace`` keeps the steps of what is drawn.
    """

    def __init__(
        self,
        engine: Engine,
        folder: RunFolder,
        cells: Sequence[Cell],
        watch: Watch,
        concurrency: int | None = None,
        *,
        regrade: bool = False,
        save_trace: bool = False,
    ) -> None:
        self.files = {
            cell: folder.cell(cell.facts, cell.name, frozenset(cell.completions()), regrade=regrade) for cell in cells
        }
        self._engine, self._folder, self._watch = engine, folder, watch
        self._concurrency, self._save_trace = concurrency, save_trace
        self._recording: dict[tuple[Cell, int], StepFile] = {}
        self._sampling: set[asyncio.Future[Any]] = set()
        self._failure: PowercutError | None = None

    def missing(self, cell: Cell) -> list[Key]:
        """The completions of a cell that are to be drawn, or drawn again after an error."""
        done = self.files[cell].done
        return [key for key in cell.completions() if key not in done or done[key].error is not None]

    def results(self) -> dict[Cell, list[Result]]:
        """What is in the folder of the completions of each cell, without their texts."""
        return {
            cell: [file.done[key] for key in cell.completions() if key in file.done]
            for cell, file in self.files.items()
        }

    def run(self) -> None:
        """Draw and grade what is missing; one completion that fails stops no other.

        Raises PowercutError when results cannot be written, KeyboardInterrupt when the user ends it: what is finished
        is in the folder by then.
        """
        try:
            asyncio.run(self._run())
        finally:
            for file in self.files.values():
                file.close()

    async def _run(self) -> None:
        try:
            for matched in (False, True):  # what best-of-n may spend is known when the cells it is matched to are done
                cells = [cell for cell in self.files if (cell.matched is not None) == matched]
                if tasks := [self._task(cell, keys) for cell in cells if (keys := self._possible(cell))]:
                    await self._eval(tasks)
        finally:
            for file in self.files.values():
                await file.settle()

    async def _eval(self, tasks: list[inspect_ai.Task]) -> None:
        connections = max(task.model.config.max_connections or 1 for task in tasks if task.model is not None)
        os.environ["INSPECT_DISPLAY"] = "none"
        display_type()  # reads it: eval_async takes no display
        running = asyncio.ensure_future(
            inspect_ai.eval_async(
                tasks,
                log_dir=str(self._folder.logs),
                log_level="error",
                log_model_api=False,
                log_realtime=False,
                score_display=False,
                ctl_server=False,
                acp_server=False,
                log_buffer=_LOGGED_AT_ONCE,
                fail_on_error=False,
                max_tasks=_TASKS_AT_ONCE,
                max_samples=2 * connections,  # while some are graded others are sampled
                max_sandboxes=2 * connections,
            )
        )
        root = logging.getLogger()
        level = root.level
        try:
            logs = await running
        finally:
            root.setLevel(level)  # Inspect sets its own, and would mute this process's warnings from here on
        if self._failure is not None:
            raise self._failure
        # Inspect returns as ever when it is cancelled. It runs in a task of its own, so that this one knows of its own
        # cancellation by Ctrl-C, and starts nothing further.
        if (own := asyncio.current_task()) is not None and own.cancelling():
            raise asyncio.CancelledError
        for log in logs:
            if log.error is not None:
                raise PowercutError(f"{log.eval.task}: {' '.join(log.error.message.split())}")

    def _possible(self, cell: Cell) -> list[Key]:
        """What is missing, less what waits for the cost of a completion that failed in its turn."""
        missing = self.missing(cell)
        if cell.matched is None:
            return missing
        costs = self.files[cell.matched].done
        return [key for key in missing if key in costs and costs[key].error is None]

    def _task(self, cell: Cell, keys: Sequence[Key]) -> inspect_ai.Task:
        samples = [
            Sample(
                input=_input(cell, problem := cell.problem(key)),
                target=problem.answer,
                id="{} #{}".format(*key),
                metadata=dict(zip(("problem", "seed"), key, strict=True)),
            )
            for key in keys
        ]
        return inspect_ai.Task(
            dataset=MemoryDataset(samples, name=cell.bench.name),
            solver=_solver(self, cell),
            scorer=_scorer(self, cell),
            model=self._model(cell),
            name=cell.name,
            sandbox=DOCKER if cell.bench.task.runs_code and cell.bench.execute is None else None,
            metadata=strict(cell.facts),
        )

    def _model(self, cell: Cell) -> Model:
        settings = asdict(cell.settings)
        model = get_model(
            f"powercut/{cell.model}",
            memoize=False,
            config=GenerateConfig(max_connections=self._concurrency),
            engine=self._engine,
            sampler=cell.sampler,
            chat=cell.bench.task.kind in STYLES[cell.style].chat,
            template_args=cell.template_args,
            record=partial(self._record, cell) if self._save_trace else None,
            **settings,
        )
        model.model_args = {"sampler": cell.sampler, **cell.facts.settings}  # for the log: not the engine
        return model

    async def sample(self, cell: Cell, state: TaskState, generate: Generate) -> TaskState:
        """Draw the completion of one sample, unless it was drawn before and is only to be graded."""
        self._check()
        key = _key(state)
        file = self.files[cell]
        self._watch(cell, None)
        if key in file.sampled:
            state.output = ModelOutput.from_content(cell.model, file.sampled[key].text or "")
            return state
        seed = sampler_seed(cell.bench.name, *key)
        asked: dict[str, Any] = {"seed": seed}
        if cell.matched is not None:
            asked["extra_body"] = {"budget": self.files[cell.matched].done[key].tokens_decoded}
        try:
            with self._recorded(cell, key, seed) as steps:
                state = await self._cancellable(generate(state, **asked))
        except Exception as error:
            self._check()
            await self._keep(cell, file.add_result, _failed(Result(**_place(cell, key)), error))
            raise
        facts = state.output.metadata or {}
        own = {**_place(cell, key), "sampler_seed": facts["seed"], "text": state.output.completion}
        await self._keep(cell, partial(file.add_completion, steps=steps), as_result({**facts, **own}))
        return state

    async def grade(self, cell: Cell, state: TaskState) -> Score:
        """Grade a completion and write the result."""
        file, key = self.files[cell], _key(state)
        sampled = file.sampled[key]
        try:
            problem = cell.problem(key)
            verdict = await cell.bench.task.score(problem, sampled.text or "", cell.bench.execute or run_in_docker)
        except Exception as error:
            await self._keep(cell, file.add_result, _failed(sampled, error))
            raise
        graded = replace(sampled, correct=verdict.correct, answer=verdict.answer, reason=verdict.reason)
        await self._keep(cell, file.add_result, graded)
        return Score(value=CORRECT if verdict.correct else INCORRECT, answer=verdict.answer, explanation=verdict.reason)

    async def _keep(self, cell: Cell, write: Callable[[Result], Coroutine[Any, Any, None]], result: Result) -> None:
        """Write a result. What cannot be kept is not worth sampling: a failure to write ends the run."""
        try:
            await write(result)
        except PowercutError as error:
            self._fail(error)
        if result.correct is not None:
            self._watch(cell, result)

    @contextmanager
    def _recorded(self, cell: Cell, key: Key, seed: int) -> Iterator[StepFile | None]:
        """The file to which the steps of what is drawn inside go; it is dropped if that fails."""
        if not self._save_trace:
            yield None
            return
        steps = self._recording[cell, seed] = self.files[cell].steps(key)
        try:
            yield steps
        except BaseException:
            steps.drop()
            raise
        finally:
            del self._recording[cell, seed]

    def _record(self, cell: Cell, seed: int, line: dict[str, Any]) -> None:
        try:
            self._recording[cell, seed].add(line)
        except PowercutError as error:
            self._fail(error)

    def _fail(self, error: PowercutError) -> NoReturn:
        """End the run, because of what could not be written."""
        self._failure = self._failure or error
        for work in self._sampling:
            work.cancel()
        raise error

    async def _cancellable(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        self._sampling.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            self._check()
            raise
        finally:
            self._sampling.discard(task)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


@solver
def _solver(harness: Harness, cell: Cell) -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return await harness.sample(cell, state, generate)

    return solve


@scorer(metrics=[accuracy(), stderr(cluster="problem")])
def _scorer(harness: Harness, cell: Cell) -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        return await harness.grade(cell, state)

    return score


def _input(cell: Cell, problem: Problem) -> str | list[ChatMessage]:
    prompt = make_prompt(STYLES[cell.style], cell.bench.task.kind, problem)
    if isinstance(prompt, str):
        return prompt
    roles = {"system": ChatMessageSystem, "user": ChatMessageUser}
    return [roles[message["role"]](content=message["content"]) for message in prompt]


def _key(state: TaskState) -> Key:
    return state.metadata["problem"], state.metadata["seed"]


def _place(cell: Cell, key: Key) -> dict[str, Any]:
    names = {"task": cell.bench.name, "model": cell.model, "sampler": cell.sampler, "cell": cell.name}
    return {**names, "id": key[0], "seed": key[1]}


def _failed(result: Result, error: Exception) -> Result:
    reason = one_line(error if isinstance(error, PowercutError) else f"{type(error).__name__}: {error}", 1000)
    return replace(result, correct=False, error=reason)
