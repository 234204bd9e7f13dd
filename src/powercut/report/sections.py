"""The parts of a report on runs, in their order, for any way of showing them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from powercut.records import RunFacts
from powercut.report import plots, tables
from powercut.report.completions import COMPLETIONS
from powercut.report.labels import symbol
from powercut.report.page import Part, Plots, Section
from powercut.report.summary import Ablation, Entry, Summary


def compose(summary: Summary, runs: Mapping[Path, RunFacts], seen: Collection[str] = ()) -> list[Section]:
    """Lay out the whole report; ``runs`` has each folder's run.json, ``seen`` the tasks with pages of completions."""
    sections, looks = [], plots.Looks.of(summary)
    if len(summary.tasks) > 1:
        caption = "Accuracy in percent, with 95% intervals clustered by problem."
        sections.append(Section("All tasks", [Part(caption, tables.overview(summary))]))
    for task, entries in summary.tasks.items():
        first, *others = _task(summary, task, entries, looks)
        if task in seen:
            first = replace(first, link=(COMPLETIONS, "Each completion, step by step."))
        sections.append(Section(task, [first, *others]))
    sources = [
        Part("Every setting of every sampler.", tables.settings_table(summary)),
        Part("The runs, and the commands that made them.", tables.runs_table(runs)),
    ]
    return [*sections, Section("Settings", sources)]


def _task(summary: Summary, task: str, entries: Sequence[Entry], looks: plots.Looks) -> Iterator[Part]:
    problems = max(entry.problems for entry in entries)
    yield Part(
        f"{problems:,} problems. Accuracy with 95% intervals clustered by problem; the rest are means over problems, "
        "of one completion each: log\u00a0p in nats, next-token entropy in nats, decoded tokens with those of rejected "
        "proposals, seconds of wall time. n: problems × completions of each. Bold: the best of each model.",
        tables.task_table(entries),
        lambda: _task_plots(entries, looks),
    )
    if (curve := tables.pass_at_table(entries)) is not None:
        yield Part("pass@k in percent: the chance that one of k completions is right.", curve)
    if tests := [test for test in summary.tests if test.entry.facts.task == task]:
        caption = (
            "Differences in accuracy with 95% intervals, and p-values of the McNemar test clustered by problem; Holm's "
            f"correction is for all tests of this table, {len(tests)}. Bold: below 0.05 after it."
        )
        yield Part(caption, tables.test_table(tests))
    if matches := [match for match in summary.matches if match.entry.facts.task == task]:
        caption = (
            "Samplers, and best of n beside them at the same compute. The difference is the sampler's accuracy less "
            "that of best of n; the ratio, best of n's decoded tokens over the sampler's."
        )
        yield Part(caption, tables.match_table(matches))
    for ablation in summary.ablations:
        if ablation.entries[0].facts.task == task:
            entry = ablation.entries[0]
            model = f", {entry.model}" if len(summary.models) > 1 else ""
            yield Part(
                f"{symbol(ablation.setting)} varied: {ablation.fixed}{model}.",
                tables.ablation_table(ablation),
                partial(_ablation_plot, ablation, looks),
            )


def _task_plots(entries: Sequence[Entry], looks: plots.Looks) -> Plots:
    every = [draw(entries, looks) for draw in (plots.accuracy_bars, plots.pass_at_curves, plots.accuracy_against_cost)]
    drawn = [svg for svg in every if svg is not None]
    if len(drawn) == 1:  # bars have their names beside them
        return Plots(drawn)
    signs = [f"{looks.sign(model)} {model}" for model in looks.models] if len(looks.models) > 1 else []
    return Plots(drawn, {name: hue for hue, name in enumerate(looks.samplers)}, signs)


def _ablation_plot(ablation: Ablation, looks: plots.Looks) -> Plots:
    return Plots([plots.ablation_plot(ablation, looks)])
