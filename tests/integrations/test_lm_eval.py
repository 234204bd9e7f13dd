"""powercut as a model of lm-evaluation-harness, by the real package where it is installed."""

import importlib.metadata
import json
from types import SimpleNamespace

import pytest

import powercut as pc
from tests.cli.fake import FakeEngine, LetterText
from tests.integrations.chat import ChatEngine

adapter = pytest.importorskip("powercut.integrations.lm_eval", reason="needs powercut[lm-eval]", exc_type=ImportError)
SHORT = {"max_new_tokens": 6, "blocks": 2, "steps": 2}


def ask(lm, *contexts, **asked):
    return lm.generate_until([SimpleNamespace(args=(context, asked)) for context in contexts])


def test_answers_come_in_the_order_of_the_requests_and_again_with_the_same_seed():
    lm = adapter.PowercutLM(engine=FakeEngine(), **SHORT)
    requests = [
        SimpleNamespace(args=(text, {"until": until})) for text, until in (("ab", ["h"]), ("cd", "f"), ("ef", ["h"]))
    ]
    answers = lm.generate_until(requests)
    assert answers == lm.generate_until(requests)
    assert answers != adapter.PowercutLM(engine=FakeEngine(), seed=1, **SHORT).generate_until(requests)
    prompts = [LetterText().ids(text) for text in ("ab", "ef")]
    found = pc.sample(FakeEngine(), pc.EntropyCut(stop=("h",), **SHORT), prompts, seed=0)
    assert [answers[0], answers[2]] == [completion.text for completion in found]


def test_the_tasks_lengths_and_stops_are_used():
    lm = adapter.PowercutLM(engine=FakeEngine(), sampler="standard", stop="h")
    sampler = lm._sampler({"until": ["\n", ""], "max_gen_toks": 7, "temperature": 0.0, "do_sample": False})
    assert sampler == pc.Standard(max_new_tokens=7, stop=("h", "\n"))
    longer = adapter.PowercutLM(engine=FakeEngine(), sampler="standard", max_new_tokens=99)
    assert longer._sampler({"max_gen_toks": 7}).max_new_tokens == 99


def test_chats_go_through_the_template_of_the_model():
    lm = adapter.PowercutLM(engine=ChatEngine(), **SHORT)
    chat = lm.apply_chat_template([{"role": "system", "content": "ab"}, {"role": "user", "content": "cd"}])
    assert json.loads(chat)["powercut chat"][1] == {"role": "user", "content": "cd"}
    raw = adapter.PowercutLM(engine=FakeEngine(), **SHORT)
    assert ask(lm, chat) == ask(raw, "abcd")


@pytest.mark.parametrize("given", [{"think": False}, '{"think": false}'])
def test_template_args(given):
    engine = ChatEngine()
    lm = adapter.PowercutLM(engine=engine, template_args=given, **SHORT)
    assert ask(lm, lm.apply_chat_template([{"role": "user", "content": "ab"}])) != [""]
    assert engine.text.asked[-1] == {"think": False}
    with pytest.raises(pc.SettingError, match="goes through no chat template"):
        ask(lm, "ab")
    with pytest.raises(pc.SettingError, match="give a dictionary"):
        adapter.PowercutLM(engine=ChatEngine(), template_args="think", **SHORT)


def test_a_failure_is_logged_and_costs_no_other(caplog):
    lm = adapter.PowercutLM(engine=FakeEngine(), **SHORT)
    answers = ask(lm, "ab", "gab", "cd")
    assert answers[1] == ""
    assert "" not in (answers[0], answers[2])
    assert "answer 1 failed and is empty: the model returned NaN" in caplog.text


def test_a_text_that_cannot_be_had_is_logged(caplog, monkeypatch):
    async def decode(self, tokens):
        raise pc.EngineError("the server's tokenizer does not answer")

    monkeypatch.setattr(LetterText, "decode", decode)
    assert ask(adapter.PowercutLM(engine=FakeEngine(), **SHORT), "ab") == [""]
    assert "answer 0 failed and is empty: the text of a completion could not be had" in caplog.text


def test_what_it_does_not_do_is_one_line():
    lm = adapter.PowercutLM(engine=FakeEngine())
    for refused in (lm.loglikelihood, lm.loglikelihood_rolling):
        with pytest.raises(pc.SettingError, match="choose tasks of type generate_until"):
            refused([])
    with pytest.raises(pc.SettingError, match="there is no sampler 'entropy'"):
        adapter.PowercutLM(engine=FakeEngine(), sampler="entropy")


def test_lm_eval_finds_it():
    from lm_eval.api.registry import get_model

    assert get_model("powercut") is adapter.PowercutLM
    made = get_model("powercut").create_from_arg_obj(
        {"engine": FakeEngine(), **SHORT}, {"batch_size": 1, "device": None}
    )
    assert ask(made, "ab")
    [point] = importlib.metadata.entry_points(group="lm_eval.models", name="powercut") or [None]
    assert point is None or point.load() is adapter.PowercutLM
