"""Chains that a run recorded: what moved, and figures of their last stages."""

import itertools
import json
import math

import numpy as np
import pytest

from powercut.diagnostics import effective_draws, nested_rhat
from powercut.errors import SettingError
from powercut.records import CellFacts, Result, RunFacts
from powercut.samplers import SMC, EntropyCut, PowerSMC, Standard
from powercut.stage_log import LastStage, StageLog
from powercut.strict_json import json_file, json_line, strict
from powercut.study.mixing.recorded import digest, measure_recorded, read_recorded
from powercut.study.mixing.recorded_report import findings
from tests.view.recorded import recorded, save

STEPS = 12


def stage(logp, changed=None):
    moved = [a != b for a, b in itertools.pairwise(logp)] if changed is None else changed
    n = len(logp) - 1
    return LastStage(3, tuple(logp), (7,) * (n + 1), (True,) * n, tuple(moved), (2,) * n)


def result(problem, seed, logp, kept=True):
    last = stage(logp)
    share = float(np.mean(last.changed))
    return Result(
        id=problem,
        seed=seed,
        correct=True,
        steps=4.0 * STEPS,
        acceptance=1.0,
        changed=share,
        null_steps=6.0,
        tokens_decoded=100.0,
        chain=last if kept else None,
    )


def write_run(folder, cells):
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json_file(RunFacts()))
    for name, (settings, results) in cells.items():
        cell = folder / "cells" / name
        cell.mkdir(parents=True, exist_ok=True)
        cell_facts = CellFacts(task="gsm8k", model="tiny", sampler="entropy-cut", settings=settings)
        (cell / "cell.json").write_text(json_file(cell_facts))
        (cell / "results.jsonl").write_text("".join(json_line(each) for each in results))
    return folder


def walks(shift=0.0, seed=0, chains=3):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=STEPS + 1) + shift * i).tolist() for i in range(chains)]


SETTINGS = {"steps": STEPS, "blocks": 4, "alpha": 4.0}


def test_figures_are_those_of_the_last_stages(tmp_path):
    several = {problem: walks(shift, seed) for seed, (problem, shift) in enumerate((("same", 0.0), ("apart", 9.0)))}
    results = [result(problem, i, logp) for problem, own in several.items() for i, logp in enumerate(own)]
    [(label, chains)] = read_recorded(write_run(tmp_path / "run", {"a": (SETTINGS, results)})).items()
    assert label == "gsm8k, tiny, entropy-cut"
    record = measure_recorded(label, chains)
    assert (record["chains"], record["groups"], record["unmoved"]) == (6, 2, 0)
    assert record["nulls"] == pytest.approx(6 / 48)
    same, apart = record["worth"]
    for found, own in ((same, several["same"]), (apart, several["apart"])):
        after = np.array(own)[:, 1:]
        assert found["rhat_logp"] == pytest.approx(nested_rhat(after[:, None, STEPS // 2 :]))
        assert found["draws_logp"] == pytest.approx(effective_draws(after))
        assert found["rhat_length"] == math.inf
        assert found["draws_length"] == 0
    assert apart["rhat_logp"] > 3 > same["rhat_logp"]
    report = findings([json.loads(json.dumps(strict(record)))], "a run")
    assert report.says.startswith("Some step changed the text of each of 6 chains. ")
    worst = report.sections[2].parts[0].table.rows[0].fields
    assert (worst[1], worst[7]) == ("apart", "∞")


def test_chains_that_never_moved_are_said_first(tmp_path):
    results = [result("x", i, [-3.0] * (STEPS + 1)) for i in range(4)]
    [(label, chains)] = read_recorded(write_run(tmp_path / "run", {"a": (SETTINGS, results)})).items()
    report = findings([measure_recorded(label, chains)], "a run")
    assert report.says.startswith("No step changed the text of any chain: nothing can have converged.")
    worth = report.sections[1].parts[0].table.rows[0].fields
    assert worth[2:5] == ["∞", "100.0", "0"]


def test_a_run_without_stages_still_says_what_moved(tmp_path):
    results = [result("x", i, logp, kept=False) for i, logp in enumerate(walks())]
    [(label, chains)] = read_recorded(write_run(tmp_path / "run", {"a": (SETTINGS, results)})).items()
    report = findings([measure_recorded(label, chains)], "a run")
    assert len(report.sections) == 2
    assert report.sections[1].parts[0].table.rows[0].fields[1:4] == ["0", "–", "–"]


def test_cells_are_named_by_what_they_differ_in_and_a_run_that_has_grown_is_another(tmp_path):
    own = [result("x", i, logp) for i, logp in enumerate(walks())]
    cells = {"a": (SETTINGS, own), "b": (SETTINGS | {"alpha": 2.0}, own[:2]), "c": ({"alpha": 4.0}, own)}
    found = read_recorded(write_run(tmp_path / "run", cells))
    assert list(found) == ["gsm8k, tiny, entropy-cut, alpha 4", "gsm8k, tiny, entropy-cut, alpha 2"]
    assert len({digest(chains) for chains in found.values()}) == 2


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (None, "is not a run: it has no run.json; give the folder that powercut eval wrote"),
        ({}, "has no chains: run powercut eval with --sampler entropy-cut or uniform-cut"),
    ],
)
def test_what_is_no_run_is_one_line(tmp_path, cells, message):
    folder = tmp_path / "run"
    folder.mkdir()
    if cells is not None:
        write_run(folder, cells)
    with pytest.raises(SettingError) as error:
        read_recorded(folder)
    assert message in str(error.value)


def test_a_line_that_is_no_result_is_named_and_a_torn_one_passed_over(tmp_path):
    folder = write_run(tmp_path / "run", {"a": (SETTINGS, [result("x", 0, walks()[0])])})
    file = folder / "cells" / "a" / "results.jsonl"
    file.write_text(file.read_text() + '{"id": "torn')
    assert len(read_recorded(folder)["gsm8k, tiny, entropy-cut"]) == 1
    file.write_text("nonsense\n" + file.read_text())
    with pytest.raises(SettingError, match=r"results\.jsonl:1 is no result"):
        read_recorded(folder)


def test_a_file_of_steps_has_the_figures_of_its_run(tmp_path):
    sampler = EntropyCut(max_new_tokens=20, blocks=2, steps=6, alpha=2, refine_finished=True)
    events, lines, chains = recorded(sampler, n=3)
    [(label, found)] = read_recorded(save(tmp_path / "chain.jsonl", lines)).items()
    assert label == f"{chains.run.model}, entropy-cut"
    assert [chain.group for chain in found] == ["prompt 0"] * 3
    own = iter(events)
    for (_, recorded_chain), chain in zip(sorted(chains.by_place.items()), found, strict=True):
        log = StageLog(sampler)
        for event in itertools.islice(own, len(recorded_chain.proposals)):
            log.add(event.stage, event.step, event.trace)
        assert chain.last == log.last()
        stats = recorded_chain.completed.stats
        assert (chain.steps, chain.changed, chain.tokens_decoded) == (stats.steps, stats.changed, stats.tokens_decoded)
    record = measure_recorded(label, found)
    assert (record["chains"], record["groups"], record["worth"][0]["chains"]) == (3, 1, 3)
    with pytest.raises(SettingError, match="no chain of Metropolis-Hastings steps that came to its end"):
        read_recorded(save(tmp_path / "none.jsonl", recorded(Standard(max_new_tokens=4))[1]))
    unfinished = [line for line in lines if line["kind"] != "completion"]
    with pytest.raises(SettingError, match="came to its end"):
        read_recorded(save(tmp_path / "torn.jsonl", unfinished))


@pytest.mark.parametrize("kind", [SMC, PowerSMC])
def test_moves_of_particles_are_no_chain(tmp_path, kind):
    _, lines, chains = recorded(kind(max_new_tokens=24, particles=6, block_size=8, moves=3, alpha=2), n=2)
    assert all(chain.completed.stats.steps for chain in chains.by_place.values())
    with pytest.raises(SettingError, match="no chain of Metropolis-Hastings steps that came to its end"):
        read_recorded(save(tmp_path / "moves.jsonl", lines))
    own = recorded(EntropyCut(max_new_tokens=8, blocks=1, steps=6))[1]
    found = read_recorded(save(tmp_path / "both.jsonl", [*own, *({**line, "prompt_index": 1} for line in lines)]))
    assert [[chain.group for chain in several] for several in found.values()] == [["prompt 0"]]


def test_lines_that_do_not_hang_together_are_one_line(tmp_path):
    _, lines, _ = recorded(EntropyCut(max_new_tokens=20, blocks=2, steps=6, alpha=2, refine_finished=True))
    torn = [line for line in lines if line.get("stage") != 0]
    with pytest.raises(SettingError, match="the lines of prompt 0, sample 0 do not hang together"):
        read_recorded(save(tmp_path / "torn.jsonl", torn))
