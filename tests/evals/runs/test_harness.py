"""Cells run by Inspect over a small table model; what is in the run folder afterwards."""

import json
import logging
import resource
from dataclasses import replace

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

import powercut as pc
from powercut.errors import EngineError, PowercutError
from powercut.evals.problem import Grade, Problem
from powercut.evals.runs.benchmarks import Benchmark
from powercut.evals.runs.folder import RunFolder
from powercut.evals.runs.harness import Harness
from powercut.evals.runs.plan import Cell, sampler_seed, variants
from powercut.evals.styles import STYLES, make_prompt
from powercut.evals.tasks.task import Task, read_question
from powercut.records import RunFacts
from tests.cli.fake import FakeEngine, LetterText

SHORT = {"max_new_tokens": 6, "blocks": 2, "steps": 2}


class Engine(FakeEngine):
    """Fails on prompts with "gg"."""

    async def extend(self, request, keep_going=None):
        if "gg" in LetterText().decode_now(request.context.tolist()) and len(request.context) == request.prompt_length:
            raise EngineError("the model returned NaN: try dtype float32")
        return await pc.TableEngine.extend(self, request, keep_going)


def right(problem, text):
    return Grade(problem.answer in text, text[:1] or None, None if problem.answer in text else "no such letter")


def benchmark(*questions, grade=right, name="letters"):
    problems = [Problem(f"p{i}", question, "a") for i, question in enumerate(questions or ("ab", "cd", "ef"))]
    return Benchmark(Task(name, "math", list, read_question, grade), problems)


def cell(task=None, sampler="entropy-cut", seeds=2, matched=None, **settings):
    [variant] = variants([sampler], {name: [value] for name, value in settings.items()}, SHORT)
    return Cell(task or benchmark(), "fake", sampler, variant.sampler, "base", seeds, matched=matched)


def run(folder, *cells, engine=None, **options):
    """The rows of each cell, after a run."""
    seen = []
    with RunFolder(folder) as opened:
        opened.record(RunFacts())
        Harness(engine or Engine(), opened, cells, lambda *told: seen.append(told), **options).run()
    run.seen = seen
    return [rows(folder, each) for each in cells]


def rows(folder, each):
    found = [json.loads(line) for line in (folder / "cells" / each.name / "results.jsonl").read_text().splitlines()]
    return {(row["id"], row["seed"]): row for row in found}


def comparable(row):
    return {name: value for name, value in row.items() if name != "seconds"}


def test_each_completion_has_a_row_that_powercut_sample_gives_again(tmp_path):
    one = cell()
    [found] = run(tmp_path, one)
    assert set(found) == set(one.completions())
    for (problem, seed), row in found.items():
        question = {"p0": "ab", "p1": "cd", "p2": "ef"}[problem]
        prompt = make_prompt(STYLES["base"], "math", Problem(problem, question, "a"))
        assert (row["task"], row["model"], row["sampler"], row["cell"]) == ("letters", "fake", "entropy-cut", one.name)
        assert row["correct"] is ("a" in row["text"])
        assert row["answer"] == (row["text"][:1] or None)
        assert (row["error"], row["log_z"]) == (None, None)
        assert {"steps", "tokens_decoded", "tokens_prefilled", "seconds", "entropy"} <= set(row)
        assert 0 <= row["changed"] <= row["acceptance"] <= 1
        assert sampler_seed("letters", problem, seed) < 2**53
        [again] = pc.sample(Engine(), one.settings, [prompt], chat=False, seed=row["sampler_seed"])
        assert (again.text, again.logp) == (row["text"], row["logp"])
    assert len(run.seen) == 12


def test_the_last_stage_of_a_chain_is_kept_and_other_samplers_have_none(tmp_path):
    chains, plain = run(tmp_path, cell(), cell(sampler="standard"))
    for row in chains.values():
        stage = row["chain"]
        assert (len(stage["logp"]), len(stage["accepted"])) == (3, 2)
        assert (stage["logp"][-1], stage["length"][-1]) == (pytest.approx(row["logp"]), row["tokens"])
    assert {row["chain"] for row in plain.values()} == {None}


def test_results_do_not_depend_on_what_else_is_run(tmp_path):
    one, other = cell(), cell(sampler="standard", max_new_tokens=6)
    [alone], [first, second] = run(tmp_path / "1", one), run(tmp_path / "2", one, other, concurrency=1)
    few = replace(benchmark(), problems=benchmark().problems[1:])
    [part] = run(tmp_path / "3", cell(few, seeds=3), concurrency=64)
    for key, row in alone.items():
        assert comparable(first[key]) == comparable(row)
        if key in part:
            assert comparable(part[key]) == comparable(row)
    assert len(set(part) - set(alone)) == 2  # the third seed
    assert second.keys() == alone.keys()


def test_what_is_done_is_not_done_again(tmp_path):
    one = cell()
    [before] = run(tmp_path, one)
    engine = Engine()
    assert run(tmp_path, one, engine=engine) == [before]
    assert engine.usage.decoded == 0
    assert not run.seen
    [more] = run(tmp_path, cell(seeds=3))
    assert {key: row for key, row in more.items() if key[1] < 2} == before
    assert len(more) == 9


def test_one_failure_stops_no_other_and_is_tried_again(tmp_path):
    one = cell(benchmark("ab", "gg", "cd"))
    [found] = run(tmp_path, one)
    assert {key for key, row in found.items() if row["error"]} == {("p1", 0), ("p1", 1)}
    assert found["p1", 0]["error"] == "the model returned NaN: try dtype float32"
    assert found["p1", 0]["correct"] is False
    [found] = run(tmp_path, one, engine=FakeEngine())
    assert not any(row["error"] for row in found.values())
    assert len((tmp_path / "cells" / one.name / "results.jsonl").read_text().splitlines()) == 6


def test_a_completion_whose_text_cannot_be_had_is_an_error_and_no_wrong_answer(tmp_path, monkeypatch):
    async def decode(self, tokens):
        raise EngineError("the server's tokenizer does not answer")

    one = cell()
    with monkeypatch.context() as patched:
        patched.setattr(LetterText, "decode", decode)
        [found] = run(tmp_path, one)
    assert {row["error"] for row in found.values()} == {
        "the text of a completion could not be had: see the note before this, and ask again"
    }
    [found] = run(tmp_path, one)
    assert not any(row["error"] for row in found.values())


def test_a_grader_that_breaks_costs_no_completion(tmp_path):
    def broken(problem, text):
        raise ZeroDivisionError("a bug")

    [found] = run(tmp_path, cell(benchmark(grade=broken)))
    assert {row["error"] for row in found.values()} == {"ZeroDivisionError: a bug"}
    engine = Engine()
    [again] = run(tmp_path, cell(), engine=engine)
    assert engine.usage.decoded == 0
    assert {key: row["text"] for key, row in again.items()} == {key: row["text"] for key, row in found.items()}
    assert not any(row["error"] for row in again.values())


def test_best_of_n_may_spend_what_the_other_sampler_did(tmp_path):
    one = cell(benchmark("ab", "gg", "cd"))
    best = cell(one.bench, "best-of-n", matched=one, max_new_tokens=6)
    chains, found = run(tmp_path, one, best)
    assert found.keys() == {key for key, row in chains.items() if not row["error"]}
    for key, row in found.items():
        assert 0 <= row["tokens_decoded"] - chains[key]["tokens_decoded"] < 6
    assert json.loads((tmp_path / "cells" / best.name / "cell.json").read_text())["matched"] == one.name
    run(tmp_path, one, best, engine=FakeEngine())
    assert len(rows(tmp_path, best)) == 6


def test_a_changed_setting_is_another_cell():
    names = {
        cell().name,
        cell(alpha=2).name,
        cell(beta=2).name,
        cell(sampler="uniform-cut").name,
        cell(benchmark(name="others")).name,
        Cell(benchmark(), "fake2", "entropy-cut", cell().settings, "base", 1).name,
        Cell(benchmark(), "fake", "entropy-cut", cell().settings, "chat", 1).name,
        Cell(benchmark(), "fake", "entropy-cut", cell().settings, "base", 1, dtype="float16").name,
        Cell(benchmark(), "fake", "entropy-cut", cell().settings, "chat", 1, template_args={"think": False}).name,
        Cell(benchmark(), "fake", "entropy-cut", cell().settings, "chat", 1, template_args={"think": True}).name,
    }
    assert len(names) == 10
    assert cell(seeds=1).name == cell(benchmark("ab"), seeds=7).name
    assert cell().name.startswith("letters--fake--entropy-cut--")
    folder = Cell(benchmark(), "/models/a b/", "entropy-cut", cell().settings, "base", 1).name
    assert folder.startswith("letters--a-b--entropy-cut--")


def test_inspect_has_a_log_of_each_cell(tmp_path):
    one, other = cell(), cell(sampler="standard")
    run(tmp_path, one, other)
    logs = [read_eval_log(log) for log in list_eval_logs(str(tmp_path / "logs"))]
    assert {log.eval.task for log in logs} == {one.name, other.name}
    assert all(log.status == "success" and len(log.samples) == 6 for log in logs)
    [log] = [log for log in logs if log.eval.task == one.name]
    for sample in log.samples:
        row = rows(tmp_path, one)[sample.metadata["problem"], sample.metadata["seed"]]
        assert sample.output.metadata["logp"] == row["logp"]
        assert (sample.scores["_scorer"].value == "C") is row["correct"]
    assert log.eval.model_args["steps"] == 2
    assert not {"engine", "text"} & set(log.eval.model_args)


def test_warnings_are_heard_as_before_a_run(tmp_path, caplog):
    run(tmp_path, cell())
    logging.getLogger("powercut").warning("heard")
    assert "heard" in caplog.messages


def test_a_disk_that_is_full_ends_the_run_and_loses_nothing(tmp_path):
    one = cell(benchmark(*["ab"] * 30))
    path = tmp_path / "cells" / one.name / "results.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))  # in place of a full disk: files that cannot grow
    try:
        with pytest.raises(PowercutError, match="cannot write"):
            run(tmp_path, one)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    before = path.read_bytes() if path.exists() else b""
    assert before.endswith(b"\n") or not before
    [found] = run(tmp_path, one)
    assert path.read_bytes().startswith(before)
    assert len(found) == 60


def test_variants_are_all_combinations_of_what_a_sampler_has():
    settings = {"alpha": ["2", "4"], "beta": ["1", "2"], "max_new_tokens": ["16"]}
    found = variants(["standard", "low-temperature", "entropy-cut"], settings, {"alpha": 3, "top_k": 7})
    assert [each.name for each in found] == ["standard", *["low-temperature"] * 2, *["entropy-cut"] * 4]
    assert {(c.sampler.alpha, c.sampler.beta) for c in found if c.name == "entropy-cut"} == {
        (2, 1),
        (2, 2),
        (4, 1),
        (4, 2),
    }
    assert {c.sampler.top_k for c in found} == {7}
    with pytest.raises(
        pc.SettingError, match="--steps is a setting of entropy-cut, uniform-cut: not among the samplers"
    ):
        variants(["standard"], {"steps": ["1"]}, {}, spell=lambda name: f"--{name}")
    with pytest.raises(pc.SettingError, match="there is no sampler 'entropy'"):
        variants(["entropy"], {}, {})
