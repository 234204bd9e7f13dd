"""The report of ``study mixing`` on chains that were recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from powercut.report.curves import Curve, curves
from powercut.report.drawing import COLOURS
from powercut.report.page import Part, Plots, Section
from powercut.report.tables import NOTHING, TextRow, TextTable, number, percent
from powercut.study.findings import Findings, Record
from powercut.study.mixing.recorded import LEAST
from powercut.study.mixing.report import CONVERGED

SAYS = (
    "These chains were recorded while they did something else. They are short, and each has a start of its own, so "
    "that nested R-hat has one chain a start and few draws of each: what it finds above its bound remembers its start, "
    "and what it finds below it may do so too. They can show that chains do not move, or move slowly, and cannot show "
    "that they have converged. For that give the prompt itself to powercut study mixing, which couples chains and "
    "bounds the distance to their target."
)

_SHOWN = 20


def findings(records: Sequence[Record], what: str) -> Findings:
    """All of it from the records, one a cell; ``what`` names the folder or file."""
    main, worth = _moved(records), _worth(records)
    with_stages = [record for record in records if record["worth"]]
    sections = [
        Section(
            "Did anything move?",
            [
                Part(
                    f"{what}. {_verdict(records)} Shares are of all steps of all stages; a null step proposes the "
                    "text itself, is accepted and changes nothing.",
                    main,
                )
            ],
        ),
        Section(
            "What the chains are worth",
            [
                Part(
                    f"Of the steps of each chain's last stage ({LEAST} at least, kept since powercut 0.2): over "
                    f"problems, the median of nested R-hat of its second half, the share of problems with more than "
                    f"{CONVERGED:g} (∞, where nothing moves, is more), and the median of the effective draws over all "
                    "draws after the start.",
                    worth,
                ),
                *([_autocorrelations(with_stages)] if with_stages else []),
            ],
        ),
    ]
    if with_stages:
        caption = f"Up to {_SHOWN} of them, the largest R-hat of log p first; figures.csv has all."
        sections.append(Section("Problem by problem", [Part(caption, _problems(with_stages))]))
    return Findings("Mixing, of recorded chains", f"{_verdict(records)} {SAYS}", main, sections, list(_rows(records)))


def _verdict(records: Sequence[Record]) -> str:
    """What is to be said first."""
    chains = sum(record["chains"] for record in records)
    unmoved = sum(round(record["unmoved"] * record["chains"]) for record in records)
    if unmoved == chains:
        return "No step changed the text of any chain: nothing can have converged."
    if not unmoved:
        return f"Some step changed the text of each of {chains:,} chains."
    return f"No step changed the text of {unmoved:,} of {chains:,} chains."


def _moved(records: Sequence[Record]) -> TextTable:
    head = ["cell", "chains", "text never changed, %", "steps that changed it, %", "null, %", "accepted, %"]
    rows = []
    for r in records:
        shares = [percent(r[name]) for name in ("unmoved", "changed", "nulls", "acceptance")]
        rows.append(TextRow([r["cell"], f"{r['chains']:,}", *shares, number(r["steps"]), number(r["tokens_decoded"])]))
    return TextTable([*head, "steps a chain", "decoded tokens"], rows)


def _worth(records: Sequence[Record]) -> TextTable:
    rows = []
    for r in records:
        fields = [r["cell"], f"{len(r['worth']):,}"]
        for name in ("logp", "length"):
            rhat = [float(each[f"rhat_{name}"]) for each in r["worth"] if each[f"rhat_{name}"] is not None]
            fields += [_rhat(float(np.median(rhat)) if rhat else math.nan)]
            fields += [percent(float(np.mean([each > CONVERGED for each in rhat]))) if rhat else NOTHING]
            shares = [each[f"draws_{name}"] / (each["chains"] * each["steps"]) for each in r["worth"]]
            fields += [f"{100 * float(np.median(shares)):.0f}" if shares else NOTHING]
        rows.append(TextRow(fields))
    of = [figure for name in ("log p", "length") for figure in (f"R-hat of {name}", "start remembered, %", "draws, %")]
    return TextTable(["cell", "problems", *of], rows)


def _rhat(value: float) -> str:
    return NOTHING if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.3f}"


def _autocorrelations(records: Sequence[Record]) -> Part:
    most = max(len(record["autocorrelation"]) for record in records)
    lags = [lag for lag in (0, 1, 2, 5, 10, 20, 50, 100) if lag < most]
    rows = []
    for r in records:
        found = [number(r["autocorrelation"][lag]) if lag < len(r["autocorrelation"]) else NOTHING for lag in lags]
        rows.append(TextRow([r["cell"], number(r["decoded_a_step"]), *found]))
    heads = [f"{lag} steps" if lag != 1 else "1 step" for lag in lags]

    def draw() -> Plots:
        lines = [
            Curve(list(range(len(r["autocorrelation"]))), r["autocorrelation"], colour=2 + i)
            for i, r in enumerate(records)
        ]
        svg = curves(lines, "Autocorrelation of log p over steps", "steps", "autocorrelation")
        return Plots([svg], {r["cell"]: (2 + i) % COLOURS for i, r in enumerate(records)})

    caption = "Autocorrelation of log p along the last stage, mean over chains; 1 everywhere where nothing moves."
    return Part(caption, TextTable(["cell", "tokens a step", *heads], rows), draw)


def _problems(records: Sequence[Record]) -> TextTable:
    several = [(record["cell"], each) for record in records for each in record["worth"]]
    several.sort(key=lambda pair: -float(pair[1]["rhat_logp"] or 0))
    rows = []
    for cell, each in several[:_SHOWN]:
        rhat = [math.nan if each[name] is None else float(each[name]) for name in ("rhat_logp", "rhat_length")]
        draws = [number(float(each[name])) for name in ("draws_logp", "draws_length")]
        counts = [f"{each['chains']:,}", f"{each['steps']:,}", percent(each["changed"])]
        rows.append(TextRow([cell, each["group"], *counts, _rhat(rhat[0]), draws[0], _rhat(rhat[1]), draws[1]]))
    head = ["cell", "problem", "chains", "steps", "changed, %", "R-hat of log p", "effective draws"]
    return TextTable([*head, "R-hat of length", "effective draws"], rows, 2)


def _rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    for record in records:
        yield {name: value for name, value in record.items() if name not in ("key", "worth", "autocorrelation")}
        for each in record["worth"]:
            yield {"cell": record["cell"], **each}
        for lag, value in enumerate(record["autocorrelation"]):
            yield {"cell": record["cell"], "lag": lag, "autocorrelation_logp": value}
