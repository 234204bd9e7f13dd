"""What is written to disk is read again as it was, and what is not is named with its place."""

import json
import os
from dataclasses import fields, replace

import numpy as np
import pytest

from powercut.errors import SettingError
from powercut.records import (
    MEASURES,
    CellFacts,
    Completed,
    Result,
    RunFacts,
    as_result,
    measures,
    read_cell,
    read_completions,
    read_results,
    read_run,
)
from powercut.step_lines import proposed
from powercut.strict_json import from_json, json_file, json_line, strict
from powercut.trace import Completion, Event, Stats, Step, Trace

STATS = Stats(
    3, acceptance=1 / 3, changed=1 / 6, tokens_decoded=9, tokens_prefilled=4, seconds=0.5, log_z=-2.0, ess=(1.5, 2.0)
)
TRACE = Trace([1, 2**40], [-0.5, float("-inf")], [-0.25, -0.5], [0.5, 1.5], finished=True)
COMPLETION = Completion(TRACE, STATS, text="é\n\udc80", prompt_index=2, sample_index=1)
DRAWN_WITH = {"sampler": "smc", "settings": {"alpha": float("inf")}, "seed": 7, "model": "m", "meta": {"id": [None]}}


def save(file, *lines):
    file.write_text(
        "".join(line if isinstance(line, str) else json_line(line) for line in lines), errors="backslashreplace"
    )
    return file


def read_back(kind, value):
    return from_json(kind, json.loads(json_line(value)))


def test_a_completion_is_read_again_as_it_was(tmp_path):
    written = Completed.of(COMPLETION, **DRAWN_WITH)
    step = Event(1, 4, Step(1, 0, -0.5, True, False, 2), TRACE, TRACE)
    file = save(tmp_path / "c", proposed(2, 1, step, "x"), written, "\n", {"kind": "completion", **strict(written)})
    for found in read_completions(file):
        assert (found.text, found.logp, found.stats, found.meta) == ("é\n\udc80", float("-inf"), STATS, {"id": [None]})
        assert (found.prompt_index, found.sample_index, found.finished, found.seed) == (2, 1, True, 7)
        assert found.tokens.tolist() == [1, 2**40]
        assert found.settings == {"alpha": "inf"}


def test_proposals():
    extend = Event(0, 4, None, TRACE[1:], TRACE)
    place = {"prompt_index": 2, "sample_index": 1}
    found = json.loads(json_line(proposed(2, 1, extend, None)))
    proposal = {"tokens": [2**40], "logp": ["-inf"], "logq": [-0.5], "entropy": [1.5]}
    proposal |= {"finished": True, "likely": None, "text": None}
    assert found == {
        "kind": "extend",
        **place,
        "stage": 0,
        "cut": 1,
        "log_accept": None,
        "accepted": True,
        "early": False,
        "tokens_decoded": 1,
        "proposal": proposal,
    }
    step = Step(stage=3, cut=1, log_accept=float("-inf"), accepted=False, early=True, tokens_decoded=1)
    found = json.loads(json_line(proposed(2, 1, replace(extend, step=step), "a")))
    assert (found["kind"], found["cut"], found["log_accept"], found["early"]) == ("step", 1, "-inf", True)
    assert {name for name in found if name not in ("kind", "proposal", *place)} == {f.name for f in fields(Step)}


def test_a_result_is_read_again_as_it_was(tmp_path):
    assert set(MEASURES) <= {field.name for field in fields(Result)}
    own = {"id": "p", "seed": 1, "correct": True, "answer": "4", "text": "é\udc80"}
    written = as_result(strict({**measures(COMPLETION), **own}))
    assert (written.logp, written.entropy, written.tokens, written.finished) == (float("-inf"), 1.0, 2, True)
    assert (written.acceptance, written.steps, written.tokens_decoded, written.log_z) == (1 / 3, 3, 9, -2)
    [(found, line)] = read_results(save(tmp_path / "r", written), pytest.fail)
    assert found == written
    assert line == json_line(written).encode("utf-8", "backslashreplace")
    [(found, _)] = read_results(tmp_path / "r", pytest.fail, texts=False)
    assert found == replace(written, text=None)
    assert list(read_results(tmp_path / "nowhere", pytest.fail)) == []


def test_an_older_or_newer_powercut_may_lack_or_add_fields():
    line = '{"task": "t", "id": 3, "seed": 0, "correct": false, "logp": -1, "acceptance": 0.5, "new": {"a": []}}'
    found = as_result(json.loads(line))
    assert (found.id, found.logp, found.changed, found.text) == (3, -1, None, None)


def test_cells_and_runs_are_read_again_as_they_were(tmp_path):
    cell = CellFacts(task="t", model="m", sampler="s", settings={"stop": ["\n"]}, seeds=(0, 1), problems=3, matched="c")
    (tmp_path / "cell.json").write_text(json_file(cell))
    assert read_cell(tmp_path / "cell.json") == cell
    assert read_run(tmp_path) is None
    run = RunFacts(argv=("powercut", "eval"), created="2026", git={"dirty": True}, resumed=({"argv": ["x"]},))
    (tmp_path / "run.json").write_text(json_file(run))
    assert read_run(tmp_path) == run


HUGE = "9" * 400
BAD = [
    ("", "Expecting value"),
    ("[]", "it is no JSON object"),
    ("null", "it is no JSON object"),
    ('"text"', "it is no JSON object"),
    ("[" * 100_000, "maximum recursion depth exceeded"),
    ("\x00", "Expecting value"),
    ('{"seed": 1', "Expecting"),
]
BAD_RESULTS = [
    ("{}", "it has no id"),
    ('{"id": "a"}', "it has no correct"),
    ('{"id": null, "correct": true}', "id must be a text (it is null)"),
    ('{"id": "a", "correct": 1}', "correct must be true or false (it is 1)"),
    ('{"id": "a", "correct": true, "seed": "0"}', 'seed must be a whole number below 2^63 (it is "0")'),
    ('{"id": "a", "correct": true, "seed": 1.0}', "seed must be a whole number below 2^63 (it is 1.0)"),
    ('{"id": "a", "correct": true, "seed": true}', "seed must be a whole number below 2^63 (it is true)"),
    (f'{{"id": "a", "correct": true, "seed": {2**63}}}', f"below 2^63 (it is {2**63})"),
    (f'{{"id": "a", "correct": true, "logp": {HUGE}}}', "logp must be a number below 2^63 (it is 99999"),
    (f'{{"id": "a", "correct": true, "logp": {HUGE * 20}}}', "Exceeds the limit"),
    ('{"id": "a", "correct": true, "logp": "low"}', 'logp must be a number below 2^63 (it is "low")'),
    ('{"id": "a", "correct": true, "logp": [1]}', "logp must be a number below 2^63 (it is [1])"),
    ('{"id": "a", "correct": true, "seconds": false}', "seconds must be a number below 2^63 (it is false)"),
    ('{"id": "a", "correct": true, "error": {}}', "error must be a text (it is {})"),
    ('{"id": "a", "correct": true, "text": 3}', "text must be a text (it is 3)"),
]


@pytest.mark.parametrize(("line", "reason"), [*BAD[1:], *BAD_RESULTS])
def test_a_line_that_is_no_result_is_named(tmp_path, line, reason):
    good = {"id": "a", "correct": True}
    file = save(tmp_path / "results.jsonl", good, line + "\n", good, line)
    bad = []
    assert len(list(read_results(file, bad.append))) == 2
    assert [(each.place, each.torn) for each in bad] == [(f"{file}:2", False), (f"{file}:4", True)]
    assert all(reason in each.reason and len(each.reason) < 250 for each in bad)


def completed(**changes):
    return json.dumps({**strict(Completed.of(COMPLETION, **DRAWN_WITH)), **changes})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        *BAD[1:],
        ("{}", "it has no prompt_index"),
        (completed(prompt_index="0"), "prompt_index must be a whole number"),
        (completed(tokens=3), "tokens must be a list (it is 3)"),
        (completed(tokens=[2**63]), f"each of tokens must be a whole number below 2^63 (it is {2**63})"),
        (completed(tokens=[1.5]), "each of tokens must be a whole number below 2^63 (it is 1.5)"),
        (completed(logp=None), "logp must be a number"),
        (completed(settings=[]), "settings must be an object (it is [])"),
        (completed(stats={}), "it has no steps"),
        (completed(stats=None), "it is no JSON object"),
    ],
)
def test_a_line_that_is_no_completion_is_named(tmp_path, line, reason):
    file = save(tmp_path / "c.jsonl", completed() + "\n", line + "\n")
    with pytest.raises(SettingError) as error:
        read_completions(file)
    assert str(error.value).startswith(f"{file}:2 is no completion that powercut wrote: ")
    assert reason in str(error.value)


def test_a_file_without_completions(tmp_path):
    for name, message in (("nowhere", "cannot be read: No such file"), (".", "cannot be read: Is a directory")):
        with pytest.raises(SettingError, match=message):
            read_completions(tmp_path / name)
    step = {"kind": "step"}
    with pytest.raises(SettingError, match="has no completions"):
        read_completions(save(tmp_path / "trace", step))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *BAD,
        ("{}", "it has no task"),
        ('{"task": "t", "model": 3}', "model must be a text (it is 3)"),
        ('{"task": "t", "model": "m", "sampler": "s", "settings": []}', "settings must be an object (it is [])"),
        ('{"task": "t", "model": "m", "sampler": "s", "settings": {}, "seeds": 4}', "seeds must be a list (it is 4)"),
        (
            f'{{"task": "t", "model": "m", "sampler": "s", "settings": {{}}, "seeds": [{HUGE}]}}',
            "each of seeds must be",
        ),
        ('{"task": "t", "model": "m", "sampler": "s", "settings": {}, "problems": "5"}', "problems must be a whole"),
        ('{"task": "t", "model": "m", "sampler": "s", "settings": {}, "data": "x"}', "data must be an object"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(tmp_path, text, reason):
    file = tmp_path / "cell.json"
    file.write_text(text)
    with pytest.raises(SettingError) as error:
        read_cell(file)
    assert str(error.value).startswith(f"{file} cannot be read: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *BAD,
        ('{"format": "1"}', 'format must be a whole number below 2^63 (it is "1")'),
        ('{"format": null}', "format must be a whole number"),
        ('{"format": 1, "argv": "powercut eval"}', "argv must be a list"),
        ('{"format": 1, "argv": [1]}', "each of argv must be a text"),
        ('{"format": 1, "git": "abc"}', "git must be an object"),
        ('{"format": 1, "resumed": {}}', "resumed must be a list"),
        ('{"format": 1, "resumed": [3]}', "each of resumed must be an object"),
        ('{"format": 1, "created": 2026}', "created must be a text"),
        ('{"format": 1, "engines": ["m"]}', "engines must be an object"),
    ],
)
def test_a_run_that_cannot_be_read_is_named(tmp_path, text, reason):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(SettingError) as error:
        read_run(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'run.json'} cannot be read: ")
    assert reason in str(error.value)


def test_arrays_infinities_and_records_become_strict_json():
    value = {"a": np.array([1.5, np.nan]), "b": (float("-inf"), np.int64(3)), 4: {"c": None}, "r": RunFacts()}
    found = json.loads(json_line(value))
    assert (found["a"], found["b"], found["4"], found["r"]["format"]) == ([1.5, None], ["-inf", 3], {"c": None}, 1)


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero")])
def test_what_need_not_end_is_not_read(tmp_path, make):
    file = tmp_path / "run.json"
    make(file)
    for read in (read_cell, read_completions, lambda file: read_run(file.parent)):
        with pytest.raises(SettingError, match=r"run\.json cannot be read: It is no file"):
            read(file)
    with pytest.raises(OSError, match="It is no file"):
        list(read_results(file, pytest.fail))
