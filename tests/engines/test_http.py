"""The http engine against a fake server: every dialect, every check at the start, every fault."""

import asyncio
import gc
import logging
import warnings

import numpy as np
import pytest

import powercut as pc
from powercut.engines.http.api import Api
from powercut.engines.protocol import Chain
from powercut.study.exact import EOS, enumerate_completions, procedure_law
from tests.checks import chi_square_p, count, random_table
from tests.engines.fake_server import FakeServer
from tests.tiny import tiny_tokenizer

MODEL = random_table(1, 6)
PROMPT = np.array([1, 2, 3])
KINDS = ("completions", "generate", "llama", "sglang")
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("POWERCUT_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def load(server, *others, top_k=4, backoff=0.0, **options):
    return pc.load(",".join(s.url for s in (server, *others)), top_k=top_k, backoff=backoff, **options)


def ask(seed=0, context=PROMPT, n=12, **options):
    return pc.Request(context=context, max_new_tokens=n, seed=seed, top_k=options.pop("top_k", 4), **options)


def extend(engine, *requests, keep_going=None):
    async def all_at_once():
        return await asyncio.gather(*(engine.extend(r, keep_going) for r in requests))

    return asyncio.run(all_at_once())


def now(awaitable):
    async def awaited():
        return await awaitable

    return asyncio.run(awaited())


def never_stops(context):
    return np.array([0.0, 0.5, 0.3, 0.2])


def rejected(server, match, error=(pc.EngineError, pc.SettingError), **options):
    """Loading fails in one line that matches; returns it."""
    with pytest.raises(error, match=match) as caught:
        load(server, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


# what a server draws


@every_kind
@pytest.mark.parametrize("chunk", [1, 3])
def test_a_server_and_a_table_give_the_same_traces(kind, chunk):
    with FakeServer(MODEL, kind=kind, chunk=chunk) as server:
        requests = [ask(seed, temperature=0.5, n=9) for seed in range(20)]
        got = extend(load(server), *requests)
    want = extend(pc.TableEngine(MODEL, EOS), *requests)
    assert {t.finished for t in want} == {True, False}
    for a, b in zip(got, want, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist()
        assert a.finished == b.finished
        for name in ("logp", "logq", "entropy"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-9)


@every_kind
def test_the_last_piece_says_that_it_is_finished(kind):
    pieces = []
    with FakeServer(MODEL, kind=kind) as server:
        traces = extend(load(server), *map(ask, range(10)), keep_going=lambda piece: pieces.append(piece) or True)
    assert sum(p.finished for p in pieces) == sum(t.finished for t in traces) > 0
    assert all(p.tokens[-1] == EOS for p in pieces if p.finished)


@every_kind
def test_own_stop_tokens_cut_a_chunk(kind):
    with FakeServer(MODEL, kind=kind, chunk=4) as server:
        engine = load(server, stop_tokens=[5])
        for trace in extend(engine, *(ask(seed, stop=(4,)) for seed in range(20))):
            assert not set(trace.tokens[:-1].tolist()) & {EOS, 4, 5}
            assert trace.finished == (trace.tokens[-1] in (EOS, 4, 5))


def test_sglang_that_streams_only_what_is_new():
    with FakeServer(MODEL, kind="sglang", cumulative=False, chunk=2) as server:
        (got,) = extend(load(server), ask(3))
    (want,) = extend(pc.TableEngine(MODEL, EOS), ask(3))
    assert got.tokens.tolist() == want.tokens.tolist()


@every_kind
def test_prefill_is_what_the_server_says(kind):
    with FakeServer(MODEL, kind=kind, cached=2) as server:
        engine = load(server)
        (trace,) = extend(engine, ask(0))
    assert (trace.prefilled, engine.usage.prefilled, engine.usage.reused) == (1, 1, 2)
    with FakeServer(MODEL, kind="completions") as server:
        assert extend(load(server), ask(0))[0].prefilled == len(PROMPT)


ALARM = 1e-6


@pytest.mark.parametrize("faulty", [False, True], ids=["sound", "drops"])
def test_entropy_cut_over_http_has_the_law_of_its_procedure(faulty):
    """Dropped streams and all: what is drawn after a drop follows the same law."""
    probs = random_table(12, 3)
    sampler = pc.EntropyCut(alpha=2, steps=2, blocks=1, max_new_tokens=3, uniform_mix=0.2, top_k=3)
    space = enumerate_completions(probs, (1,), 3, sampler.proposal_temperature, 3)
    with FakeServer(probs, kind="generate") as server:
        engine = load(server, top_k=3, concurrency=8)
        server.drops = [1, 0, 3, 1, 2] * 100 if faulty else []
        completions = pc.sample(engine, sampler, [(1,)], n=250, seed=5)
    counts = count(space, completions)
    assert chi_square_p(counts, procedure_law([space], sampler)) > ALARM
    low = space.power(1.0)
    assert chi_square_p(counts, low) < ALARM  # control: not the model itself


# what the checks at the start find


def test_no_server():
    with FakeServer(MODEL) as server:
        pass
    rejected(server, "no answer from http://127.0.0.1:.*start the server")


@pytest.mark.parametrize("url", ["http:///v1", "http://u:secret@host/v1", "http://host/v1,ftp://other"])
def test_urls_that_are_none(url):
    with pytest.raises(pc.SettingError) as caught:
        pc.load(url)
    assert "secret" not in str(caught.value)


@every_kind
def test_another_model(kind):
    with FakeServer(MODEL, kind=kind, model="org/some") as server:
        rejected(server, "model: .* serves org/some, not org/other", model="org/other")
        assert load(server, model="org/some").name == "org/some"


def test_servers_of_different_models():
    with (
        FakeServer(MODEL) as one,
        FakeServer(MODEL, model="other") as two,
        pytest.raises(pc.SettingError, match="other"),
    ):
        load(one, two)


@every_kind
def test_no_log_probs(kind):
    with FakeServer(MODEL, kind=kind, log_probs=False) as server:
        rejected(server, "no log-probabilities")


@every_kind
def test_processed_log_probs(kind):
    remedies = {"llama": "newer", "sglang": "SGLANG_RETURN_ORIGINAL_LOGPROB=1"}
    with FakeServer(MODEL, kind=kind, processed=True) as server:
        rejected(server, remedies.get(kind, "--logprobs-mode raw_logprobs"))


def test_too_few_log_probs():
    with FakeServer(MODEL, max_logprobs=3) as server:
        rejected(server, "top_k=4: .*max allowed: 3.*--max-logprobs 4")
    with FakeServer(MODEL) as server:
        rejected(server, "top_k=7: .* only 6 log-probabilities", top_k=7)


def test_a_larger_top_k_is_tried_when_it_is_first_wanted():
    with FakeServer(MODEL, max_logprobs=5) as server:
        engine = load(server)
        engine.check(ask(top_k=5))
        with pytest.raises(pc.SettingError, match="top_k=6"):
            engine.check(ask(top_k=6))


def test_requests_that_no_server_can_serve():
    with FakeServer(MODEL, max_model_len=20) as server:
        engine = load(server)
        with pytest.raises(pc.SettingError, match="top_k=None"):
            pc.sample(engine, pc.Standard(top_k=None), [[1]])
        with pytest.raises(pc.SettingError, match=r"context_length=20: .*give the server a longer one"):
            pc.sample(engine, pc.Standard(top_k=4, max_new_tokens=20), [[1]])
        with pytest.raises(pc.SettingError, match=r"temperature 0\.001"):  # which vLLM would raise to 0.01
            pc.sample(engine, pc.LowTemperature(alpha=1000, top_k=4, max_new_tokens=2), [[1]])
        with pytest.raises(pc.SettingError, match="tokenizer on this machine"):
            pc.sample(engine, pc.Standard(top_k=4, max_new_tokens=4, stop=("x",)), [[1]])
    assert engine.describe() == f"fake at {server.url[:-3]} (vLLM completions), up to 64 requests at once"


def test_what_is_no_such_server():
    with FakeServer(MODEL) as server:
        server.kind = "llama"  # the list of models says llama.cpp, and this path is not there
        api = Api(server.url[:-3])
        assert asyncio.run(api.get("/v1/models"))["data"][0]["owned_by"] == "llamacpp"
        with pytest.raises(pc.EngineError, match="404"):
            asyncio.run(api.post("/nothing", {}))


def test_an_option_it_does_not_have():
    with pytest.raises(pc.SettingError, match="http engine has no option slots"):
        pc.load("http://host/v1", slots=3)


# text


def text_model(context):
    return np.full(260, 1 / 260)


@pytest.mark.parametrize("kind", ["completions", "llama"])
def test_text_by_the_servers_endpoints(kind):
    with FakeServer(text_model, kind=kind, tokenizer=tiny_tokenizer()) as server:
        engine = load(server)
        assert engine.text.has_chat_template
        ids = now(engine.text.encode("héllo"))
        assert ids == tiny_tokenizer().encode("héllo")
        assert now(engine.text.decode(ids)) == "héllo"
        chat = now(engine.text.encode_chat([{"role": "user", "content": "hi"}]))
        assert tiny_tokenizer().decode(chat) == "<|user|>hi<|end|><|assistant|>"
        server.probs = lambda context: np.eye(260)[ids[0] if len(context) < 30 else EOS]
        [c] = pc.sample(engine, pc.Standard(top_k=4, max_new_tokens=40), ["go"])
        assert c.finished
        assert set(c.text) == {"h"}  # the stop token, once seen, is left out


def test_text_by_a_tokenizer_here(tmp_path):
    folder = tmp_path / "tokenizer"
    tiny_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with FakeServer(text_model, tokenizer=tiny_tokenizer()) as server:
        engine = load(server, tokenizer=str(folder))
        a = now(engine.text.encode("a"))[0]
        server.probs = lambda context: np.eye(260)[a]
        [c] = pc.sample(engine, pc.Standard(top_k=4, max_new_tokens=40, stop=("aaa",)), ["go"])
        assert c.finished
        assert len(c.tokens) == 3


def test_wrong_vocabulary(tmp_path):
    other = tiny_tokenizer()
    other.add_tokens(["The", " naïve", "3 + 4"])
    other.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with FakeServer(text_model, tokenizer=tiny_tokenizer()) as server:
        rejected(server, "tokenizer: .* is not that of fake", tokenizer=str(tmp_path))


# faults while it runs


@every_kind
def test_dropped_streams_are_taken_up_where_they_broke(kind):
    shown = []
    with FakeServer(never_stops, kind=kind) as server:
        engine = load(server, top_k=3)
        server.drops = [4, 0, 3]
        request = ask(7, n=12, top_k=3)
        (trace,) = extend(engine, request, keep_going=lambda piece: shown.append(piece) or True)
    assert len(trace) == 12
    assert pc.Trace.join(shown) == trace  # nothing twice, nothing left out
    (undisturbed,) = extend(pc.TableEngine(never_stops), request)
    kept = 3 if kind == "llama" else 4
    assert trace.tokens[:kept].tolist() == undisturbed.tokens[:kept].tolist()
    seeds = {str(seen.get("seed") or seen.get("sampling_params")) for seen in server.seen[2:]}
    assert len(seeds) >= 3  # what follows a break has noise of its own


def test_failures_of_the_server_are_tried_again():
    with FakeServer(MODEL) as server:
        engine = load(server)
        server.failures = 3
        (trace,) = extend(engine, ask(3))
    assert trace.tokens.tolist() == extend(pc.TableEngine(MODEL, EOS), ask(3))[0].tokens.tolist()


def test_it_gives_up_at_last():
    with FakeServer(MODEL) as server:
        engine = load(server, retry_for=0.0)
        server.failures = 1
        with pytest.raises(pc.EngineError, match=r"HTTP 500: out of order; given up after .* \(retry_for\)"):
            extend(engine, ask())


@every_kind
def test_a_server_without_memory_says_what_to_lower(kind):
    options = {"llama": "-c or --parallel", "sglang": "--mem-fraction-static"}.get(kind, "--gpu-memory-utilization")
    with FakeServer(MODEL, kind=kind, failure="CUDA out of memory. Tried to allocate 2.00 GiB") as server:
        engine = load(server, retry_for=0.0)
        server.failures = 1
        with pytest.raises(pc.EngineError, match=f"out of memory.*lower concurrency, or its .*{options}") as error:
            extend(engine, ask())
        assert "\n" not in str(error.value)


class OnWarning(logging.Handler):
    """Calls ``act`` when the engine says that a server is away."""

    def __init__(self, act):
        super().__init__(logging.INFO)
        self.act, self.lines = act, []

    def emit(self, record):
        self.lines.append(record.getMessage())
        if "chains wait" in self.lines[-1]:
            self.act()

    def __enter__(self):
        log = logging.getLogger("powercut")
        self.level = log.level
        log.setLevel(logging.INFO)
        log.addHandler(self)
        return self

    def __exit__(self, *_):
        log = logging.getLogger("powercut")
        log.setLevel(self.level)
        log.removeHandler(self)


@every_kind
def test_a_server_killed_and_restarted(kind):
    """Chains go on where they were; one line says that they wait, one that they go on."""
    shown = 0

    def kill(piece):
        nonlocal shown
        shown += 1
        if shown == 60:
            server.stop()
            server.hold_after = None
        return True

    with FakeServer(never_stops, kind=kind, cumulative=False) as server:
        engine = load(server, top_k=3)
        with OnWarning(server.start) as heard:
            server.hold_after = 10
            requests = [ask(seed, n=30, top_k=3) for seed in range(8)]
            traces = extend(engine, *requests, keep_going=kill)
    assert [len(t) for t in traces] == [30] * 8
    away, *_, back = heard.lines
    assert "chains wait" in away
    assert "answers again" in back
    assert sum("chains wait" in line for line in heard.lines) == 1


def test_a_server_that_comes_back_as_another():
    def restart():
        server.model = "other"
        server.start()

    with FakeServer(never_stops) as server:
        engine = load(server, top_k=3)

        def kill(piece):
            server.stop()
            return True

        server.hold_after = 2
        with OnWarning(restart), pytest.raises(pc.EngineError, match="came back and serves other, not fake"):
            extend(engine, ask(n=30, top_k=3), keep_going=kill)


def test_a_hidden_stop_token_is_an_error():
    with FakeServer(MODEL, hide_stop=True) as server:
        engine = load(server)
        with pytest.raises(pc.EngineError, match="hides the token"):
            extend(engine, *map(ask, range(10)))


def test_closing_the_stream_frees_the_server():
    with FakeServer(never_stops) as server:
        engine = load(server, top_k=3)

        async def one_token():
            trace = await engine.extend(ask(n=1_000_000, top_k=3), lambda piece: False)
            assert await asyncio.to_thread(server.aborted.wait, 30)
            return trace

        trace = asyncio.run(one_token())
        assert not trace.finished
        assert len(trace) < 100
        server.aborted.clear()

        async def cancelled():
            started = asyncio.Event()
            task = asyncio.create_task(engine.extend(ask(n=1_000_000, top_k=3), lambda piece: started.set() or True))
            await started.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert engine.idle == engine.concurrency
            assert await asyncio.to_thread(server.aborted.wait, 30)

        asyncio.run(cancelled())


# several servers, and the key


def test_chains_stay_with_their_server():
    with FakeServer(MODEL) as one, FakeServer(MODEL) as two:
        engine = load(one, two, concurrency=5)
        assert engine.concurrency == 10
        one.seen.clear(), two.seen.clear()
        chains = [Chain() for _ in range(6)]
        for lane in range(3):
            extend(engine, *(ask(i, chain=c, lane=lane, context=np.array([i + 1])) for i, c in enumerate(chains)))
        places = [{p["prompt"][0] for p in server.seen} for server in (one, two)]
        assert not places[0] & places[1]
        assert [len(s.seen) for s in (one, two)] == [9, 9]


def test_one_of_two_servers_dies():
    with FakeServer(MODEL) as one, FakeServer(MODEL) as two:
        engine = load(one, two)
        chain = Chain()
        extend(engine, ask(0, chain=chain))
        one.stop()
        traces = extend(engine, *(ask(seed, chain=chain if seed == 0 else None) for seed in range(8)))
        one.start()
    want = extend(pc.TableEngine(MODEL, EOS), *map(ask, range(8)))
    assert [t.tokens.tolist() for t in traces] == [t.tokens.tolist() for t in want]


def test_the_key_is_sent_and_never_shown(monkeypatch, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    with FakeServer(MODEL, key="sk-secret") as server:
        assert "POWERCUT_API_KEY" in rejected(server, "asks for a key")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
        assert "sk-other" not in rejected(server, "refuses the key")
        monkeypatch.setenv("POWERCUT_API_KEY", "sk-secret")
        engine = load(server)
        extend(engine, ask(0))
        assert server.headers[-1]["Authorization"] == "Bearer sk-secret"
        server.key = "sk-new"
        with pytest.raises(pc.EngineError, match="refuses the key") as caught:
            extend(engine, ask(0))
    shown = [str(caught.value), repr(engine), repr(vars(engine)), engine.describe(), caplog.text, *capsys.readouterr()]
    assert not any("sk-secret" in text or "sk-other" in text for text in shown)


def test_nothing_is_left_open():
    with FakeServer(MODEL) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = load(server)
        for _ in range(3):
            pc.sample(engine, pc.Standard(max_new_tokens=4, top_k=4), [[1]], n=3)
            assert not engine._pool.servers[0].api._connections._clients

        async def dropped():
            other = load(server)
            await other.extend(ask(0))
            del other
            gc.collect()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            left = [task for task in asyncio.all_tasks() if task.get_name() == "powercut-http"]
            await asyncio.gather(*left, return_exceptions=True)
            return left

        asyncio.run(dropped())
        gc.collect()
