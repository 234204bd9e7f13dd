"""The vllm engine without vLLM: its options, its errors, its probe, and what it does around vLLM."""

import asyncio
import importlib.util
import math
import re
import threading
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

import powercut as pc
from powercut.engines.protocol import Chain
from powercut.engines.vllm import launch as vllm_start
from powercut.engines.vllm.launch import decode_error, resolve_options, start_error
from powercut.engines.vllm.mailbox import laws_of, rows_drawn_first
from powercut.errors import EngineError, SettingError
from tests.checks import random_table
from tests.engines.fake_vllm import FakeLLM, close, fake_engine
from tests.engines.test_http_law import check_early_stops

KNOWN = {
    "max_num_seqs", "max_model_len", "dtype", "logprobs_mode", "max_logprobs", "tensor_parallel_size",
    "gpu_memory_utilization", "kv_cache_memory_bytes", "enforce_eager", "enable_chunked_prefill", "block_size",
    "disable_log_stats", "use_tqdm_on_load",
}  # fmt: skip
GIB = 2**30


@pytest.fixture
def engine(monkeypatch):
    engine = fake_engine(monkeypatch)
    yield engine
    close(engine)


def ask(seed=0, n=12, context=(1, 2, 3), **options):
    options.setdefault("top_k", 4)
    return pc.Request(context=np.array(context), max_new_tokens=n, seed=seed, **options)


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


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (ask(top_k=None), "top_k=None.*give a top_k"),
        (ask(top_k=7), "vocabulary of 6"),
        (ask(top_k=6), "max_logprobs=6"),
        (ask(n=62), "context_length=64"),
        (ask(temperature=0.001), "temperature 0.001"),
        (ask(temperature=2.5), "temperature 2.5"),
        (ask(stop=("x",)), "no tokenizer"),
        (ask(context=(1, 6)), "outside 0..5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_that_cannot_be_served(engine, request_, match):
    with pytest.raises(SettingError, match=match):
        engine.check(request_)
    with pytest.raises(SettingError):
        asyncio.run(engine.extend(request_))


def test_the_probe_tells_raw_log_probabilities_from_processed_ones(monkeypatch):
    for raw in (True, False):
        engine = fake_engine(monkeypatch, FakeLLM(raw=raw), capacity={"max_logprobs": 6})
        try:
            if raw:
                engine.probe()
            else:
                with pytest.raises(EngineError, match="logprobs_mode='raw_logprobs'"):
                    engine.probe()
        finally:
            close(engine)


@pytest.mark.parametrize("interval", [1, 3])
def test_a_stop_that_comes_too_early_is_drawn_again(monkeypatch, interval):
    llm = FakeLLM(4, interval=interval, pause=0.0)
    llm.probs = random_table(5, 4)
    engine = fake_engine(monkeypatch, llm, capacity={"vocab_size": 4, "slots": 16})
    check_early_stops(engine, llm.probs)
    assert len(llm.seen) > 400  # some were asked to go on
    close(engine)


def test_deltas_of_several_tokens_are_cut_at_a_stop(monkeypatch):
    """vLLM is not told of stop strings: what it drew behind one is work done, and no part of the trace."""

    class Digits:
        has_chat_template = False

        def decode_now(self, tokens):
            return "".join(map(str, tokens))

    llm = FakeLLM(interval=4, pause=0)
    engine = fake_engine(monkeypatch, llm, text=Digits())
    try:
        plain = [asyncio.run(engine.extend(ask(seed))) for seed in range(30)]
        before = engine.usage.decoded
        assert before == sum(map(len, plain))
        stopped = [asyncio.run(engine.extend(ask(seed, stop=("3",)))) for seed in range(30)]
    finally:
        close(engine)
    for trace, whole in zip(stopped, plain, strict=True):
        tokens = whole.tokens.tolist()
        end = tokens.index(3) + 1 if 3 in tokens else len(tokens)
        assert trace.tokens.tolist() == tokens[:end]
        assert trace.finished == (tokens[end - 1] in (0, 3))
        np.testing.assert_array_equal(trace.logp, whole.logp[:end])
    assert engine.usage.decoded - before > sum(map(len, stopped))


def test_an_aborted_request_returns_what_was_ready(monkeypatch):
    llm = FakeLLM(interval=3)
    engine = fake_engine(monkeypatch, llm)
    seen = []
    try:
        trace = asyncio.run(engine.extend(ask(1, n=40, stop=()), lambda piece: seen.append(piece) or False))
    finally:
        close(engine)
    assert len(seen) == 1
    assert len(trace) == engine.usage.decoded < 40
    assert len(llm.aborted) == 1


def test_cancelling_drops_the_request_in_vllm(monkeypatch):
    llm = FakeLLM(pause=10)
    engine = fake_engine(monkeypatch, llm)

    async def cancel():
        task = asyncio.create_task(engine.extend(ask(1, n=50)))
        await asyncio.sleep(0.05)
        assert engine.idle == 3
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert engine.idle == 4
        for _ in range(100):
            if llm.aborted:
                return
            await asyncio.sleep(0.01)

    try:
        asyncio.run(cancel())
    finally:
        close(engine)
    assert len(llm.aborted) == 1


def test_a_failure_reaches_the_request_and_the_next_one_goes_on(monkeypatch):
    llm = FakeLLM()
    engine = fake_engine(monkeypatch, llm)
    try:
        llm.error = ValueError("no room")
        with pytest.raises(EngineError, match="ValueError: no room"):
            asyncio.run(engine.extend(ask()))
        llm.error = None
        assert len(asyncio.run(engine.extend(ask()))) > 0
        llm.reason = "error"
        with pytest.raises(EngineError, match=r"ended a request by itself \(error\), after 1 of"):
            asyncio.run(engine.extend(ask()))
        llm.reason = "length"
        with pytest.raises(EngineError, match=r"ended a request by itself \(length\), after 1 of"):
            asyncio.run(engine.extend(ask()))
    finally:
        close(engine)


def test_closing_ends_what_runs_and_refuses_what_comes(monkeypatch):
    llm = FakeLLM(pause=10)
    engine = fake_engine(monkeypatch, llm)

    async def close_meanwhile():
        task = asyncio.create_task(engine.extend(ask()))
        await asyncio.sleep(0.05)
        await engine.aclose()
        return await asyncio.gather(task, return_exceptions=True)

    (error,) = asyncio.run(close_meanwhile())
    assert isinstance(error, EngineError)
    assert not llm.up
    close(engine)
    with pytest.raises(EngineError, match="closed"):
        asyncio.run(engine.extend(ask()))


def test_several_loops_use_one_engine_at_once(engine):
    results = {}

    def work(i):
        results[i] = pc.sample(engine, pc.Standard(max_new_tokens=8, top_k=4), [[1, 2]], n=6, seed=i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        again = pc.sample(engine, pc.Standard(max_new_tokens=8, top_k=4), [[1, 2]], n=6, seed=i)
        assert [c.tokens.tolist() for c in results[i]] == [c.tokens.tolist() for c in again]
    assert engine.idle == engine.concurrency


def test_a_chain_stays_on_its_rank(monkeypatch):
    llm = FakeLLM()
    engine = fake_engine(monkeypatch, llm, capacity={"ranks": 3})
    assert engine.concurrency == 12

    async def extend_all():
        chains = [Chain() for _ in range(6)]
        for lane in range(3):
            await asyncio.gather(*(engine.extend(ask(seed=i, chain=c, lane=lane)) for i, c in enumerate(chains)))

    try:
        asyncio.run(extend_all())
    finally:
        close(engine)
    ranks = [{seen.params.seed: seen.rank for seen in llm.seen[i : i + 6]} for i in (0, 6, 12)]
    assert Counter(ranks[0].values()) == {0: 2, 1: 2, 2: 2}
    assert ranks[0] == ranks[1] == ranks[2]
    assert not engine._ranks  # chains that are gone are forgotten


def test_rows_are_token_drawn_first_and_count_it_once():
    tokens, widths = np.array([5, 9, 4]), np.array([3, 3, 2])  # the last as joined deltas have it: no second copy
    flat = np.array([5, 4, 5, 9, 7, 8, 4, 7]), np.log([0.2, 0.5, 0.2, 0.1, 0.3, 0.1, 0.5, 0.4])
    ids, logprobs = rows_drawn_first(tokens, widths, *flat)
    assert ids.tolist() == [[-1, 4, 5], [9, 7, 8], [4, 7, -1]]
    assert np.exp(logprobs).round(6).tolist() == [[0.2, 0.5, 0.2], [0.1, 0.3, 0.1], [0.5, 0.4, 0]]
    for wrong in (np.array([3, 3]), np.array([3, 3, 3])):
        with pytest.raises(EngineError, match="do not match"):
            rows_drawn_first(tokens, wrong, *flat)


def test_one_bad_output_does_not_spoil_the_others():
    class Rows:
        start_indices, end_indices = (0,), (3,)

        def __init__(self, token_ids, logprobs):
            self.token_ids, self.logprobs = token_ids, logprobs

    class Output:
        def __init__(self, token_ids, logprobs):
            self.token_ids, self.logprobs = token_ids, logprobs

    def output(*content):
        return SimpleNamespace(outputs=[Output(*content)])

    good = output([4], Rows([4, 4, 5], np.log([0.5, 0.5, 0.25]).tolist()))
    (other, nan, odd), rest = [[4], [4], [4]], [0.25, 0.25]
    outputs = [
        (ask(top_k=2), good),
        (ask(top_k=2), output(other, None)),
        (ask(top_k=2, temperature=0.5), good),
        (ask(top_k=2), output([], None)),
        (ask(top_k=2), output(nan, Rows([4, 4, 5], [math.nan, *rest]))),
        (ask(top_k=2), output(odd, Rows([4, 4, 5.5], [-1.0, -1.0, -2.0]))),
        (ask(top_k=2), SimpleNamespace()),
    ]
    first, bad, second, none, *worse = laws_of(outputs)
    np.testing.assert_allclose(first[1][0], np.log(2 / 3))
    np.testing.assert_allclose(second[1][1], np.log(4 / 5))
    assert len(none[0]) == 0
    for error, match in zip((bad, *worse), ("without", "above 0|NaN", "whole number", "cannot be read"), strict=True):
        assert isinstance(error, EngineError)
        assert re.search(match, str(error))


@pytest.mark.parametrize("top_k", [4])
@pytest.mark.parametrize("harm", ["nan", "lost field", "positive", "repeated", "short", "no number"])
def test_one_bad_output_ends_its_own_request(monkeypatch, harm, top_k):
    llm = FakeLLM()
    engine = fake_engine(monkeypatch, llm)
    generate = llm.generate

    async def harmed(prompt, params, name, **options):
        count = 0
        async for output in generate(prompt, params, name, **options):
            count += 1
            if params.seed == 1 and count == 2:
                rows = output.outputs[0].logprobs
                if harm == "lost field":
                    del rows.end_indices
                elif harm == "repeated":
                    rows.token_ids[-1] = rows.token_ids[-2]
                elif harm == "short":
                    rows.token_ids, rows.logprobs, rows.end_indices = rows.token_ids[:3], rows.logprobs[:3], [3]
                else:
                    rows.logprobs[-1] = {"nan": math.nan, "positive": 0.5, "no number": "x"}[harm]
            yield output

    llm.generate = harmed

    async def four():
        work = [engine.extend(ask(seed, n=30, stop=())) for seed in range(4)]
        return await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 60)

    seeds = [seed for seed, outcome in enumerate(asyncio.run(four())) if isinstance(outcome, EngineError)]
    close(engine)
    assert seeds == [1]


def test_an_error_in_keep_going_that_is_no_exception_reaches_the_caller(engine):
    def cancel(piece):
        raise asyncio.CancelledError

    async def one():
        return await asyncio.wait_for(asyncio.gather(engine.extend(ask(), cancel), return_exceptions=True), 60)

    (error,) = asyncio.run(one())
    assert isinstance(error, asyncio.CancelledError)
