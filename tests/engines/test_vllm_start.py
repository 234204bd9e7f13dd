"""Starting vLLM, without vLLM: its options, its environment, and errors in one line."""

import importlib.util
from types import SimpleNamespace

import pytest

import powercut as pc
from powercut.engines.vllm import launch as vllm_start
from powercut.engines.vllm.launch import decode_error, resolve_options, start_error
from powercut.errors import EngineError, SettingError

KNOWN = {
    "max_num_seqs", "max_model_len", "dtype", "logprobs_mode", "max_logprobs", "tensor_parallel_size",
    "gpu_memory_utilization", "kv_cache_memory_bytes", "enforce_eager", "enable_chunked_prefill", "block_size",
    "disable_log_stats", "use_tqdm_on_load",
}  # fmt: skip
GIB = 2**30


def gpu(**options):
    return resolve_options(options, KNOWN, cpu=False, memory=0)


def cpu(**options):
    return resolve_options(options, KNOWN, cpu=True, memory=8 * GIB)


def test_without_vllm_one_line_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vllm" else find(name))
    with pytest.raises(EngineError, match=r"pip install 'powercut\[vllm\]'") as caught:
        pc.load("vllm:smollm2", tensor_parallel_size=2)
    assert "\n" not in str(caught.value)


def test_a_process_that_vllm_started_does_not_start_vllm(monkeypatch):
    script = compile("import powercut as pc\npc.load('vllm:smollm2')", "script.py", "exec")
    with pytest.raises(EngineError, match="__main__"):
        exec(script, {"__name__": "__mp_main__"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="needs vLLM"):
        exec(script, {"__name__": "__main__"})


def test_options_pass_through_and_ours_have_vllms_names():
    options = gpu(slots=8, context_length=512, tensor_parallel_size=2)
    assert (options["max_num_seqs"], options["max_model_len"], options["tensor_parallel_size"]) == (8, 512, 2)
    assert options["logprobs_mode"] == "raw_logprobs"
    assert gpu(concurrency=3)["max_num_seqs"] == 3
    assert gpu(max_logprobs=-1)["max_logprobs"] == -1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tensor_paralel_size": 2}, r"tensor_paralel_size \(did you mean tensor_parallel_size"),
        ({"device": "cuda"}, "no option device"),
        ({"slots": 2, "max_num_seqs": 2}, "slots and max_num_seqs are the same"),
        ({"slots": 2, "concurrency": 2}, "slots and concurrency are the same"),
        ({"slots": 0}, "slots must be"),
        ({"concurrency": True}, "concurrency must be"),
        ({"context_length": "long"}, "context_length must be"),
        ({"logprobs_mode": "processed_logprobs"}, "logprobs_mode must be raw_logprobs"),
        ({"logprobs_mode": "raw_logits"}, "logprobs_mode must be raw_logprobs"),  # they can be positive
    ],
)
def test_options_that_cannot_be_used(options, match):
    with pytest.raises(SettingError, match=match):
        gpu(**options)


def test_defaults_on_the_cpu_and_on_gpus(monkeypatch):
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    options = cpu()
    assert options["dtype"] == "float32"
    assert options["enable_chunked_prefill"] is False
    assert options["kv_cache_memory_bytes"] == 2 * GIB
    assert "kv_cache_memory_bytes" not in cpu(gpu_memory_utilization=0.5)
    assert cpu(kv_cache_memory_bytes=5)["kv_cache_memory_bytes"] == 5
    assert cpu(dtype="bfloat16")["dtype"] == "bfloat16"
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "3")
    assert "kv_cache_memory_bytes" not in cpu()
    assert not gpu().keys() & {"dtype", "max_num_seqs", "enforce_eager", "kv_cache_memory_bytes"}


def test_a_default_that_vllm_no_longer_has_is_left_out():
    assert "block_size" not in resolve_options({}, KNOWN - {"block_size"}, cpu=True, memory=GIB)


def test_errors_are_one_line_and_name_what_to_lower():
    class EngineDeadError(Exception):
        pass

    dead = str(decode_error(EngineDeadError("see above"), cpu=False))
    failed = str(start_error(RuntimeError("Engine core initialization failed.\nSee root cause above."), cpu=True))
    assert "slots" in dead
    assert "gpu_memory_utilization" in dead
    assert "kv_cache_memory_bytes" in failed
    assert "context_length" in str(start_error(MemoryError(), cpu=False))
    assert "no such thing" in str(start_error(ValueError("no such\nthing"), cpu=False))
    mine = SettingError("as it is")
    assert start_error(mine, cpu=False) is mine
    assert decode_error(mine, cpu=False) is mine
    wrapped = RuntimeError()
    wrapped.__cause__ = ValueError("bad prompt")
    assert "ValueError: bad prompt" in str(decode_error(wrapped, cpu=False))
    for message in (dead, failed):
        assert "\n" not in message


def test_of_pydantics_many_lines_one_is_shown():
    class ValidationError(ValueError):
        def __init__(self, *items):
            self.items = items

        def errors(self):
            return list(self.items)

    named = ValidationError(
        {"loc": ("dtype", "literal"), "input": "float31", "msg": "Input should be 'auto'"},
        {"loc": ("dtype", "class"), "input": "float31", "msg": "Input should be an instance of dtype"},
    )
    error = start_error(named, cpu=False)
    assert isinstance(error, SettingError)
    assert str(error) == "vLLM refuses its options: dtype='float31': Input should be 'auto'"
    whole = ValidationError({"loc": (), "input": object(), "msg": "Value error, max_model_len (9) is\ntoo long"})
    assert str(start_error(whole, cpu=False)).endswith("options: Value error, max_model_len (9) is too long")


def test_the_environment_is_set_for_vllm_unless_the_user_has(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(vllm_start.importlib, "import_module", lambda name: SimpleNamespace(Name=f"{name}'s"))
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    monkeypatch.delenv("VLLM_LOGGING_STREAM", raising=False)
    assert (vllm_start.library("Name"), vllm_start.library("Name", "vllm.outputs")) == ("vllm's", "vllm.outputs's")
    with pytest.raises(EngineError, match="cannot be imported"):
        vllm_start.library("Other")
    assert vllm_start.os.environ["VLLM_LOGGING_STREAM"] == "ext://sys.stderr"
    assert vllm_start.os.environ["VLLM_LOGGING_LEVEL"] == "DEBUG"
    for name in ("VLLM_LOGGING_STREAM", "VLLM_NO_USAGE_STATS"):
        monkeypatch.delenv(name)
