"""The report of ``study divergence``: whether suffixes go further apart where the entropy jumps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from powercut.report.curves import Curve, curves
from powercut.report.page import Part, Plots, Section
from powercut.report.stats import Interval, holm, sign_test
from powercut.report.tables import NOTHING, TextRow, TextTable, fixed, number, p_value
from powercut.report.whiskers import Whisker, whiskers
from powercut.study.bootstrap import clustered_interval
from powercut.study.divergence.measure import Suffixes
from powercut.study.divergence.positions import JUMP, SHORTEST
from powercut.study.findings import Findings, Record
from powercut.trace import FloatArray

SAYS = (
    "A completion is cut where its entropy jumps and elsewhere, and from each cut new suffixes are drawn: how far do "
    "they go apart, and how many answers do they come to? It shows whether a jump in entropy marks a place from which "
    "texts diverge, on this model, these prompts and this temperature. That they diverge is not yet that it matters: "
    "words can differ and the answer be the same, so look at the answers, and let suffixes run to the end (--to-end), "
    "since few reach an answer otherwise. A cut a little before a jump re-opens the jump as well, which makes the arms "
    "more alike than the places are. What a single token says of the answer is what study decisions measures."
)
_PUBLISHED = (
    " These are the places of the published protocol: most of the bottom jumps are exactly 0, so that ties decide "
    "which of them are taken, and nothing is matched by position. Without --published both are mended."
)
_PAIRED = (
    " Ties among jumps are drawn by the seed, and each place of another arm is the one of its tenth that is nearest to "
    "a place of the first arm."
)

_Measure = Callable[[Record], float]
_HUES = (2, 5, 4, 0)
_BINS = 6


def _distinct(place: Record) -> float:
    return len({answer for answer in place["answers"] if answer is not None}) / len(place["answers"])


def _unanswered(place: Record) -> float:
    return sum(answer is None for answer in place["answers"]) / len(place["answers"])


MEASURES: dict[str, _Measure] = {
    "edit distance, tokens": lambda place: float(place["distance"]),
    "edit distance over length": lambda place: float(place["distance"] / place["length"]),
    "distinct answers over suffixes": _distinct,
    "suffixes without an answer": _unanswered,
}
"""What is measured at a place, of its suffixes."""


_PLACES: dict[str, _Measure] = {
    "jump, nats": lambda place: float(place["jump"]),
    "entropy, nats": lambda place: float(place["entropy"]),
    "suffix, tokens": lambda place: float(place["length"]),
    "suffixes that finish": lambda place: float(place["finished"]),
}


class Paired(NamedTuple):
    """The first arm less another in one measure: its mean over prompts, and whether signs are those of a coin."""

    arm: str
    measure: str
    difference: Interval
    larger: int
    smaller: int
    prompts: int
    p: float


def findings(records: Sequence[Record], suffixes: Suffixes, what: str) -> Findings:
    """All of it from the records; ``what`` names the prompts, the model and the settings."""
    used = [record for record in records if _arms(record) >= set(suffixes.arms[:2])]
    short = sum(record["length"] < SHORTEST for record in records)
    rng = np.random.default_rng(suffixes.seed)
    main = _arms_table(used, suffixes)
    paired = list(_paired(used, suffixes, rng))
    kind = _PUBLISHED if suffixes.published else _PAIRED
    asked = f"{what}. Left out: {short:,} completions of fewer than {SHORTEST} tokens"
    asked += f", {len(records) - short - len(used):,} without places in both of the first arms. "
    reach = "the end of the completion" if suffixes.tokens is None else f"at most {suffixes.tokens:,} tokens"
    sections = [
        Section(
            "Do suffixes diverge where the entropy jumps?",
            [
                Part(
                    f"{asked}{suffixes.each} suffixes from each place, to {reach}. Means over {len(used):,} prompts of "
                    "each prompt's mean over its places, and in brackets over that of the first arm.",
                    main,
                ),
                Part(
                    f"{JUMP.capitalize()} less each other arm, prompt by prompt: mean difference with a 95% bootstrap "
                    "interval over prompts, prompts in which it is above and below 0, p of the sign test, and after "
                    "Holm's correction for this table.",
                    _paired_table(paired),
                    lambda: _paired_plot(paired),
                ),
                Part("Where the places are, and their suffixes: means as above.", _places_table(used, suffixes)),
            ],
        ),
        Section(
            "Over the jump",
            [
                Part(
                    "All places by the size of their jump, those without one apart: means over places.",
                    _by_jump(used),
                    lambda: _by_jump_plot(used),
                )
            ],
        ),
    ]
    return Findings("Suffix divergence", SAYS + kind, main, sections, list(_rows(records)))


def _arms(record: Record) -> set[str]:
    return {place["arm"] for place in record["places"]}


def _means(records: Sequence[Record], arm: str, measure: _Measure) -> FloatArray:
    """``[prompts]``; NaN where the arm is empty."""
    several = [[measure(p) for p in record["places"] if p["arm"] == arm] for record in records]
    return np.array([np.mean(each) if each else np.nan for each in several])


def _mean(values: FloatArray) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def _arms_table(records: Sequence[Record], suffixes: Suffixes) -> TextTable:
    rows = []
    for arm in suffixes.arms:
        fields = [arm, f"{_count(records, arm):,}"]
        for measure in MEASURES.values():
            value, first = (_mean(_means(records, each, measure)) for each in (arm, JUMP))
            ratio = f" ({value / first:.2f})" if arm != JUMP and first > 0 and not np.isnan(value) else ""
            fields.append(NOTHING if np.isnan(value) else f"{value:.3f}{ratio}")
        rows.append(TextRow(fields))
    return TextTable(["arm", "places", *MEASURES], rows)


def _places_table(records: Sequence[Record], suffixes: Suffixes) -> TextTable:
    rows = []
    for arm in suffixes.arms:
        fields = [arm, f"{_count(records, arm):,}", number(_mean(_relative_positions(records, arm)))]
        fields += [number(_mean(_means(records, arm, measure))) for measure in _PLACES.values()]
        rows.append(TextRow(fields))
    return TextTable(["arm", "places", "position over length", *_PLACES], rows)


def _count(records: Sequence[Record], arm: str) -> int:
    return sum(place["arm"] == arm for record in records for place in record["places"])


def _relative_positions(records: Sequence[Record], arm: str) -> FloatArray:
    several = [
        [place["position"] / record["length"] for place in record["places"] if place["arm"] == arm]
        for record in records
    ]
    return np.array([np.mean(each) if each else np.nan for each in several])


def _paired(records: Sequence[Record], suffixes: Suffixes, rng: np.random.Generator) -> Iterator[Paired]:
    for arm in suffixes.arms[1:]:
        for name, measure in MEASURES.items():
            d = np.array([each for record in records if (each := _difference(record, arm, measure)) is not None])
            if not len(d):
                continue
            value, low, high = clustered_interval([np.array([[each]]) for each in d], lambda x: float(x.mean()), rng)
            larger, smaller = int((d > 0).sum()), int((d < 0).sum())
            yield Paired(arm, name, Interval(value, low, high), larger, smaller, len(d), sign_test(larger, smaller))


def _difference(record: Record, arm: str, measure: _Measure) -> float | None:
    """The first arm less another in one prompt, over those of the first that have a partner, if there are pairs."""
    first, other = ([place for place in record["places"] if place["arm"] == each] for each in (JUMP, arm))
    if not other:
        return None
    pairs = {place["pair"] for place in other}
    first = [place for place in first if place["pair"] in pairs]
    means = [float(np.mean([measure(place) for place in each])) for each in (first, other)]
    return means[0] - means[1]


def _paired_table(paired: Sequence[Paired]) -> TextTable:
    head = ["less", "measure", "difference", "95% interval", "above 0", "below 0", "prompts", "p, sign test", "p, Holm"]
    rows = []
    for each, adjusted in zip(paired, holm([each.p for each in paired]).tolist() if paired else [], strict=True):
        value, low, high = (fixed(end, 3, "+") for end in each.difference)
        interval = NOTHING if np.isnan(each.difference.low) else f"[{low}, {high}]"
        counts = [f"{count:,}" for count in (each.larger, each.smaller, each.prompts)]
        fields = [each.arm, each.measure, value, interval, *counts, p_value(each.p), p_value(adjusted)]
        rows.append(TextRow(fields, {8} if adjusted < 0.05 else set()))
    return TextTable(head, rows, 2)


def _paired_plot(paired: Sequence[Paired]) -> Plots:
    drawn = []
    arms = list(dict.fromkeys(each.arm for each in paired))
    for name in list(MEASURES)[1:3]:
        own = [each for each in paired if each.measure == name]
        several = [Whisker(f"less {e.arm}", e.difference, _HUES[1 + arms.index(e.arm)]) for e in own]
        drawn.append(whiskers(several, f"Differences in {name}", f"difference in {name}", zero=True))
    return Plots(drawn)


def _bins(records: Sequence[Record]) -> list[list[Record]]:
    """Places without a jump in one bin, the others in bins of about equal number by their jump."""
    places = sorted((p for record in records for p in record["places"]), key=lambda place: float(place["jump"]))
    still = sum(place["jump"] == 0 for place in places)
    parts = [np.arange(still), *np.array_split(np.arange(still, len(places)), _BINS - 1)]
    ends = sorted({float(places[part[-1]]["jump"]) for part in parts if len(part)})
    at = np.searchsorted(ends, [float(place["jump"]) for place in places])
    return [[place for place, own in zip(places, at, strict=True) if own == bin_] for bin_ in range(len(ends))]


def _by_jump(records: Sequence[Record]) -> TextTable:
    rows = []
    for own in _bins(records):
        ends = f"{own[0]['jump']:.3f} to {own[-1]['jump']:.3f}"
        means = [f"{float(np.mean([measure(place) for place in own])):.3f}" for measure in MEASURES.values()]
        rows.append(TextRow([ends, f"{len(own):,}", *means]))
    return TextTable(["jump, nats", "places", *MEASURES], rows)


def _by_jump_plot(records: Sequence[Record]) -> Plots:
    bins = _bins(records)
    x = [float(np.mean([place["jump"] for place in own])) for own in bins]
    drawn = []
    for name in list(MEASURES)[1:3]:
        y = [float(np.mean([MEASURES[name](place) for place in own])) for own in bins]
        drawn.append(curves([Curve(x, y, colour=2)], f"{name} over the jump", "jump, nats", name, y_from=0))
    return Plots(drawn)


def _rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    for record in records:
        for place in record["places"]:
            kept = {name: value for name, value in place.items() if name != "answers"}
            figures = {name: measure(place) for name, measure in MEASURES.items()}
            yield {"prompt": record["prompt"], "completion": record["length"], **kept, **figures}
