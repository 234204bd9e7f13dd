"""Chains that were recorded while something else was done: in a run folder of eval, or by sample --save-trace."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from powercut.chains import read_chains
from powercut.diagnostics import autocorrelation, effective_draws, nested_rhat
from powercut.errors import SettingError
from powercut.records import BadLine, CellFacts, read_cell, read_results, read_run
from powercut.report.labels import show_value
from powercut.stage_log import LastStage, StageLog
from powercut.study.findings import Record
from powercut.trace import FloatArray
from powercut.view.payload import sampler_of

LEAST = 4
"""Steps of a last stage, at least, from which figures of chains are computed."""


@dataclass(frozen=True)
class RecordedChain:
    """A completion whose sampler takes steps: what it answers (``group``), its Stats, and its ``last`` stage, if kept.

    ``acceptance`` and ``changed`` are shares of all its steps, ``nulls`` is that of null steps.
    """

    group: str
    steps: int
    acceptance: float
    changed: float
    nulls: float
    tokens_decoded: float
    last: LastStage | None


def read_recorded(path: Path) -> dict[str, list[RecordedChain]]:
    """The chains of a run folder by cell, or those of a file of --save-trace. Raises SettingError if there are none."""
    return _of_run(path) if path.is_dir() else _of_file(path)


def _of_file(file: Path) -> dict[str, list[RecordedChain]]:
    """By their samplers and models; those that have not ended are left out. Moves of particles are no chain."""
    found: dict[str, list[RecordedChain]] = {}
    for _, chain in sorted(read_chains(file).by_place.items()):
        if (completed := chain.completed) is None or not (stats := completed.stats).steps:
            continue
        if not _has_stages(completed.settings):
            continue
        log = StageLog(sampler_of(chain))
        for _, proposal, after in chain.walk():
            log.add(proposal.stage, proposal.step, after)
        found.setdefault(f"{completed.model}, {completed.sampler}", []).append(
            RecordedChain(
                f"prompt {chain.prompt_index}",
                stats.steps,
                stats.acceptance or 0.0,
                stats.changed or 0.0,
                (stats.null_steps or 0) / stats.steps,
                stats.tokens_decoded,
                log.last(),
            )
        )
    if not found:
        raise SettingError(f"{file} has no chain of Metropolis-Hastings steps that came to its end")
    return found


def _of_run(path: Path) -> dict[str, list[RecordedChain]]:
    if read_run(path) is None:
        raise SettingError(f"{path} is not a run: it has no run.json; give the folder that powercut eval wrote")
    found: dict[str, list[RecordedChain]] = {}
    files = sorted((path / "cells").glob("*/cell.json"))
    cells = [(read_cell(file), file) for file in files]
    cells = [(facts, file) for facts, file in cells if _has_stages(facts.settings)]
    for facts, file in cells:
        results = [r for r, _ in read_results(file.with_name("results.jsonl"), _refuse) if r.error is None and r.steps]
        if results:
            found[_label(facts, [other for other, _ in cells])] = [
                RecordedChain(
                    str(r.id),
                    int(r.steps or 0),
                    r.acceptance or 0.0,
                    r.changed or 0.0,
                    (r.null_steps or 0) / (r.steps or 1),
                    r.tokens_decoded or 0.0,
                    r.chain,
                )
                for r in results
            ]
    if not found:
        raise SettingError(f"{path} has no chains: run powercut eval with --sampler entropy-cut or uniform-cut")
    return found


def _has_stages(settings: Mapping[str, Any]) -> bool:
    """Whether they are those of a sampler whose stages have steps."""
    return "steps" in settings and "blocks" in settings


def digest(chains: Sequence[RecordedChain]) -> str:
    """What tells these chains from others: a run that has grown is measured again."""
    return hashlib.sha256(repr(chains).encode()).hexdigest()[:12]


def measure_recorded(label: str, chains: Sequence[RecordedChain]) -> Record:
    """Figures of the chains of one cell: whether they moved, and, of each group, what their last stages are worth."""
    groups: dict[str, list[LastStage]] = {}
    for chain in chains:
        if chain.last is not None:
            groups.setdefault(chain.group, []).append(chain.last)
    kept = {group: own for group, several in groups.items() if (own := _of_one_length(several))}
    stages = [stage for several in kept.values() for stage in several]
    return {
        "cell": label,
        "chains": len(chains),
        "groups": len({chain.group for chain in chains}),
        "unmoved": float(np.mean([chain.changed == 0 for chain in chains])),
        "changed": float(np.mean([chain.changed for chain in chains])),
        "nulls": float(np.mean([chain.nulls for chain in chains])),
        "acceptance": float(np.mean([chain.acceptance for chain in chains])),
        "steps": float(np.mean([chain.steps for chain in chains])),
        "tokens_decoded": float(np.mean([chain.tokens_decoded for chain in chains])),
        "worth": [{"group": group, **_worth(several)} for group, several in kept.items()],
        "autocorrelation": _mean_autocorrelation(stages).tolist(),
        "decoded_a_step": float(np.mean([np.mean(stage.decoded) for stage in stages])) if stages else None,
    }


def _label(facts: CellFacts, others: Sequence[CellFacts]) -> str:
    """Task, model and sampler, and those settings in which cells of the same differ."""
    same = [other for other in others if _base(other) == _base(facts)]
    differ = [name for name in facts.settings if len({repr(other.settings.get(name)) for other in same}) > 1]
    return ", ".join([*_base(facts), *(f"{name} {show_value(facts.settings[name])}" for name in differ)])


def _base(facts: CellFacts) -> tuple[str, str, str]:
    return facts.task, facts.model, facts.sampler


def _of_one_length(several: Sequence[LastStage]) -> list[LastStage]:
    """Those with as many steps as most have; none if that is too few."""
    steps = Counter(len(stage.accepted) for stage in several).most_common(1)[0][0]
    return [stage for stage in several if len(stage.accepted) == steps >= LEAST]


def _worth(stages: Sequence[LastStage]) -> dict[str, Any]:
    """Nested R-hat, where there are several chains, and effective draws, of log p and length after the start."""
    found: dict[str, Any] = {
        "chains": len(stages),
        "steps": len(stages[0].accepted),
        "changed": float(np.mean([stage.changed for stage in stages])),
    }
    for name in ("logp", "length"):
        after = np.array([getattr(stage, name)[1:] for stage in stages], dtype=np.float64)
        half = after[:, None, after.shape[1] // 2 :]
        found[f"rhat_{name}"] = nested_rhat(half) if len(stages) > 1 else None
        found[f"draws_{name}"] = effective_draws(after)
    return found


def _mean_autocorrelation(stages: Sequence[LastStage]) -> FloatArray:
    """Of log p along the last stages, over the steps that all have."""
    if not stages:
        return np.zeros(0)
    several = [autocorrelation(stage.logp) for stage in stages]
    mean: FloatArray = np.mean([each[: min(map(len, several))] for each in several], axis=0)
    return mean


def _refuse(bad: BadLine) -> None:
    if not bad.torn:  # else the run goes on
        raise SettingError(f"{bad.place} is no result: {bad.reason}")
