"""``powercut sample`` with a fake model, in this process."""

import io
import json
import math

import pytest

from powercut.cli import main
from powercut.cli.options import template_args
from powercut.cli.prompts import read_prompts
from powercut.errors import SettingError
from powercut.samplers import SAMPLERS
from tests.cli import fake

WRITTEN = (
    b'{"prompt_index": 0, "sample_index": 0, "text": "a", "tokens": [1], "logp": -1.0, "finished": false, '
    b'"sampler": "standard", "settings": {}, "seed": 0, "model": "m", "meta": {}, "stats": {"steps": 0, '
    b'"acceptance": null, "changed": null, "tokens_decoded": 5, "tokens_prefilled": 0, "seconds": 0.1}}\n'
)

SHORT = ["--max-new-tokens", "6", "--blocks", "2", "--steps", "3"]


def run(capsys, *arguments):
    code = main(["sample", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def lines(text):
    def refuse(word):
        raise AssertionError(f"not strict JSON: {word}")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def pipe_in(monkeypatch, data: bytes):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_the_text_alone_goes_to_stdout_and_the_figures_to_stderr(engine, capsys):
    code, out, err = run(capsys, "a", *SHORT)
    assert code == 0
    assert out.count("\n") == 1
    assert set(out.strip()) <= set(fake.LETTERS)
    for part in ("log-probability -", " accepted, ", "tokens decoded", " s"):
        assert part in err


def test_completions_are_drawn_until_their_answers_agree(engine, capsys):
    """Every text has the answer "", so four of them agree; two prompts, in order."""
    sampled = ["--file", "-", "-n", "9", "--sampler", "standard", "--max-new-tokens", "6", "--answer", "^", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        pipe_in(patch, b"a\nb\n")
        code, out, _ = run(capsys, *sampled, "--agree", "0.95")
    assert code == 0
    places = [(line["prompt_index"], line["sample_index"]) for line in lines(out)]
    assert sorted(places) == [(i, j) for i in range(2) for j in range(4)]
    assert max(line["stats"]["agreement"] for line in lines(out)) == 1 - 0.5**5
    with pytest.MonkeyPatch.context() as patch:
        pipe_in(patch, b"a\nb\n")
        code, out, err = run(capsys, *sampled[:-1], "--agree", "0.95")
    assert code == 0
    assert "prompt 1, sample 3" in err
    assert "answers agree to 97%" in err


def test_agree_needs_an_answer(engine, capsys):
    code, out, err = run(capsys, "a", "-n", "4", "--agree", "0.95")
    assert (code, out) == (2, "")
    assert err == "error: agree compares answers: give answer, which finds them in a text\n"


def test_quiet_leaves_stderr_empty(engine, capsys):
    assert run(capsys, "a", "--quiet", *SHORT)[2] == ""


def test_json_has_everything_and_is_strict(engine, capsys):
    code, out, _ = run(capsys, "a", "--json", "--alpha", "inf", "--temperature", "0.25", "--seed", "3", *SHORT)
    assert code == 0
    [result] = lines(out)
    assert result["settings"]["alpha"] == "inf"
    assert result["settings"]["temperature"] == 0.25
    assert result["settings"]["max_new_tokens"] == 6
    assert (result["sampler"], result["seed"], result["model"], result["meta"]) == ("entropy-cut", 3, "fake", {})
    assert (result["prompt_index"], result["sample_index"]) == (0, 0)
    assert result["text"] == fake.LetterText().decode_now(result["tokens"])
    assert result["finished"] is (result["tokens"][-1] == fake.EOS)
    assert math.isfinite(result["logp"])
    assert {"acceptance", "changed", "steps", "tokens_decoded", "tokens_prefilled", "seconds"} <= set(result["stats"])


def test_the_same_seed_gives_the_same_text(engine, capsys):
    first = run(capsys, "a", "--seed", "7", "-n", "5", *SHORT)[1]
    assert first == run(capsys, "a", "--seed", "7", "-n", "5", *SHORT)[1]
    assert first != run(capsys, "a", "--seed", "8", "-n", "5", *SHORT)[1]


def test_texts_come_in_the_order_of_prompts_and_samples(engine, capsys, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a\n\nb\n")
    arguments = ("--file", str(prompts), "-n", "3", *SHORT)
    code, out, err = run(capsys, *arguments)
    assert code == 0
    results = {(r["prompt_index"], r["sample_index"]): r["text"] for r in lines(run(capsys, *arguments, "--json")[1])}
    assert out == "\n".join(results[i, j] + "\n" for i in range(2) for j in range(3))
    assert err.index("prompt 0, sample 2: a") < err.index("prompt 1, sample 0: b")


def test_prompts_from_stdin_lines_and_json_lines(engine, capsys, monkeypatch):
    pipe_in(monkeypatch, '﻿a\r\n{"tokens": [1, 2], "id": "q1", "odd": "\\ud800"}\n{"prompt": "b"}\n'.encode())
    code, out, _ = run(capsys, "--json", *SHORT)
    assert code == 0
    results = sorted(lines(out), key=lambda r: r["prompt_index"])
    assert [r["meta"] for r in results] == [{}, {"id": "q1", "odd": "\ud800"}, {}]


def test_a_dash_for_file_is_stdin(engine, capsys, monkeypatch):
    pipe_in(monkeypatch, b"a\n")
    assert run(capsys, "--file", "-", *SHORT)[0] == 0


def test_only_the_model_options_given_are_passed_on(engine, capsys):
    run(capsys, "a", *SHORT)
    assert fake.load.asked == (None, {"slots": 1})  # as many as there are completions
    run(
        capsys,
        "a",
        "--model",
        "M",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--slots",
        "4",
        "--context-length",
        "64",
        *SHORT,
    )
    assert fake.load.asked == ("M", {"device": "cpu", "dtype": "float32", "slots": 4, "context_length": 64})


def test_a_setting_that_is_rounded_is_noted_in_one_line(engine, capsys):
    code, _, err = run(capsys, "a", "--quiet", "--max-new-tokens", "10", "--blocks", "3", "--steps", "1")
    assert code == 0
    assert err.startswith("note: blocks=3 does not divide max_new_tokens=10")
    assert err.count("\n") == 1


def test_the_trace_has_every_step_and_the_completion(engine, capsys, tmp_path):
    trace = tmp_path / "trace.jsonl"
    code, out, _ = run(capsys, "a", "--json", "--refine-finished", "--save-trace", str(trace), *SHORT)
    assert code == 0
    *written, last = lines(trace.read_text())
    assert [line["kind"] for line in written[:4]] == ["pieces", "run", "prompt", "extend"]
    events = [line for line in written if line["kind"] in ("extend", "step")]
    assert last.pop("kind") == "completion"
    assert [last] == lines(out)
    steps = [event for event in events if event["kind"] == "step"]
    assert len(steps) + last["stats"]["null_steps"] == last["stats"]["steps"] == 6
    assert sum(event["tokens_decoded"] for event in events) == last["stats"]["tokens_decoded"]
    tokens = []
    for event in events:  # the accepted proposals make the completion
        assert {"prompt_index", "sample_index", "stage", "cut", "log_accept", "accepted", "early"} <= set(event)
        proposal = event["proposal"]
        assert len({len(proposal[name]) for name in ("tokens", "logp", "logq", "entropy")}) == 1
        assert proposal["text"] == fake.LetterText().decode_now(proposal["tokens"])
        if event["accepted"]:
            tokens = tokens[: event["cut"]] + proposal["tokens"]
    assert tokens == last["tokens"]


def test_output_takes_what_stdout_would_have_had(engine, capsys, tmp_path):
    expected = run(capsys, "a", "-n", "2", *SHORT)[1]
    target = tmp_path / "out.txt"
    code, out, _ = run(capsys, "a", "-n", "2", "--output", str(target), *SHORT)
    assert (code, out) == (0, "")
    assert target.read_text() == expected
    code, _, err = run(capsys, "a", "--output", str(target), *SHORT)
    assert code == 2
    assert "--force" in err
    assert target.read_text() == expected
    assert run(capsys, "a", "-n", "1", "--output", str(target), "--force", *SHORT)[0] == 0
    assert target.read_text() == expected.split("\n\n")[0].rstrip("\n") + "\n"


@pytest.mark.parametrize(("pattern", "satisfied"), [("^a", True), ("^x", False)])
def test_what_is_required_is_kept_with_the_completion_and_one_without_it_says_so(engine, capsys, pattern, satisfied):
    arguments = ("ab", "--require", pattern, "--min-new-tokens", "1", "--length-bonus", "-0.2", "--max-new-tokens", "8")
    code, out, _ = run(capsys, *arguments, "--blocks", "1", "--json")
    assert code == 0
    drawn = json.loads(out)
    settings = drawn["settings"]
    assert (settings["require"], settings["min_new_tokens"], settings["length_bonus"]) == (pattern, 1, -0.2)
    assert drawn["stats"]["satisfied"] is satisfied
    _, text, figures = run(capsys, *arguments, "--blocks", "1")
    assert ("without what is required" in figures) is not satisfied
    assert text.startswith("a") or not satisfied


def test_a_full_disk_loses_nothing(engine, capsys):
    expected = run(capsys, "a", "-n", "2", *SHORT)[1]
    code, out, err = run(capsys, "a", "-n", "2", "--quiet", "--output", "/dev/full", *SHORT)
    assert (code, out) == (2, expected)
    assert err == "error: cannot write /dev/full: No space left on device; the rest goes to stdout\n"
    code, out, err = run(capsys, "a", "-n", "2", "--quiet", "--save-trace", "/dev/full", *SHORT)
    assert (code, out) == (2, expected)
    assert err == "error: cannot write /dev/full: No space left on device; the rest is not saved\n"


def test_a_failing_model_spares_the_other_completions(engine, capsys, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("g\na\n")
    code, out, err = run(capsys, "--file", str(prompts), "--quiet", *SHORT)
    assert code == 2
    assert out.count("\n") == 1
    assert err == "error: prompt 0, sample 0: the model returned NaN: try dtype float32\n"
    code, out, err = run(capsys, "f", "--quiet", *SHORT)
    assert (code, out, err) == (1, "", "error: prompt 0, sample 0: ZeroDivisionError: a bug\n")


@pytest.mark.parametrize("flag", ["--json", "--quiet"])
def test_a_failed_run_leaves_files_as_they_were(flag, monkeypatch, capsys, tmp_path):
    def load(*_, **__):
        raise fake.EngineError("there is no model 'X'")

    monkeypatch.setattr("powercut.load", load)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("precious")
    code, _, err = run(capsys, "a", flag, "--output", str(old), "--save-trace", str(new), "--force")
    assert (code, err) == (2, "error: there is no model 'X'\n")
    assert old.read_text() == "precious"
    assert not new.exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([""], "the prompt is empty"),
        (["  "], "the prompt is empty"),
        (["a", "--file", "x"], "not both"),
        (["--file", "/nowhere/x"], "cannot read /nowhere/x: No such file"),
        (["--file", "/"], "Is a directory"),
        (["--file", "a\0b"], "--file: cannot read a\\u0000b: embedded null byte"),
        (["--file", "\ud800"], "--file: cannot read \\ud800: "),
        (["a", "--alpha", "abc"], "--alpha must be a number (got 'abc')"),
        (["a", "--alpha", "0.5"], "alpha must be a number of at least 1 (got 0.5)"),
        (["a", "--alpha", "nan"], "alpha must be"),
        (["a", "--alpha", "inf"], "needs a temperature"),
        (["a", "--steps", "1.5"], "--steps must be a whole number (got '1.5')"),
        (["a", "--steps", "-1"], "steps must be a whole number of at least 0"),
        (["a", "--top-k", "some"], "--top-k must be a whole number or none (got 'some')"),
        (["a", "--top-k", "0"], "top_k must be"),
        (["a", "--stop", "id:x"], "--stop id:N must name a token id"),
        (["a", "--stop", ""], "stop string cannot be empty"),
        (["a", "--sampler", "entropy-cot"], "did you mean entropy-cut?"),
        (["a", "--sampler", "xyz"], "the samplers are standard, low-temperature"),
        (["a", "--sampler", "standard", "--alpha", "2"], "a setting of low-temperature, entropy-cut, uniform-cut"),
        (
            ["a", "--sampler", "uniform-cut", "--beta", "2"],
            "--beta is a setting of entropy-cut, smc, power-smc, not of uniform-cut",
        ),
        (["a", "--sampler", "standard", "--no-early-reject"], "--early-reject is a setting of"),
        (["a", "--bete", "2"], "--bete"),
        (["a", "-n", "0"], "-n must be a whole number of at least 1 (got 0)"),
        (["a", "-n", "x"], "-n"),
        (["a", "--seed", "-1"], "--seed must be"),
        (["a", "b"], "b"),
        (["a", "--output", "/nowhere/x"], "--output: cannot write /nowhere/x: No such file or directory"),
        (["a", "--save-trace", "/"], "--save-trace: cannot write /: Is a directory"),
        (["a", "--output", "x", "--save-trace", "x"], "the same file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_before_a_model_is_loaded(no_engine, capsys, arguments, part):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert part in err


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "has no prompt"),
        (b"\n \n", "has no prompt"),
        (b"a\n\xff\n", ":2: not UTF-8"),
        (b"a\nb\0\n", ":2: a NUL byte, which no UTF-8 text has; save the file as UTF-8"),
        ("a\nb".encode("utf-16-le"), ":1: a NUL byte"),
        ("a\nb".encode("utf-16"), ": a NUL byte"),
        (b"\x1f\x8b\x08", ":1: not UTF-8"),
        (b'a\n{"prompt": \n', ":2: not a JSON object"),
        (b'{"prompt": "a"} {"prompt": "b"}', ":1: not a JSON object (Extra data"),
        (b'{"prompt": "a"},', ":1: not a JSON object (Extra data"),
        (b'{"prompt": "a", "prompt": "b"}', ':1: not a JSON object ("prompt" is there twice)'),
        (b'{"messages": [{"role": "user", "role": "system", "content": "a"}]}', '("role" is there twice)'),
        (b'{"prompt": "a", "x": ' + b"9" * 6000 + b"}", ":1: not a JSON object (Exceeds the limit"),
        (b'{"prompt": "a", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", ":1: not a JSON object (maximum recursion"),
        (b'["a"]\n["b"]\n', ":1: a list is no prompt"),
        (b"a\n[1, 2]\n", ":2: a list is no prompt: token ids are written"),
        (b"[]", "has no prompt"),
        (b"[1, 2]", ", prompt 1: a prompt is a string, a list of chat messages or a list of token ids, not int"),
        (b'["a", null]', ", prompt 2: a prompt is a string"),
        (b'["a", {"no": 1}]', ", prompt 2: an object needs one of prompt, messages, tokens"),
        (
            b'[{"role": "user", "content": "a"}]',
            ", prompt 1: an object needs one of prompt, messages, tokens (it has none",
        ),
        (b'[\n{"prompt": "a"},\n]', ": not a JSON list (Expecting value: line 3"),
        (b'[{"prompt": "a"},\n{"prompt": "b"}', ": not a JSON list (Expecting ',' delimiter: line 2"),
        (b'["a", "b",]', ":1: not a JSON list"),
        (b'["a", "b",\n"c"', ": not a JSON list"),
        (b'{"question": "a"}', ":1: an object needs one of prompt, messages, tokens"),
        (b'{"prompt": "a", "tokens": [1]}', "one of prompt, messages, tokens (it has prompt, tokens)"),
        (b'{"prompt": [1]}', ":1: prompt holds what belongs in tokens"),
        (b'{"tokens": "a"}', ":1: tokens holds what belongs in prompt"),
        (b'{"tokens": []}', ":1: the prompt is empty"),
        (b'{"tokens": [1.5]}', ":1: the prompt's token ids must be whole numbers"),
        (b'{"prompt": " "}', ":1: the prompt is empty"),
        (b'{"prompt": null}', ":1: a prompt is a string"),
        (b'{"messages": [{"role": "user"}]}', ":1: a chat message needs a role and a content"),
    ],
)
def test_a_bad_file_is_named_with_its_line(no_engine, capsys, tmp_path, content, part):
    prompts = tmp_path / "prompts"
    prompts.write_bytes(content)
    code, out, err = run(capsys, "--file", str(prompts))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {prompts}")
    assert err.count("\n") == 1
    assert part in err


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full"])
def test_prompts_that_never_end_are_refused(no_engine, capsys, monkeypatch, device):
    monkeypatch.setattr("powercut.cli.prompts._LARGEST", 1 << 20)
    code, out, err = run(capsys, "--file", device)
    assert (code, out, err) == (2, "", f"error: {device} has more than 1 MB: give it in parts\n")


def test_what_the_model_cannot_do_is_one_line_too(engine, capsys):
    for arguments in (["--chat"], ["--system", "be brief"]):
        code, out, err = run(capsys, "a", *arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1


def test_without_a_prompt_on_a_terminal_it_says_how_to_give_one(no_engine, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    code, _, err = run(capsys)
    assert code == 2
    assert "--file FILE, or on stdin" in err


SMALL = {
    "standard": [],
    "low-temperature": ["--alpha", "2"],
    "entropy-cut": ["--blocks", "2", "--steps", "3", "--tries", "2"],
    "uniform-cut": ["--blocks", "2", "--steps", "3"],
    "smc": ["--particles", "4", "--block-size", "2", "--moves", "1"],
    "power-smc": ["--particles", "4", "--block-size", "2", "--ramp-tokens", "3"],
    "tmc": ["--candidates", "4", "--keep", "2", "--rollouts", "2", "--horizon", "2", "--block-size", "3"],
    "rejection": ["--alpha", "1.5"],
    "best-of-n": ["--n", "3", "--select", "majority", "--answer", "[ab]"],
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_runs_by_its_name(engine, capsys, name):
    arguments = ("a", "--sampler", name, "--max-new-tokens", "6", "--seed", "1", *SMALL[name])
    code, out, err = run(capsys, *arguments)
    assert (code, out.count("\n")) == (0, 1)
    assert ("log Z " in err) == name.endswith("smc")
    assert ("best of 3" in err) == (name == "best-of-n")
    [result] = lines(run(capsys, *arguments, "--json")[1])
    assert result["sampler"] == name
    assert result["text"] + "\n" == out
    for flag, value in zip(SMALL[name][::2], SMALL[name][1::2], strict=True):
        assert str(result["settings"][flag[2:].replace("-", "_")]) in (value, f"{value}.0")


def test_best_of_n_matches_what_a_run_wrote(engine, capsys, tmp_path):
    written = tmp_path / "cuts.jsonl"
    prompts = tmp_path / "prompts"
    prompts.write_text("a\nb\n")
    both = ["--file", str(prompts), "-n", "3", "--json", "--quiet"]
    assert run(capsys, *both, "--output", str(written), *SHORT)[0] == 0
    spent = {(r["prompt_index"], r["sample_index"]): r["stats"]["tokens_decoded"] for r in lines(written.read_text())}
    best = ["--sampler", "best-of-n", "--max-new-tokens", "6"]
    code, out, err = run(capsys, *both, *best, "--match", str(written))
    assert (code, err) == (0, "")
    assert len(lines(out)) == 6
    for result in lines(out):
        budget = spent[result["prompt_index"], result["sample_index"]]
        assert result["settings"]["budget"] == budget <= result["stats"]["tokens_decoded"] < budget + 6
        assert result["stats"]["candidates"] >= 1
    # one more than there are
    code, out, err = run(capsys, "--file", str(prompts), "-n", "4", "--quiet", *best, "--match", str(written))
    assert (code, out) == (2, "")
    assert err.startswith("error: match has no completion for prompt 0, sample 3: draw as many there")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "out.jsonl cannot be read: No such file or directory"),
        (b"", " has no completions"),
        (b'{"prompt_index": 0}\n', ":1 is no completion that powercut wrote: it has no sample_index"),
        (b"\n" + WRITTEN + b"x\n", ":3 is no completion that powercut wrote"),
        (b"[]\n", ":1 is no completion that powercut wrote: it is no JSON object"),
        (b"\xff\n", ":1 is no completion that powercut wrote"),
        (WRITTEN.replace(b'"sample_index": 0', b'"sample_index": "a"'), "sample_index must be a whole number"),
        (WRITTEN * 2, "two completions for prompt 0, sample 0"),
    ],
)
def test_a_file_that_cannot_be_matched_is_one_line(no_engine, capsys, tmp_path, content, part):
    written = tmp_path / "out.jsonl"
    if content is not None:
        written.write_bytes(content)
    code, out, err = run(capsys, "a", "--sampler", "best-of-n", "--match", str(written))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert part in err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["smc", "--steps", "3"], "--steps is a setting of entropy-cut, uniform-cut, not of smc"),
        (["power-smc", "--temperature", "1"], "not of power-smc"),
        (["tmc", "--particles", "3"], "--particles is a setting of smc, power-smc, not of tmc"),
        (["best-of-n", "--alpha", "2"], "not of best-of-n"),
        (["smc", "--alpha", "inf"], "alpha must be a number from 1 to 1000 (got inf)"),
        (["smc", "--ess-threshold", "2"], "ess_threshold must be a number from 0 to 1 (got 2.0)"),
        (["best-of-n", "--select", "best"], "--select must be mean-logp or logp or majority (got 'best')"),
        (["best-of-n", "--select", "majority"], "select majority counts answers: give answer, which finds them"),
        (["entropy-cut", "--tries", "0"], "tries must be a whole number of at least 1 (got 0)"),
    ],
)
def test_flags_that_do_not_fit_a_sampler(no_engine, capsys, arguments, part):
    code, out, err = run(capsys, "a", "--sampler", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert part in err


def write(tmp_path, content):
    file = tmp_path / "prompts"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)


def test_a_json_list_is_read_as_prompts(engine, capsys, tmp_path):
    file = write(tmp_path, '[{"prompt": "a", "id": 1},\n "b",\n {"tokens": [3]}]\n')
    code, out, _ = run(capsys, "--file", file, "--json", *SHORT)
    assert code == 0
    assert {r["prompt_index"]: r["meta"] for r in lines(out)} == {0: {"id": 1}, 1: {}, 2: {}}  # as they finish


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        ("\ufeff\ufeff" + '{"tokens": [1]}\n\ufeff{"tokens": [2]}\n', [[1], [2]]),
        ("\ufeff" + '["a", "b"]', ["a", "b"]),
        ('[[1, 2], [{"role": "user", "content": "c"}], {"messages": [{"role": "user", "content": "d"}]}]', "mixed"),
        ("a\r\nb\rc", ["a", "b", "c"]),
        ('{"prompt": "a"}\r\n{"prompt": "b"}', ["a", "b"]),
        ("a\u2028b\u0085c\x0bd\n", ["a\u2028b\u0085c\x0bd"]),
        ("[ab]\n[b] a\n[INST] c [/INST]\n[1] and [2]\n", ["[ab]", "[b] a", "[INST] c [/INST]", "[1] and [2]"]),
        ('["a"] and on\n', ['["a"] and on']),
        ('"a"\n', ['"a"']),
        ('{"prompt": "a\\u0000b"}', ["a\0b"]),
        ('{"prompt": "\\ud83d\\ude00"}', ["😀"]),
        (
            '{"messages": [{"role": "user", "content": ["a", {"text": "b"}, {"type": "input_text", "text": "c"}]}]}',
            "abc",
        ),
    ],
)
def test_what_a_file_holds(content, prompts, tmp_path):
    found = [asked.prompt for asked in read_prompts(None, write(tmp_path, content))]
    if prompts == "mixed":
        prompts = [[1, 2], *([{"role": "user", "content": letter}] for letter in "cd")]
    if prompts == "abc":
        prompts = [[{"role": "user", "content": "abc"}]]
    assert found == prompts


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "cut \\ud83d"}', "character 5 of the prompt is half a character"),
        ('{"messages": [{"role": "user", "content": "\\ud83d"}]}', "character 1 of the prompt is half a character"),
        ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "parts of text alone"),
        ('{"prompt": 7}', "a prompt is a string"),
    ],
)
def test_a_bad_line_is_named_and_may_be_skipped(engine, capsys, tmp_path, line, reason):
    file = write(tmp_path, f"a\n{line}\nb\n")
    code, out, err = run(capsys, "--file", file, *SHORT)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {file}:2: ")
    assert reason in err
    code, out, err = run(capsys, "--file", file, "--skip-bad", "--json", *SHORT)
    assert code == 0
    assert len(lines(out)) == 2
    assert f"skipped: {file}:2: " in err


def test_a_prompt_that_the_engine_cannot_take_is_named_and_may_be_skipped(engine, capsys, tmp_path, monkeypatch):
    def check(self, request):
        if (request.prompt_length or len(request.context)) > 3:
            raise SettingError("the prompt is too long: shorten it")

    monkeypatch.setattr(fake.FakeEngine, "check", check)
    file = write(tmp_path, "a\nabcde\nb\n")
    code, out, err = run(capsys, "--file", file, "--quiet", *SHORT)
    assert (code, out, err) == (2, "", f"error: {file}:2: the prompt is too long: shorten it\n")
    code, out, err = run(capsys, "--file", file, "-n", "2", "--skip-bad", "--quiet", "--json", *SHORT)
    assert code == 0
    assert {r["prompt_index"] for r in lines(out)} == {0, 2}
    assert err == f"skipped: {file}:2: the prompt is too long: shorten it\n"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("enable_thinking=false", False),
        ("a=", ""),
        ("a=x=y", "x=y"),
        ("a=1", 1),
        ("a=01", "01"),
        ('a="1"', "1"),
        ("a=no", "no"),
        ("a=null", None),
        ('a={"b": [1.5]}', {"b": [1.5]}),
        ("a=NaN", "NaN"),
        ("a=-Infinity", "-Infinity"),
        ("a=1e999", "1e999"),
        ("a=" + "9" * 5000, "9" * 5000),
        ("a=" + "[" * 10**5, "[" * 10**5),
    ],
)
def test_a_template_arg_is_json_or_a_text(written, read):
    assert list(template_args([written]).values()) == [read]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["think"], "--template-arg must be NAME=VALUE, such as enable_thinking=false (got 'think')"),
        (["=false"], "must be NAME=VALUE"),
        ([""], "must be NAME=VALUE"),
        (["a=1", "a=2"], "--template-arg a is given twice"),
        (["messages=x"], "'messages' is no variable of yours to set"),
        (["a b=x"], "'a b' is no variable of yours to set"),
        (["a=\udcff"], "character 2 of template_args: a is half a character"),
        (["a=1", "--raw"], "a raw prompt goes through no chat template"),
    ],
)
@pytest.mark.parametrize("command", ["sample", "verify"])
def test_template_args_that_cannot_be(no_engine, capsys, command, arguments, part):
    words = [word for each in arguments for word in ([each] if each == "--raw" else ["--template-arg", each])]
    chat = ["--chat"] if command == "verify" and "--raw" not in words else []
    assert main([command, "a", *chat, *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert part in err


def test_template_args_without_a_template(engine, capsys):
    code, out, err = run(capsys, "a", "--template-arg", "think=false", *SHORT)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "goes through no chat template" in err


def test_an_argument_that_is_no_utf_8_is_refused(no_engine, capsys):
    code, _, err = run(capsys, "caf\udce9")
    assert code == 2
    assert "character 4 of the prompt is half a character" in err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--stop", "--json"], "--stop needs a value (if --json is meant: --stop=--json)"),
        (["--system", "--raw"], "--system needs a value"),
        (["-n", "-q"], "-n needs a value"),
        (["--output", "--force"], "--output needs a value"),
        (["--stop", "\udcff"], "character 1 of a stop string is half a character"),
        (["--system", "\udcff"], "character 1 of the system message is half a character"),
        (["--stop", "id:-1"], "stop must be texts and token ids of at least 0 and below 2^63"),
        (["--stop", f"id:{2**63}"], "stop must be texts and token ids of at least 0 and below 2^63"),
        (["--seed", str(2**63)], "--seed must be a whole number from 0 to 9223372036854775807"),
        (["--file", "x\0y"], "give a PROMPT or --file"),
    ],
)
def test_flags_that_cannot_be(no_engine, capsys, arguments, part):
    code, out, err = run(capsys, "a", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert part in err


def test_a_path_that_cannot_be(no_engine, capsys):
    assert run(capsys, "--file", "x\0y")[::2] == (2, "error: --file: cannot read x\\u0000y: embedded null byte\n")


def test_a_flag_that_is_given_twice_is_noted(engine, capsys):
    plain = run(capsys, "a", "--quiet", "--seed", "2", *SHORT)
    assert run(capsys, "a", "--seed", "1", "--quiet", "--seed=2", "--quiet", *SHORT) == (
        0,
        plain[1],
        "note: --seed is given 2 times: the last one holds\n",
    )
    code, _, err = run(capsys, "a", "--quiet", "--chat", "--raw", *SHORT)
    assert (code, err) == (0, "note: --chat/--raw is given 2 times: the last one holds\n")
    assert run(capsys, "a", "--quiet", "--stop", "x", "--stop=--json", *SHORT)[::2] == (0, "")


def test_large_seeds_are_seeds(engine, capsys):
    [result] = lines(run(capsys, "a", "--seed", str(2**63 - 1), "--json", *SHORT)[1])
    assert result["seed"] == 2**63 - 1


def test_a_reason_that_holds_for_many_is_said_twice(engine, capsys):
    code, out, err = run(
        capsys, "a", "-n", "50", "--max-total-tokens", "9", "--concurrency", "1", "--json", "--quiet", *SHORT
    )
    drawn = len(out.splitlines())
    reason = "not started: the 9 tokens of max_total_tokens are spent"
    assert (code, err) == (
        2,
        f"error: prompt 0, sample {drawn}: {reason}\nerror: {49 - drawn} more completions failed so: {reason}\n",
    )


@pytest.mark.parametrize(
    ("written", "meant"), [(r"\n", "\n"), (r"\n\n", "\n\n"), (r"\t", "\t"), (r"\nabla", r"\nabla")]
)
def test_a_stop_that_is_an_escape_is_the_character(engine, capsys, written, meant):
    [result] = lines(run(capsys, "a", "--stop", written, "--json", *SHORT)[1])
    assert result["settings"]["stop"] == [meant]
