"""``powercut reproduce`` with a fake model, in this process."""

import json

import pytest

from powercut.cli import main
from powercut.cli import reproduce as command

ARMS = ["standard", "low-temperature", "smc", "tmc", "uniform-cut", "entropy-cut", "best-of-n", "best-of-n"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_MEASURE", 0.2)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"problem": f"abc{'d' * i}", "answer": str(i)}) + "\n" for i in range(4)))
    return ["--data", str(file), "--scale", "0.005"]


def run(capsys, *arguments):
    code = main(["reproduce", *arguments])
    return code, *capsys.readouterr()


def test_a_table_with_one_command(engine, data, capsys, tmp_path):
    out = tmp_path / "run"
    arguments = ["math500", *data, "--seeds", "2", "--rule", "published", "--quiet", "--out", str(out)]
    code, table, err = run(capsys, *arguments)
    assert code == 0, err
    assert "math500: 1 problems x 2 seeds x 8 samplers, of up to 16 tokens" in err
    assert "tokens if no completion ends early; measuring" in err
    assert "tokens a completion: about" in err
    lines = [line.split("\t") for line in table.splitlines()]
    assert sorted(line[1].split(" ")[0] for line in lines[1:]) == sorted(ARMS)
    assert (out / "report" / "report.html").is_file()
    cells = [json.loads(file.read_text()) for file in out.glob("cells/*/cell.json")]
    assert {cell["prompt_style"] for cell in cells} == {"paper"}
    assert {cell["settings"].get("rule") for cell in cells} == {None, "published"}
    code, again, err = run(capsys, *arguments)
    assert (code, again) == (0, table)
    assert "nothing is left to sample" in err


def test_steps_are_kept_and_have_pages(engine, data, capsys, tmp_path):
    out = tmp_path / "run"
    code, _, err = run(capsys, "math500", *data, "--seeds", "1", "--save-trace", "--quiet", "--out", str(out))
    assert code == 0, err
    assert len(list(out.glob("cells/*/steps/*.jsonl.gz"))) == len(ARMS)
    assert (out / "report" / "completions.html").is_file()


def test_an_estimate_samples_nothing(engine, data, capsys, tmp_path):
    code, table, err = run(capsys, "math500", *data, "--estimate", "--quiet", "--out", str(tmp_path / "run"))
    assert (code, table) == (0, "")
    assert "tokens in all" in err
    assert not list((tmp_path / "run").glob("cells/*/results.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["gsm8k"], "there is no table of 'gsm8k': the paper has math500, humaneval, gpqa-diamond, aime26"),
        (["math500", "--scale", "0"], "scale must be from 0.001 to 1 (got 0)"),
        (["math500", "--scale", "nan"], "scale must be from 0.001 to 1 (got nan)"),
        (["math500", "--seeds", "0"], "--seeds must be at least 1"),
        (["math500", "--rule", "other"], "rule must be exact or published"),
        (["math500", "--style", "papre"], "did you mean paper"),
    ],
)
def test_bad_input_is_one_line(engine, data, capsys, tmp_path, arguments, part):
    code, _, err = run(
        capsys, *arguments, "--quiet", "--out", str(tmp_path / "run"), *data[: 2 if "--scale" in arguments else 4]
    )
    assert code == 2
    assert part in err.splitlines()[-1]
