"""What of the llama engine needs no llama.cpp: who is chosen, what is installed, the largest logits, chat templates."""

import sys

import numpy as np
import pytest

import powercut as pc
from powercut import engines
from powercut.engines.llama import library
from powercut.engines.llama.chat_template import render
from powercut.engines.llama.llama_slots import largest
from tests.tiny import tiny_tokenizer


@pytest.mark.parametrize(
    ("model", "chosen"),
    [
        ("model.gguf", ("llama", "model.gguf")),
        ("llama:some/file", ("llama", "some/file")),
        ("transformers:model.gguf", ("transformers", "model.gguf")),
        ("org/model", ("transformers", "org/model")),
        ("smollm2", ("transformers", "smollm2")),
        (None, ("transformers", None)),
    ],
)
def test_the_engine_for_a_name(model, chosen):
    assert engines.select(model) == chosen


def test_files_and_folders_that_are_here_are_known_by_what_is_in_them(tmp_path):
    """A blob of a cache has no ending, and a folder of GGUF files no config.json."""
    (tmp_path / "sha256-12").write_bytes(b"GGUF\3\0\0\0")
    (tmp_path / "notes").write_bytes(b"GGU")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.gguf").touch()
    chosen = {name: engines.select(str(tmp_path / name))[0] for name in ("sha256-12", "notes", "files", "")}
    assert chosen == {"sha256-12": "llama", "notes": "transformers", "files": "llama", "": "transformers"}
    (tmp_path / "files" / "config.json").touch()
    assert engines.select(str(tmp_path / "files"))[0] == "transformers"
    assert engines.select("~nobody-of-this-name/a")[0] == "transformers"
    with pytest.raises(pc.EngineError, match="there is no file ~nobody-of-this-name"):
        pc.load("~nobody-of-this-name/a.gguf")


def test_an_engine_that_is_named_is_taken(monkeypatch):
    asked = []
    monkeypatch.setitem(engines.ENGINES, "transformers", lambda: lambda model, **options: asked.append(model))
    pc.load("model.gguf", engine="transformers")
    assert asked == ["model.gguf"]
    with pytest.raises(pc.SettingError, match="engine must be one of transformers, llama"):
        pc.load("model.gguf", engine="torch")


@pytest.mark.parametrize(
    ("llama", "torch", "engine"), [(1, 0, "llama"), (1, 1, "transformers"), (0, 0, "transformers")]
)
def test_the_bundled_model_runs_by_llama_cpp_where_that_is_all_there_is(monkeypatch, llama, torch, engine):
    monkeypatch.setattr(engines, "have_llama", lambda: bool(llama))
    monkeypatch.setattr(engines, "have_libraries", lambda: bool(torch))
    assert [engines.select(name)[0] for name in (None, "smollm2", "org/model")] == [engine, engine, "transformers"]


def test_without_llama_cpp_the_error_says_what_to_install(monkeypatch, tmp_path):
    library.llama.cache_clear()
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.delitem(sys.modules, "llama_cpp.llama_cpp", raising=False)
    (tmp_path / "a.gguf").touch()
    with pytest.raises(pc.EngineError, match=r"needs llama-cpp-python .*: pip install 'powercut\[llama\]'"):
        pc.load(str(tmp_path / "a.gguf"))


@pytest.mark.parametrize("size", [1, 7, 64, 65, 1000, 10_007])
@pytest.mark.parametrize("count", [1, 5, 50])
def test_the_largest_of_each_row(size, count):
    rng = np.random.default_rng([size, count])
    rows = np.concatenate((rng.normal(size=(3, size)), rng.integers(3, size=(3, size)))).astype(np.float32)
    rows[1, rng.integers(size)] = -np.inf
    rows[2] = np.sort(rows[2])
    count = min(count, size)
    values, places = largest(rows, count)
    np.testing.assert_array_equal(values, -np.sort(-rows, axis=1)[:, :count])
    np.testing.assert_array_equal(np.take_along_axis(rows, places, axis=1), values)
    assert all(len(set(row)) == count for row in places.tolist())


def test_a_row_with_a_nan_keeps_it():
    rows = np.zeros((1, 10_000), dtype=np.float32)
    rows[0, 77] = np.nan
    assert np.isnan(largest(rows, 5)[0]).any()


MESSAGES = [{"role": "user", "content": "<b> & 'é'"}]


def test_templates_have_what_they_count_on():
    assert render("{% for m in messages %}\n{{ m['content'] }}\n{% endfor %}\nend", MESSAGES) == "<b> & 'é'\nend"
    assert render("{{ messages[0] | tojson }}", MESSAGES) == '{"role": "user", "content": "<b> & \'é\'"}'
    assert render("{% for m in messages %}{% break %}{% endfor %}{{ bos_token }}", MESSAGES, bos_token="<s>") == "<s>"
    assert render("{% generation %}x{% endgeneration %}{{ strftime_now('%Y')|length }}", MESSAGES) == "x4"
    with pytest.raises(ValueError, match="no system role"):
        render("{{ raise_exception('no system role') }}", MESSAGES)


CONVERSATION = [*MESSAGES, {"role": "assistant", "content": " ok\n"}]
EACH = "{% for m in messages %}<|{{ m.role }}|>BODY<|end|>{% endfor %}{% if add_generation_prompt %}<|go|>{% endif %}"


@pytest.mark.parametrize(
    "template",
    [
        "{% if tools is not none %}{{ tools | tojson }}{% endif %}{{ documents is none }}",
        "{{ messages | tojson(indent=2) }}",
        "{{ messages | tojson(ensure_ascii=True, separators=(',', ':'), sort_keys=True) }}",
        "{{ eos_token }}{{ pad_token }}{{ unk_token }}",
        "{% for m in messages %}\n  {%- generation -%}\n {{ m.content }}\n {%- endgeneration %}\n{% endfor %}",
        "{% for m in messages %}\n  {% generation %}\n{{ m.content }}\n  {% endgeneration %}\n{% endfor %}\nend",
        "{% generation %}{% set x = 1 %}{% endgeneration %}{{ x }}",
        EACH.replace("BODY", "{{ m.content | trim }}"),
    ],
)
def test_templates_say_what_they_say_in_transformers(template):
    tokenizer = tiny_tokenizer(chat_template=False)
    for more in ({}, {"tools": [{"name": "f"}]}):
        theirs = tokenizer.apply_chat_template(
            CONVERSATION, chat_template=template, tokenize=False, add_generation_prompt=True, **more
        )
        special = {"add_generation_prompt": True, "eos_token": "<|end|>", "pad_token": "<|end|>"}
        assert render(template, CONVERSATION, **special, **more) == theirs


@pytest.mark.parametrize("body", ["{{ m.content }}", "{{ m.content | trim }}", "{{ m.content | trim }} "])
@pytest.mark.parametrize("begun", ["The sum is", "end", "d", ">", "|", "Here: ", " so", "x\n"])
def test_a_begun_turn_ends_where_its_text_does(body, begun):
    """Not at a later place where the template says the same: its end of the turn, say."""
    template, messages = EACH.replace("BODY", body), [*MESSAGES, {"role": "assistant", "content": begun}]
    theirs = tiny_tokenizer(chat_template=False).apply_chat_template(
        messages, chat_template=template, tokenize=False, continue_final_message=True
    )
    assert render(template, messages, go_on=True) == theirs
    with pytest.raises(ValueError, match="leaves out"):
        render(EACH.replace("BODY", ""), messages, go_on=True)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_templates_run_in_a_sandbox(template):
    with pytest.raises(Exception, match=r"unsafe|safe|Range too big"):
        render(template, MESSAGES)
