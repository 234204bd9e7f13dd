"""The contract: names, settings and defaults that users rely on. A change here is a change for them."""

import dataclasses
import inspect

import pytest

import powercut as pc

ALL = """
    SMC TMC BestOfN BudgetError Completion Engine EngineError EntropyCut Event Failure LowTemperature PowerSMC
    PowercutError Rejection Request Sampler SettingError Standard Stats Step TableEngine Trace UniformCut asample
    astream diagnostics load sample
"""

EVERY = {"max_new_tokens": 1024, "top_k": 50, "stop": (), "min_new_tokens": 0, "answer": None}
REQUIRE = EVERY | {"require": None}
CUT = REQUIRE | {
    "length_bonus": 0.0,
    "alpha": 4.0,
    "steps": 10,
    "count": "steps",
    "blocks": 16,
    "temperature": None,
    "uniform_mix": 0.0,
    "refine_finished": False,
    "early_reject": True,
    "look_ahead": 1,
    "skip_repeats": True,
    "tries": 1,
    "until": None,
    "rule": "exact",
}
PARTICLES = REQUIRE | {
    "length_bonus": 0.0,
    "alpha": 4.0,
    "particles": 64,
    "block_size": 32,
    "ess_threshold": 0.5,
    "resampling": "systematic",
    "moves": 0,
    "skip_repeats": True,
    "beta": 4.0,
}
SETTINGS = {
    "Standard": REQUIRE,
    "LowTemperature": REQUIRE | {"alpha": 4.0, "temperature": None},
    "EntropyCut": CUT | {"beta": 4.0},
    "UniformCut": CUT,
    "SMC": PARTICLES | {"temperature": None},
    "PowerSMC": PARTICLES | {"ramp_tokens": 400},
    "TMC": EVERY
    | {
        "alpha": 4.0,
        "length_bonus": 0.0,
        "block_size": 192,
        "candidates": 64,
        "keep": 8,
        "rollouts": 8,
        "horizon": 192,
        "temperature": None,
    },
    "Rejection": REQUIRE | {"alpha": 4.0, "length_bonus": 0.0, "temperature": None, "max_tries": 10_000},
    "BestOfN": REQUIRE | {"n": None, "budget": None, "temperature": 1.0, "select": "mean-logp"},
}

FIELDS = {
    "Trace": "tokens logp logq entropy finished prefilled rows",
    "Step": "stage cut log_accept accepted early tokens_decoded changed_at nulls log_u",
    "Stats": "steps acceptance changed tokens_decoded tokens_prefilled seconds log_z ess candidates tries satisfied "
    "null_steps stages_ended agreement",
    "Event": "stage stages step proposal trace prompt population",
    "Completion": "trace stats steps text prompt_index sample_index",
    "Failure": "prompt_index sample_index error",
    "Request": "context max_new_tokens temperature top_k stop seed prompt_length chain lane min_new_tokens first rows",
}


def names(kind):
    return [field.name for field in dataclasses.fields(getattr(pc, kind))]


def test_the_names_are_these():
    assert pc.__all__ == ALL.split()
    assert all(hasattr(pc, name) for name in pc.__all__)
    assert pc.__version__


@pytest.mark.parametrize("sampler", SETTINGS)
def test_a_samplers_settings_have_these_defaults(sampler):
    kind = getattr(pc, sampler)
    assert {field.name: field.default for field in dataclasses.fields(kind)} == SETTINGS[sampler]
    assert all(field.kw_only for field in dataclasses.fields(kind))
    assert issubclass(kind, pc.Sampler)


@pytest.mark.parametrize("kind", FIELDS)
def test_data_has_these_fields(kind):
    assert names(kind) == FIELDS[kind].split()
    assert getattr(pc, kind).__dataclass_params__.frozen


def test_a_completion_says_what_was_promised():
    engine = pc.TableEngine(lambda context: [0.5, 0.25, 0.25], 0)
    [c] = pc.sample(engine, pc.EntropyCut(blocks=2, max_new_tokens=8), [[1]], seed=0)
    assert isinstance(c, pc.Completion)
    assert c.text is None
    assert c.tokens.ndim == 1
    assert isinstance(c.logp, float)
    assert isinstance(c.finished, bool)
    assert isinstance(c.stats.acceptance, float)
    assert c.stats.tokens_decoded >= len(c.tokens)
    assert c.stats.tokens_prefilled == 0
    assert c.stats.seconds > 0
    assert c.stats.steps == len(c.steps) + c.stats.null_steps > 0
    assert {type(step) for step in c.steps} == {pc.Step}


@pytest.mark.parametrize("function", ["sample", "asample", "astream"])
def test_sampling_takes_these_arguments(function):
    parameters = inspect.signature(getattr(pc, function)).parameters
    assert list(parameters)[:3] == ["engine", "sampler", "prompts"]
    options = {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert options == {
        "n": 1,
        "seed": 0,
        "chat": None,
        "system": None,
        "template_args": None,
        "observe": None,
        "concurrency": None,
        "max_total_tokens": None,
        "match": None,
        "skip_bad": False,
        "agree": None,
    }


def test_asample_is_awaited():
    assert inspect.iscoroutinefunction(pc.asample)


def test_engines_load_by_name_or_default():
    first = next(iter(inspect.signature(pc.load).parameters.values()))
    assert (first.kind, first.default) == (first.POSITIONAL_ONLY, None)  # ``model`` names one of several on a server


def test_errors_are_one_family():
    assert issubclass(pc.SettingError, pc.PowercutError)
    assert issubclass(pc.SettingError, ValueError)
    assert issubclass(pc.EngineError, pc.PowercutError)
    assert issubclass(pc.EngineError, RuntimeError)


def test_a_table_engine_is_an_engine():
    engine = pc.TableEngine(lambda context: [1.0], None, concurrency=3)
    assert (engine.name, engine.text, engine.concurrency, engine.idle) == ("table", None, 3, 3)
    assert engine.usage.decoded == engine.usage.prefilled == engine.usage.reused == 0
    assert isinstance(engine.describe(), str)
    members = {name for name in vars(pc.Engine) if not name.startswith("_")} | set(pc.Engine.__annotations__)
    assert members == {"name", "text", "concurrency", "usage", "idle", "describe", "check", "extend", "aclose"}
    assert all(hasattr(engine, name) for name in members)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be a whole number of at least 1 (got 0)"),
        ({"concurrency": "4"}, "concurrency must be a whole number of at least 1 (got '4')"),
        ({"eos_id": 1.5}, "eos_id must be token ids, or None for no end (got 1.5)"),
    ],
)
def test_a_table_engine_refuses_what_it_cannot_use(options, message):
    with pytest.raises(pc.SettingError) as error:
        pc.TableEngine(lambda context: [1.0], **options)
    assert str(error.value) == message
