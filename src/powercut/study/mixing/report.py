"""The report of ``study mixing``: what moved, how far the law is from the target, and what the chains are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from powercut.diagnostics import MeetingBound, autocorrelation, effective_draws, meeting_bound, nested_rhat
from powercut.report.curves import Curve, curves
from powercut.report.page import Part, Plots, Section
from powercut.report.tables import NOTHING, TextRow, TextTable, number, percent
from powercut.study.findings import Findings, Record
from powercut.study.mixing.measure import Plan
from powercut.trace import FloatArray

SAYS = (
    "Two chains that use the same random numbers meet, and from the steps until they do follows a bound on the "
    "distance in total variation between the chain's law after so many steps and its target. It holds for this prompt, "
    "these settings and starts at the proposal's temperature; a pair that did not meet in time leaves the bound at 1, "
    "which says nothing. The bound is only as good as the coupling: chains may be close long before pairs meet. Nested "
    "R-hat compares chains from several starts; near 1 it finds no memory of the start in what was looked at, which is "
    "no proof that all was visited. Where no step changed the text nothing has converged, whatever the acceptance."
)

CONVERGED = 1.05
"""Nested R-hat above which a chain remembers its start."""


def findings(records: Sequence[Record], plan: Plan, what: str) -> Findings:
    """All of it from the records; ``what`` names model, sampler and prompt."""
    chains = [chain for record in records for chain in record["chains"]]
    moved, text = _moved(chains)
    bound = meeting_bound([float(r["meeting"]) for r in records], plan.lag, np.arange(plan.most - plan.lag + 1))
    verdict = _verdict(records, moved, bound, plan)
    worth = _worth(records)
    sections = [
        Section("Did anything move?", [Part(f"{what}. {verdict}", text)]),
        Section(
            "Distance to the target",
            [
                Part(
                    f"Bounds from {len(records)} coupled pairs with a lag of {plan.lag} steps, given up after "
                    f"{plan.most}: their mean, and the upper limit at 95% confidence (exact for the distance between "
                    "the laws after so many steps and a lag later). Steps are counted from a completion at the "
                    "proposal's temperature.",
                    _bounds(bound, plan),
                    lambda: _bound_plot(bound),
                )
            ],
        ),
        Section(
            "What the chains are worth",
            [
                Part(
                    f"{plan.starts} starts, {plan.chains} chains from each, {plan.steps} steps. Nested R-hat of the "
                    f"second half (above {CONVERGED:g}: the start is remembered; ∞: nothing moves), and the effective "
                    "sample size of all draws after the start.",
                    worth,
                ),
                Part(
                    "Autocorrelation of log p, mean over chains: after so many steps, and the tokens that these "
                    "decode.",
                    _autocorrelations(chains),
                    lambda: _autocorrelation_plot(chains),
                ),
            ],
        ),
    ]
    return Findings("Mixing", f"{verdict} {SAYS}", text, sections, list(_rows(records, bound)))


def _moved(chains: Sequence[Record]) -> tuple[float, TextTable]:
    steps = [step for chain in chains for step in chain["changed"]]
    share = float(np.mean(steps))
    still = float(np.mean([not any(chain["changed"]) for chain in chains]))
    accepted = float(np.mean([step for chain in chains for step in chain["accepted"]]))
    decoded = float(np.mean([tokens for chain in chains for tokens in chain["decoded"]]))
    rows = [
        ["steps that changed the text, %", percent(share)],
        ["chains whose text no step changed, %", percent(still)],
        ["steps accepted, %", percent(accepted)],
        ["tokens decoded a step", number(decoded)],
    ]
    return share, TextTable(["figure", "value"], [TextRow(row) for row in rows])


def _verdict(records: Sequence[Record], moved: float, bound: MeetingBound, plan: Plan) -> str:
    """What is to be said first."""
    if moved == 0:
        return "No step changed the text: the chains have not moved, and nothing can have converged."
    met = np.isfinite([float(record["meeting"]) for record in records])
    if not met.all():
        return (
            f"Not shown to converge: of {len(met)} coupled pairs {int((~met).sum())} did not meet in {plan.most} steps."
        )
    near = np.flatnonzero(bound.upper <= 0.25)
    if not len(near):
        return "All pairs met, but they are too few, or met too late, for an upper limit of 0.25."
    return f"The upper limit of the distance to the target is 0.25 or less from {int(bound.steps[near[0]])} steps on."


def _bounds(bound: MeetingBound, plan: Plan) -> TextTable:
    shown = [step for step in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if step < len(bound.steps)]
    rows = [TextRow([f"{step}", f"{bound.estimate[step]:.3f}", f"{bound.upper[step]:.3f}"]) for step in shown]
    return TextTable(["steps", "bound, mean", "bound, upper limit"], rows)


def _bound_plot(bound: MeetingBound) -> Plots:
    x = bound.steps.tolist()
    both = [Curve(x, bound.estimate.tolist(), colour=2), Curve(x, bound.upper.tolist(), colour=5, line=1)]
    svg = curves(both, "Bounds on the distance over steps", "steps", "total variation, at most", y_from=0)
    return Plots([svg], {"mean": 2, "upper limit, 95%": 5})


def _columns(records: Sequence[Record], name: str) -> FloatArray:
    """``[starts, chains, steps + 1]``."""
    return np.array([[chain[name] for chain in record["chains"]] for record in records], dtype=np.float64)


def _worth(records: Sequence[Record]) -> TextTable:
    rows = []
    for name, values in _looked_at(records).items():
        after = values[:, :, 1:]
        rhat = nested_rhat(after[:, :, after.shape[2] // 2 :]) if min(values.shape[:2]) > 1 else math.nan
        draws = effective_draws(after.reshape(-1, after.shape[2])) if after.shape[2] >= 4 else math.nan
        shown = NOTHING if math.isnan(rhat) else "∞" if math.isinf(rhat) else f"{rhat:.3f}"
        rows.append(TextRow([name, shown, number(draws), f"{after.size:,}"]))
    return TextTable(["of", "nested R-hat", "effective draws", "draws"], rows)


def _looked_at(records: Sequence[Record]) -> dict[str, FloatArray]:
    """log p, length, and whether the answer is the most frequent one."""
    found = {"log p": _columns(records, "logp"), "length": _columns(records, "length")}
    answers = [a for record in records for chain in record["chains"] for a in chain["answer"] if a is not None]
    if answers:
        names, counts = np.unique(answers, return_counts=True)
        most = str(names[counts.argmax()])
        values = [[[a == most for a in chain["answer"]] for chain in record["chains"]] for record in records]
        found[f"answer is {most!r}"] = np.array(values, dtype=np.float64)
    return found


def _autocorrelation(chains: Sequence[Record]) -> tuple[FloatArray, float]:
    correlated = np.mean([autocorrelation(chain["logp"]) for chain in chains], axis=0)
    return correlated, float(np.mean([tokens for chain in chains for tokens in chain["decoded"]]))


def _autocorrelations(chains: Sequence[Record]) -> TextTable:
    correlated, tokens = _autocorrelation(chains)
    shown = [lag for lag in (0, 1, 2, 5, 10, 20, 50, 100) if lag < len(correlated)]
    rows = [TextRow([f"{lag}", number(lag * tokens), number(float(correlated[lag]))]) for lag in shown]
    return TextTable(["steps", "tokens", "autocorrelation of log p"], rows)


def _autocorrelation_plot(chains: Sequence[Record]) -> Plots:
    correlated, _ = _autocorrelation(chains)
    line = Curve(list(range(len(correlated))), correlated.tolist(), colour=2)
    return Plots([curves([line], "Autocorrelation of log p over steps", "steps", "autocorrelation")])


def _rows(records: Sequence[Record], bound: MeetingBound) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"start": record["start"], "meeting": record["meeting"]} for record in records]
    together = zip(bound.steps.tolist(), bound.estimate.tolist(), bound.upper.tolist(), strict=True)
    return rows + [{"step": int(step), "bound": mean, "bound_upper": upper} for step, mean, upper in together]
