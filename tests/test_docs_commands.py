"""Every powercut command of the docs runs, with a table in place of the model and numbers made small."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

import powercut
from powercut.cli import main
from powercut.cli import reproduce as reproduce_command
from powercut.samplers import SAMPLERS
from tests.letters import Letters
from tests.pages import PAGES, ROOT, commands, spans
from tests.report import example

ALPHABET = "\0" + "".join(map(chr, range(32, 127))) + "\n"
END = 0


class PlainText(Letters):
    """A token for each printable character; the first ends a completion, and is not shown."""

    has_chat_template = True

    async def encode(self, text):
        return await super().encode("".join(letter if letter in ALPHABET else "?" for letter in text))

    async def encode_chat(self, messages, template_args=None):
        return await self.encode("\n".join(message["content"] for message in messages))

    def decode_now(self, tokens):
        return super().decode_now([token for token in tokens if token != END])


def law(context):
    """Digits, spaces, and an end."""
    probs = dict.fromkeys(map(ALPHABET.index, "0123456789"), 0.06) | {ALPHABET.index(" "): 0.2, END: 0.2}
    return [probs.get(token, 0.0) for token in range(len(ALPHABET))]


real_load = powercut.load


def load(model=None, /, **options):
    """In place of ``powercut.load``, for whatever model but the one that comes with powercut and is small itself."""
    if model is not None and Path(model).name == "anchor-lm":
        return real_load(model, **options)
    engine = powercut.TableEngine(law, END, text=PlainText(ALPHABET))
    engine.name = "smollm2"
    return engine


STEPS = {"--max-new-tokens": 25, "--blocks": 2, "--steps": 2}
PARTICLES = {"--max-new-tokens": 25, "--particles": 2, "--block-size": 4}
OF_SAMPLERS = {
    "standard": {"--max-new-tokens": 25},
    "low-temperature": {"--max-new-tokens": 25},
    "entropy-cut": STEPS,
    "uniform-cut": STEPS,
    "smc": PARTICLES,
    "power-smc": PARTICLES | {"--ramp-tokens": 4},
    "tmc": {"--max-new-tokens": 25, "--block-size": 4, "--candidates": 2, "--keep": 1, "--rollouts": 1, "--horizon": 2},
    "best-of-n": {"--max-new-tokens": 25},
    "rejection": {"--max-new-tokens": 2},
}
SMALL = {
    "eval": {"--limit": 1, "--seeds": 1},
    "reproduce": {"--scale": 0.001, "--seeds": 1},
    "serve": {"--port": 0},
    "verify": {"--draws": 100},
    "study anchors": {"--problems": 2, "--steps": 2, "--jobs": 1},
    "study decisions": {"--cuts": 4, "--redraws": 4, "--max-new-tokens": 12},
    "study divergence": {"--suffixes": 3, "--suffix-tokens": 4, "--max-new-tokens": 24, "--limit": 2},
    "study lengths": {**STEPS, "--limit": 2},
    "study tree": {"--tokens": 512},
    "study mixing": {"--max-new-tokens": 8, "--steps": 4, "--starts": 2, "--chains": 2, "--lag": 3, "--most": 6},
}
"""Numbers that a command gets in place of its own."""

BARE = ("models", "serve", "verify", "study anchors", "study tree")
"""Commands that run without a word more. The others are only named where they stand so: their help is shown."""

ROW = {
    "problem": "1 + 1",
    "question": "1 + 1",
    "answer": "2",
    "id": 0,
    "unique_id": "a",
    "problem_idx": 0,
    "Question": "1 + 1",
    "Correct Answer": "2",
    "Record ID": "a",
    **{f"Incorrect Answer {i}": f"{i + 2}" for i in (1, 2, 3)},
}
"""A row that is one of each data set that a task takes from the hub."""


def hub(name, *_, **__):
    """In place of what the hub would give."""
    return [ROW | {"answer": "#### 2"} if "gsm8k" in name else ROW]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with what the commands of a page expect there; nothing leaves this machine."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "1 + 1"}\n')

    async def served(*_):
        """In place of serving for ever."""

    monkeypatch.setattr(powercut, "load", load)
    monkeypatch.setattr("datasets.load_dataset", hub)
    monkeypatch.setattr("powercut.server.serving.serve", served)
    monkeypatch.setattr(reproduce_command, "_MEASURE", 0.05)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(words: Sequence[str]) -> list[str]:
    """A command's words with small numbers in the place of its own."""
    names = [word for word in words[: 2 if words[0] == "study" else 1] if word.isalpha()]
    if not words[len(names) :] and " ".join(names) not in BARE:
        return [*names, "--help"]
    if not names or (names[0] == "study" and any(word.startswith("runs/") for word in words)):
        return list(words)  # a run's chains are as they are
    numbers = dict(SMALL.get(" ".join(names), {}))
    samplers = [words[i + 1] for i, word in enumerate(words) if word == "--sampler"] or ["entropy-cut"]
    if names[0] in ("sample", "eval", "serve"):
        for sampler in samplers:
            numbers |= OF_SAMPLERS[sampler]
    if names[0] == "eval" and "smc" not in samplers and "power-smc" not in samplers:
        numbers.pop("--particles", None)
    shrunk = list(words)
    for flag, number in numbers.items():
        places = [i + 1 for i, word in enumerate(shrunk) if word == flag]
        for place in places:
            shrunk[place] = str(number)
        if not places:
            shrunk += [flag, str(number)]
    return shrunk


def prepare(words: Sequence[str], folder):
    """What a command reads, where no command before has made it; and no study of other settings."""
    for file in (words[i + 1] for i, word in enumerate(words) if word == "--data"):
        (folder / file).write_text(json.dumps(hub(file)))
    if words[0] == "models":
        for place in (word for word in words[1:] if not word.startswith("-")):
            Path(place).expanduser().mkdir(parents=True, exist_ok=True)
    if words[0] == "study":
        shutil.rmtree(folder / "studies", ignore_errors=True)
    if words[0] == "report":
        for run in (word for word in words[1 : words.index("--out") if "--out" in words else None]):
            if run.startswith("runs/") and not (folder / run).exists():
                example.write_run(folder / run, example.comparison(problems=4, seeds=1))


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if commands(text)])
def test_every_command_of_a_page_runs(page, folder, capsys):
    done = set()
    for words in commands(PAGES[page]):
        if words[0] == "powercut" and tuple(words) not in done:
            done.add(tuple(words))
            arguments = small(words[1 : words.index(">") if ">" in words else None])
            prepare(arguments, folder)
            code = main(arguments)
            out, err = capsys.readouterr()
            assert code == 0, f"powercut {' '.join(arguments)}\n{out[-500:]}{err[-500:]}"


def test_the_samplers_are_these():
    assert set(OF_SAMPLERS) == set(SAMPLERS)


OF_OTHERS = {
    *("--enable-prefix-caching", "--enable-prompt-tokens-details", "--enable-scale-out", "--logprobs-mode"),
    *("--data-parallel-size", "--tensor-parallel-size", "--max-logprobs", "--max-model-len", "--max-num-seqs"),
    *("--gpu-memory-utilization", "--hf-overrides", "--max-num-batched-tokens"),
    *("--enable-deterministic-inference", "--incremental-streaming-output"),
    *("--max-tokens", "--model_args", "--no-fail-on-error"),
}
"""Flags of vLLM, of SGLang, of Inspect and lm-eval."""


def test_every_flag_that_a_page_names_is_one():
    flags = set(re.findall(r"--[a-z][\w-]*", PAGES["cli.md"]))
    for script in (ROOT / "benchmarks").glob("*.py"):
        flags.update(re.findall(r'"(--[a-z][\w-]*)"', script.read_text()))
    named = {span.split()[0].partition("=")[0] for text in PAGES.values() for span in spans(text) if span[:2] == "--"}
    assert len(named) > 30
    assert {flag for name in named for flag in name.split("/")} - flags <= OF_OTHERS
