"""``--save-trace``: the steps of each completion are in the run folder before the completion counts."""

import gzip
import json

import pytest

from powercut.chains import read_chains
from powercut.durable import DRAFT, encode
from powercut.errors import PowercutError, SettingError
from powercut.evals.runs.folder import RunFolder
from powercut.evals.runs.step_file import StepFile
from powercut.records import RunFacts, step_file
from tests.evals.runs.test_harness import Engine, benchmark, cell, comparable, run


def steps_of(folder, each, key):
    [[place, chain]] = read_chains(step_file(folder / "cells" / each.name, *key)).by_place.items()
    assert place == (0, 0)
    return chain


def test_every_completion_has_its_steps_and_is_the_same_with_them(tmp_path):
    cells = cell(), cell(sampler="smc", particles=3, block_size=2)
    plain = run(tmp_path / "plain", *cells)
    kept = run(tmp_path / "kept", *cells, save_trace=True)
    assert not list(tmp_path.glob("plain/cells/*/steps"))
    for one, rows, without in zip(cells, kept, plain, strict=True):
        assert {key: comparable(row) for key, row in rows.items()} == {
            key: comparable(row) for key, row in without.items()
        }
        for key, row in rows.items():
            chain = steps_of(tmp_path / "kept", one, key)
            assert (chain.completed.text, chain.completed.logp) == (row["text"], row["logp"])
            assert (chain.drawn_with.seed, chain.drawn_with.sampler) == (row["sampler_seed"], one.sampler)
            assert len(chain.prompt)
            made = [proposal for proposal in chain.proposals if proposal.step is not None]
            assert len(made) + sum(proposal.step.nulls for proposal in made) <= row["steps"]
            likely = [each for proposal in chain.proposals for each in proposal.drawn.likely]
            assert any(len(ids) > 1 for ids, _ in likely)
    assert not list(tmp_path.glob(f"kept/cells/*/steps/*{DRAFT}"))


def test_what_fails_leaves_no_steps_and_what_is_done_has_none_of_later_runs(tmp_path):
    one = cell(benchmark("ab", "gg"), seeds=1)
    [rows] = run(tmp_path, one, save_trace=True)
    assert rows["p1", 0]["error"]
    assert [file.name for file in (tmp_path / "cells" / one.name / "steps").iterdir()] == ["p0--0.jsonl.gz"]
    more = cell(benchmark("ab", "gg"), seeds=2)
    run(tmp_path, more)
    assert [file.name for file in (tmp_path / "cells" / one.name / "steps").iterdir()] == ["p0--0.jsonl.gz"]


def test_drafts_of_a_killed_run_are_swept_away(tmp_path):
    one = cell()
    steps = tmp_path / "cells" / one.name / "steps"
    steps.mkdir(parents=True)
    (tmp_path / "run.json").write_text('{"format": 1}')
    draft = steps / f"p0--0.jsonl.gz{DRAFT}"
    draft.write_bytes(b"half of it")
    run(tmp_path, one, save_trace=True)
    assert not draft.exists()
    assert len(list(steps.iterdir())) == 6


def test_steps_that_cannot_be_written_end_the_run(tmp_path, monkeypatch):
    from powercut.evals.runs import step_file as module

    def full(self, data):
        raise PowercutError("cannot write steps: No space left on device")

    monkeypatch.setattr(module.PackedDraft, "write", full)
    one, engine = cell(), Engine()
    with pytest.raises(PowercutError, match="No space left"):
        run(tmp_path, one, engine=engine, save_trace=True)
    assert not (tmp_path / "cells" / one.name / "results.jsonl").exists()
    assert not list((tmp_path / "cells" / one.name / "steps").iterdir())


def test_a_folder_for_steps_that_cannot_be_made_ends_the_run(tmp_path):
    one = cell()
    folder = tmp_path / "cells" / one.name
    folder.mkdir(parents=True)
    (tmp_path / "run.json").write_text('{"format": 1}')
    (folder / "steps").write_text("a file")
    with pytest.raises(PowercutError, match=r"cannot write .*steps: File exists"):
        run(tmp_path, one, save_trace=True)
    assert not (folder / "completions.jsonl").exists()


def test_no_file_is_open_before_the_first_line(tmp_path):
    path = step_file(tmp_path, "p0", 0)
    waiting = StepFile(path)
    assert not list(tmp_path.iterdir())
    waiting.drop()
    begun = StepFile(path)
    begun.add({"kind": "run"})
    assert [file.name for file in path.parent.iterdir()] == [path.name + DRAFT]
    begun.drop()
    assert not list(path.parent.iterdir())


def test_no_steps_are_beside_a_completion_that_was_drawn_without(tmp_path):
    one = cell(seeds=1)
    steps = tmp_path / "cells" / one.name / "steps"
    run(tmp_path, one, save_trace=True)
    assert len(list(steps.iterdir())) == 3
    lines = tmp_path / "cells" / one.name / "results.jsonl"
    kept = [line for line in lines.read_text().splitlines(keepends=True) if json.loads(line)["id"] != "p1"]
    lines.write_text("".join(kept))  # as a kill leaves it between the steps of p1 and its line
    run(tmp_path, one)
    assert sorted(file.name for file in steps.iterdir()) == ["p0--0.jsonl.gz", "p2--0.jsonl.gz"]


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (("p0", "p.1"), ("p0--0", "p.1--0")),
        (("HumanEval/0", "humaneval/0", "a" * 300, "a" * 299, "..", ".p", "数学 1", "p0--0"), None),
    ],
)
def test_names_of_files_differ_and_any_system_takes_them(tmp_path, ids, names):
    files = [step_file(tmp_path, id_, 0) for id_ in ids]
    found = [file.name.removesuffix(".jsonl.gz") for file in files]
    assert names is None or tuple(found) == names
    assert len({name.casefold() for name in found}) == len(ids)
    for file in files:
        assert len(file.name) < 120
        assert file.name[0] not in ".-"
        assert file.name.isascii()
        assert file.parent == tmp_path / "steps"


def test_a_torn_file_is_named(tmp_path):
    file = tmp_path / "torn.jsonl.gz"
    file.write_bytes(gzip.compress(encode({"kind": "run"}) * 50)[:-20])
    with pytest.raises(SettingError, match=r"torn\.jsonl\.gz cannot be read: .*end-of-stream"):
        read_chains(file)
    file.write_bytes(b"\x1f\x8bno gzip at all, though it begins so")
    with pytest.raises(SettingError, match=r"torn\.jsonl\.gz cannot be read: Unknown compression method"):
        read_chains(file)


def test_lines_are_on_the_disk_before_their_completion(tmp_path):
    one = cell()
    with RunFolder(tmp_path) as folder:
        folder.record(RunFacts())
        files = folder.cell(one.facts, one.name, frozenset(one.completions()))
        steps = files.steps(("p0", 0))
        steps.add({"kind": "run"})
        path = step_file(tmp_path / "cells" / one.name, "p0", 0)
        assert not path.exists()
        steps.keep()
        assert json.loads(gzip.decompress(path.read_bytes())) == {"kind": "run"}
