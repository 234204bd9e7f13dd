"""What ``powercut sample`` draws and writes, with a fake model, in this process."""

import json
import math

import pytest

from powercut.samplers import SAMPLERS
from tests.cli import fake
from tests.cli.sample_tools import SHORT, lines, pipe_in, run

WRITTEN = (
    b'{"prompt_index": 0, "sample_index": 0, "text": "a", "tokens": [1], "logp": -1.0, "finished": false, '
    b'"sampler": "standard", "settings": {}, "seed": 0, "model": "m", "meta": {}, "stats": {"steps": 0, '
    b'"acceptance": null, "changed": null, "tokens_decoded": 5, "tokens_prefilled": 0, "seconds": 0.1}}\n'
)


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
