"""The report of ``study decisions``: the map of one completion, and over many whether jumps mark decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from powercut.chains import Chains
from powercut.report.curves import Curve, curves
from powercut.report.page import Part, Plots, Section
from powercut.report.tables import NOTHING, TextRow, TextTable, fixed, number, p_value, percent
from powercut.study.bootstrap import clustered_interval
from powercut.study.decisions.information import Information, information, rank_correlation
from powercut.study.findings import Findings, Record
from powercut.trace import FloatArray
from powercut.view.page import view_page

SAYS = (
    "A token decides where the final answer depends on it. From each cut the completion is drawn again several times, "
    "and the mutual information between the token drawn at the cut and the final answer is set against chance. No "
    "judge and no reference answer is needed. It is the test of the paper's premise, that jumps in entropy mark "
    "decisions, on this model, these prompts and this temperature. With few re-drawings a cut's own figure is coarse: "
    "look at its interval and its p-value; what holds over many prompts is the rank correlation. A token can matter "
    "for the text without mattering for the answer, which this does not see; and an answer that hardly varies leaves "
    "nothing to be decided."
)

COMPLETIONS = "completions.html"
"""The page of all completions (view/)."""

_PERMUTATIONS, _ALARM, _BINS = 200, 0.05, 5
_JUMP, _ENTROPY, _INFORMATION = range(3)
_BETAS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Cut:
    """A cut with what its token says of the answer."""

    record: Record
    information: Information

    @property
    def row(self) -> list[float]:
        """Jump, entropy and information."""
        return [self.record["jump"], self.record["entropy"], self.information.estimate]


def findings(records: Sequence[Record], what: str, seed: int) -> Findings:
    """All of it from the records, in the order of the prompts; ``what`` names model and settings."""
    rng = np.random.default_rng(seed)
    maps = [
        [Cut(cut, information(cut["tokens"], cut["answers"], rng, _PERMUTATIONS)) for cut in record["cuts"]]
        for record in records
    ]
    chains = Chains()
    for line in (line for record in records for line in record.get("lines", ())):
        chains.add(line)
    groups = [np.array([cut.row for cut in cuts]) for cuts in maps if cuts]
    premise = _premise(groups, rng)
    sections = [
        Section(
            "Do jumps mark decisions?",
            [
                Part(
                    f"{what}; {sum(map(len, maps)):,} cuts. Spearman's rank correlation "
                    "over all cuts; and the information of a token where a law cuts among these, how much more than "
                    "of one at random, means over prompts. 95% bootstrap intervals over prompts. Half of the cuts are "
                    "those with the largest jumps, the others random.",
                    premise,
                ),
                Part(
                    f"Cuts by the size of their jump: the share whose information is above chance at {_ALARM:g}, and "
                    "its mean in nats.",
                    _calibration(maps),
                    lambda: _calibration_plot(maps),
                ),
            ],
        ),
        Section("Maps", [_map(record, cuts, chains) for record, cuts in zip(records[:5], maps, strict=False)]),
    ]
    pages = {COMPLETIONS: view_page(chains, "Completions")} if chains.by_place else {}
    return Findings("Where does the model decide?", SAYS, premise, sections, list(_rows(records, maps)), pages)


def _premise(groups: Sequence[FloatArray], rng: np.random.Generator) -> TextTable:
    statistics = [
        ("rank correlation of jump and information", lambda x: rank_correlation(x[:, _JUMP], x[:, _INFORMATION])),
        ("rank correlation of entropy and information", lambda x: rank_correlation(x[:, _ENTROPY], x[:, _INFORMATION])),
        ("share of the information at the top half of jumps", lambda x: _held(x)),
    ]
    rows = []
    for name, statistic in statistics:
        value, *ends = clustered_interval(groups, statistic, rng)
        rows.append(TextRow([name, number(value), _interval([number(end) for end in ends], ends[0])]))
    by_law = [_by_law(group) for group in groups if group[:, _JUMP].any()]
    names = ["information where one of these cuts is, nats", *(f"more where β {beta} cuts, nats" for beta in _BETAS)]
    for i, name in enumerate(names if by_law else ()):
        value, *ends = clustered_interval(by_law, partial(_mean_of, i), rng)
        shown, *limits = (fixed(each, 3, "+" if i else "") for each in (value, *ends))
        rows.append(TextRow([name, shown, _interval(limits, ends[0])]))
    return TextTable(["figure", "value", "95% interval"], rows)


def _interval(ends: Sequence[str], known: float) -> str:
    return NOTHING if np.isnan(known) else f"[{ends[0]}, {ends[1]}]"


def _mean_of(column: int, x: FloatArray) -> float:
    return float(x[:, column].mean())


def _held(x: FloatArray) -> float:
    """The share of all positive information that the half with the larger jumps holds."""
    positive = np.maximum(x[:, _INFORMATION], 0)
    top = x[:, _JUMP] > np.median(x[:, _JUMP])
    return float(positive[top].sum() / positive.sum()) if positive.sum() > 0 else float("nan")


def _by_law(x: FloatArray) -> FloatArray:
    """One row of a prompt: its mean information, and for each beta how much more a cut drawn by jump^beta has.

    In nats and not as a ratio: over many prompts the mean may well be 0.
    """
    jumps, found = x[:, _JUMP], x[:, _INFORMATION]
    weights = [(jumps / jumps.max()) ** beta for beta in _BETAS]
    return np.array([[found.mean(), *(weight @ found / weight.sum() - found.mean() for weight in weights)]])


def _bins(maps: Sequence[Sequence[Cut]]) -> list[tuple[float, float, list[Cut]]]:
    """Cuts without a jump in one bin, the others in bins of equal number by their jump; with the ends of each."""
    cuts = sorted((cut for own in maps for cut in own), key=lambda cut: float(cut.record["jump"]))
    still = sum(cut.record["jump"] == 0 for cut in cuts)
    parts = [np.arange(still), *np.array_split(np.arange(still, len(cuts)), _BINS - 1)]
    several = [[cuts[i] for i in part.tolist()] for part in parts if len(part)]
    return [(own[0].record["jump"], own[-1].record["jump"], own) for own in several]


def _calibration(maps: Sequence[Sequence[Cut]]) -> TextTable:
    rows = []
    for low, high, cuts in _bins(maps):
        above = float(np.mean([cut.information.p <= _ALARM for cut in cuts]))
        mean = float(np.mean([cut.information.estimate for cut in cuts]))
        rows.append(TextRow([f"{low:.3f} to {high:.3f}", f"{len(cuts):,}", percent(above), fixed(mean, 3)]))
    return TextTable(["jump, nats", "cuts", "above chance, %", "information, nats"], rows)


def _calibration_plot(maps: Sequence[Sequence[Cut]]) -> Plots:
    bins = _bins(maps)
    x = [float(np.mean([cut.record["jump"] for cut in cuts])) for _, _, cuts in bins]
    y = [float(np.mean([cut.information.estimate for cut in cuts])) for _, _, cuts in bins]
    return Plots([curves([Curve(x, y, colour=2)], "Information over jumps", "jump, nats", "information, nats")])


def _map(record: Record, cuts: Sequence[Cut], chains: Chains) -> Part:
    rows, place = [], (record["prompt"], 0)
    shown = sorted(chains.by_place).index(place) + 1 if place in chains.by_place else None
    for cut in cuts:
        info, found = cut.information, cut.record
        interval = f"{number(info.estimate)} [{number(info.low)}, {number(info.high)}]"
        kinds = f"{len(set(found['tokens'])):,}", f"{len(set(found['answers'])):,}"
        where = [f"{found['position']:,}", number(found["entropy"]), number(found["jump"])]
        rows.append(TextRow([*where, interval, p_value(info.p), *kinds], {3} if info.p <= _ALARM else set()))
    head = ["position", "entropy, nats", "jump, nats", "information, nats", "p", "tokens drawn", "answers drawn"]
    end = "finished" if record["finished"] else "cut off"
    caption = f"Prompt {record['prompt']}: {record['length']:,} tokens, {end}, answer {record['answer'] or 'none'}."
    link = None if shown is None else (f"{COMPLETIONS}#chain={shown}", "The completion, token by token.")
    return Part(f"{caption} Bold: above chance at {_ALARM:g}.", TextTable(head, rows), lambda: _map_plot(cuts), link)


def _map_plot(cuts: Sequence[Cut]) -> Plots:
    x = [float(cut.record["position"]) for cut in cuts]
    y, low, high = ([getattr(cut.information, name) for cut in cuts] for name in ("estimate", "low", "high"))
    both = [Curve(x, y, low, high, colour=2), Curve(x, [cut.record["jump"] for cut in cuts], colour=5, line=1)]
    svg = curves(both, "Information and jump over positions", "position", "nats", size=(7.2, 2.6))
    return Plots([svg], {"information": 2, "jump": 5})


def _rows(records: Sequence[Record], maps: Sequence[Sequence[Cut]]) -> Iterator[dict[str, Any]]:
    for record, cuts in zip(records, maps, strict=True):
        for cut in cuts:
            place = {name: cut.record[name] for name in ("position", "token", "entropy", "jump")}
            yield {"prompt": record["prompt"], **place, **cut.information._asdict()}
