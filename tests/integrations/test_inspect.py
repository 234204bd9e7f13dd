"""powercut as a model provider: Inspect's own loop over a small table model."""

import asyncio
import logging

import pytest
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import read_eval_log
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentImage,
    ContentText,
    GenerateConfig,
    get_model,
)
from inspect_ai.scorer import includes
from inspect_ai.tool import ToolInfo

import powercut as pc
import powercut.integrations.inspect
from powercut.errors import EngineError, SettingError
from tests.cli.fake import FakeEngine, LetterText
from tests.integrations.chat import ChatEngine

SHORT = {"max_new_tokens": 6, "blocks": 2, "steps": 3}
TASK = Task(dataset=MemoryDataset([Sample(input="abc", target="a"), Sample(input="cd", target="b")]), scorer=includes())


def chat_engine():
    return ChatEngine(system="a", user="b", assistant="c")


def model(engine=None, **arguments):
    engine = FakeEngine() if engine is None else engine
    return get_model("powercut/fake", engine=engine, memoize=False, **{**SHORT, **arguments})


def ask(asked, messages="abc", tools=(), **config):
    return asyncio.run(asked.api.generate(said(messages), list(tools), "auto", GenerateConfig(**config)))


def said(messages):
    return [ChatMessageUser(content=messages)] if isinstance(messages, str) else messages


def run(tasks, tmp_path, **arguments):
    [log] = inspect_eval(tasks, log_dir=str(tmp_path), display="none", ctl_server=False, **arguments)
    return log


def test_any_task_runs_and_each_sample_has_our_statistics(tmp_path):
    log = run(TASK, tmp_path, model=model(), epochs=3)
    assert log.status == "success"
    saved = read_eval_log(log.location)  # what ``inspect view`` opens
    assert [(s.id, s.epoch) for s in saved.samples] == [(i, e) for e in (1, 2, 3) for i in (1, 2)]
    for sample in saved.samples:
        facts = sample.output.metadata
        assert {"acceptance", "changed", "steps", "tokens_decoded", "tokens_prefilled", "seconds"} <= set(facts)
        assert facts["sampler"] == "entropy-cut"
        assert facts["settings"]["steps"] == 3
        assert sample.output.usage.output_tokens == facts["tokens"]
        assert sample.output.usage.input_tokens == len(sample.input)
        prompt = LetterText().ids(sample.input)
        [again] = pc.sample(FakeEngine(), pc.EntropyCut(**SHORT), [prompt], seed=facts["seed"])
        assert again.text == sample.output.completion
        assert again.logp == facts["logp"]
        assert facts["entropy"] == pytest.approx(again.trace.entropy.mean())
        assert sample.output.stop_reason == ("stop" if again.finished else "max_tokens")
    assert len({s.output.metadata["seed"] for s in saved.samples}) == 6


def test_the_model_is_loaded_once(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr("powercut.integrations.inspect.load", lambda *name, **_: loaded.append(name) or FakeEngine())
    assert run(TASK, tmp_path, model="powercut/once", model_args=SHORT).status == "success"
    assert loaded == [("once",)]


def test_a_run_can_be_repeated_and_a_seed_changes_it(tmp_path):
    def texts(**arguments):
        return [s.output.completion for s in run(TASK, tmp_path, model=model(), epochs=4, **arguments).samples]

    assert texts() == texts()
    assert texts(seed=1) == texts(seed=1, max_connections=1)
    assert texts() != texts(seed=1)


def test_all_connections_that_the_engine_can_use_are_used(tmp_path):
    asked = model()
    assert asked.config.max_connections == asked.api.max_connections() == 64
    assert run(TASK, tmp_path, model=asked).status == "success"
    chosen = get_model("powercut/fake", engine=FakeEngine(), memoize=False, config=GenerateConfig(max_connections=3))
    assert chosen.config.max_connections == 3


def test_samplers_on_one_engine_share_its_connections_whether_or_not_they_record():
    engine = FakeEngine()
    records = None, (lambda seed, line: None), (lambda seed, line: None)
    keys = {model(engine, record=record).api.connection_key() for record in records}
    assert len(keys) == 1
    assert keys.isdisjoint({model(FakeEngine()).api.connection_key()})


@pytest.mark.parametrize("given", [{"think": False}, '{"think": false}'])
def test_template_args(given):
    engine = chat_engine()
    output = ask(model(engine, template_args=given))
    assert engine.text.asked[-1] == output.metadata["template_args"] == {"think": False}
    with pytest.raises(SettingError, match="goes through no chat template"):
        model(chat_engine(), template_args=given, chat=False)


def test_calls_may_change_settings():
    asked = model(stop="h")
    assert ask(asked).metadata["settings"]["stop"] == ["h"]
    output = ask(asked, max_tokens=2, stop_seqs=["a"], extra_body={"alpha": 2})
    settings = output.metadata["settings"]
    assert (settings["max_new_tokens"], settings["alpha"], settings["stop"]) == (2, 2.0, ["h", "a"])
    assert output.metadata["tokens"] <= 2
    assert ask(asked).metadata["settings"]["max_new_tokens"] == 6


def test_what_the_sampler_decides_is_told_of_once(caplog):
    asked = model()
    with caplog.at_level(logging.WARNING):
        ask(asked, temperature=0.5)
        ask(asked, temperature=0.5)
    told = "temperature=0.5 is not used: the sampler entropy-cut decides it, by settings given with -M"
    assert [record.getMessage() for record in caplog.records] == [told]


@pytest.mark.parametrize(
    "setting",
    [{"num_choices": 2}, {"logprobs": True}, {"frequency_penalty": 0.5}, {"top_logprobs": 5}, {"logit_bias": {3: 1.0}}],
)
def test_what_no_sampler_can_do_is_refused(setting):
    with pytest.raises(SettingError, match=rf"^{next(iter(setting))} is not supported by powercut: leave it out$"):
        ask(model(), **setting)


def test_tools_and_pictures_are_refused():
    with pytest.raises(SettingError, match="powercut samples text and calls no tools: choose"):
        ask(model(), tools=[ToolInfo(name="calculator", description="adds")])
    picture = [ChatMessageUser(content=[ContentImage(image="data:image/png;base64,AA==")])]
    with pytest.raises(SettingError, match="parts of text alone: no images"):
        ask(model(), picture)


def test_messages_go_through_the_chat_template_where_there_is_one():
    system, user = ChatMessageSystem(content="de"), ChatMessageUser(content=[ContentText(text="fg")])
    talk = [system, user, ChatMessageAssistant(content="h"), user]
    assert ask(model(chat_engine()), talk).usage.input_tokens == 11  # the roles and the letters
    assert ask(model(chat_engine(), chat=False), talk).usage.input_tokens == 7  # the letters
    assert ask(model(), talk[:2]).usage.input_tokens == 4
    with pytest.raises(SettingError, match="chat template"):
        ask(model(chat=True), talk)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "entropy"}, "there is no sampler 'entropy' (did you mean entropy-cut?)"),
        ({"sampler": "standard"}, "blocks is a setting of entropy-cut, uniform-cut"),
        ({"alpha": 0}, "alpha must be a number of at least 1 (got 0.0)"),
        ({"slots": 4}, "slots is neither a setting of a sampler nor an option of this engine"),
        ({"engine": pc.TableEngine(lambda _: [1.0])}, "this engine has no tokenizer"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(arguments, message):
    with pytest.raises(SettingError) as error:
        model(**arguments)
    assert message in str(error.value)


def test_engine_options_and_a_server_reach_the_loader(monkeypatch):
    asked = []

    def load(*name, **options):
        asked.append((*name, options))
        return FakeEngine()

    monkeypatch.setattr("powercut.integrations.inspect.load", load)
    get_model("powercut//models/tiny", memoize=False, sampler="standard", slots=32, dtype="float32", top_k=7)
    get_model("powercut/http://localhost:1/v1", memoize=False)
    get_model("powercut/Qwen/Qwen3-8B", base_url="http://localhost:1/v1", memoize=False)
    assert asked == [
        ("/models/tiny", {"slots": 32, "dtype": "float32"}),
        ("http://localhost:1/v1", {}),
        ("http://localhost:1/v1", {"model": "Qwen/Qwen3-8B"}),
    ]


def test_it_closes_the_engine_that_it_loaded_and_no_other(monkeypatch):
    closed = []

    class Engine(FakeEngine):
        async def aclose(self):
            closed.append(self)

    async def use(asked):
        async with asked:
            pass

    engine = Engine()
    asyncio.run(use(model(engine)))
    assert closed == []
    monkeypatch.setattr("powercut.integrations.inspect.load", lambda *_: engine)
    asyncio.run(use(get_model("powercut/fake", memoize=False)))
    assert closed == [engine]


def test_one_failed_completion_need_not_stop_the_others(tmp_path):
    samples = MemoryDataset([Sample(input="abc", target="a"), Sample(input="gab", target="a")])  # g fails
    log = run(Task(dataset=samples, scorer=includes()), tmp_path, model=model(), fail_on_error=False)
    assert log.status == "success"
    good, bad = log.samples
    assert good.error is None
    assert "the model returned NaN: try dtype float32" in bad.error.message
    with pytest.raises(EngineError, match="the model returned NaN"):
        ask(model(), "g")


def test_it_can_be_cancelled():
    async def hang():
        work = asyncio.create_task(model().api.generate(said("h"), [], "auto", GenerateConfig()))
        await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(hang())


def test_tokens_are_counted_by_the_models_own_tokenizer():
    assert asyncio.run(model().count_tokens("abc")) == 3
