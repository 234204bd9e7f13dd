"""The flags of ``powercut sample``: which go with what, and values that cannot be."""

import pytest

from powercut.cli import main
from powercut.cli.options import template_args
from tests.cli import fake
from tests.cli.sample_tools import SHORT, lines, run


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


def test_what_the_model_cannot_do_is_one_line_too(engine, capsys):
    for arguments in (["--chat"], ["--system", "be brief"]):
        code, out, err = run(capsys, "a", *arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1


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


@pytest.mark.parametrize(
    ("written", "meant"), [(r"\n", "\n"), (r"\n\n", "\n\n"), (r"\t", "\t"), (r"\nabla", r"\nabla")]
)
def test_a_stop_that_is_an_escape_is_the_character(engine, capsys, written, meant):
    [result] = lines(run(capsys, "a", "--stop", written, "--json", *SHORT)[1])
    assert result["settings"]["stop"] == [meant]
