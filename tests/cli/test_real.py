"""The whole way: ``powercut sample`` with a tiny transformer from a local folder."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from powercut.cli import main
from powercut.samplers import SAMPLERS
from tests.tiny import tiny_llama_folder

SIZES = ["--slots", "2", "--context-length", "128", "--device", "cpu"]
SHORT = ["--max-new-tokens", "8", "--blocks", "2", "--steps", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_llama_folder(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def run(folder, capsys):
    def run(*arguments):
        code = main(["sample", "--model", folder, *SIZES, *SHORT, *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


SMALL = {
    "entropy-cut": ["--blocks", "2", "--steps", "2"],
    "uniform-cut": ["--blocks", "2", "--steps", "2"],
    "smc": ["--particles", "4", "--block-size", "3"],
    "power-smc": ["--particles", "4", "--block-size", "3"],
    "tmc": ["--candidates", "4", "--keep", "2", "--rollouts", "2", "--horizon", "3", "--block-size", "3"],
    "best-of-n": ["--budget", "20"],
    "rejection": ["--alpha", "1.01"],
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_a_completion(folder, capsys, sampler):
    steps = SMALL.get(sampler, [])
    arguments = ["sample", "hello", "--model", folder, *SIZES, "--max-new-tokens", "8", "--sampler", sampler, *steps]
    assert main([*arguments, "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["sampler"] == sampler
    assert result["model"] == folder
    assert 1 <= len(result["tokens"]) <= 8
    assert err == ""


def test_chat_raw_and_system_prompts_differ(run):
    def tokens(*arguments):
        return json.loads(run("hello", "--json", *arguments)[1])["tokens"]

    chat, raw, system = tokens(), tokens("--raw"), tokens("--system", "be brief")
    assert tokens("--chat") == chat
    assert len({tuple(chat), tuple(raw), tuple(system)}) == 3


def test_template_args_reach_the_template_and_the_record(folder, tmp_path, capsys):
    other = tmp_path / "thinking"
    shutil.copytree(folder, other)
    template = (other / "chat_template.jinja").read_text()
    (other / "chat_template.jinja").write_text("{% if think == false %}<|system|>brief<|end|>{% endif %}" + template)

    def draw(*arguments):
        assert main(["sample", "hello", "--json", "--model", str(other), *SIZES, *SHORT, *arguments]) == 0
        result = json.loads(capsys.readouterr().out)
        return result["tokens"], result["template_args"]

    plain, none = draw()
    assert none is None
    assert draw("--template-arg", "think=false") == (draw("--system", "brief")[0], {"think": False})
    assert draw("--template-arg", "think=true") == (plain, {"think": True})
    for command in (["sample"], ["verify", "--chat"]):
        assert main([*command, "hello", "--model", str(other), *SIZES, "--template-arg", "thnk=false"]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.endswith("the chat template has no variable thnk (did you mean think?); it has think\n")


def test_a_stop_string_is_not_shown(run):
    text = json.loads(run("hello", "--json")[1])["text"]
    stop = text[2:4]
    result = json.loads(run("hello", "--json", "--stop", stop)[1])
    assert stop not in result["text"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["hello" * 40], "context_length"),
        (["hello", "--top-k", "100000"], "top_k=100000 is larger than the vocabulary"),
        (["hello", "--stop", "id:260"], "stop: there is no token 260 in the vocabulary of 260"),
        (["hello", "--context-length", "100000"], "context_length"),
        (["hello", "--slots", "0"], "slots must be"),
        (["hello", "--dtype", "float7"], "dtype"),
        (["hello", "--device", "nowhere"], "device"),
        (["hello", "--model", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_what_the_model_cannot_do_is_one_line_and_exit_code_2(run, arguments, part):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    said = [line for line in err.splitlines() if not line.startswith("note: ")]  # of SIZES given twice
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert part in said[0]


def test_chat_without_a_template_names_the_remedy(tmp_path, capsys):
    folder = tiny_llama_folder(tmp_path / "tiny", chat_template=False)
    assert main(["sample", "hello", "--chat", "--model", str(folder), *SIZES, *SHORT]) == 2
    err = capsys.readouterr().err
    assert "use --raw" in err
    assert err.count("\n") == 1


def test_ctrl_c_ends_a_decode_cleanly(folder, tmp_path):
    """A horizon of many thousand tokens without a stop: it is still at work when the first event is on disk."""
    trace = tmp_path / "trace.jsonl"
    command = [sys.executable, "-c", "import sys; from powercut.cli import main; sys.exit(main())"]
    settings = ["--max-new-tokens", "120", "--blocks", "60", "--steps", "1000", "--refine-finished"]
    arguments = ["sample", "a", "--raw", "--model", folder, *SIZES, *settings, "--save-trace", str(trace), "--quiet"]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    ) as process:
        while not (trace.exists() and trace.stat().st_size):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "interrupted: 0 of 1 completions finished\n")
    kinds = {json.loads(line)["kind"] for line in Path(trace).read_text().splitlines()}
    assert kinds <= {"run", "prompt", "pieces", "extend", "step"}
