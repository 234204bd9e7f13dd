"""What a server draws has the law that it tells."""

import numpy as np
import pytest

import powercut as pc
from powercut.study.exact import EOS, enumerate_completions, procedure_law
from tests.checks import ALARM, chi_square_p, count, draws_to_tell, random_table
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import MODEL, PROMPT, ask, every_kind, extend, load


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


def check_early_stops(engine, probs):
    """Completions with min_new_tokens have the law of the model that is conditioned on no stop there; how many are."""
    sampler = pc.LowTemperature(alpha=2, max_new_tokens=4, min_new_tokens=2, top_k=3)
    space = enumerate_completions(probs, (1,), 4, 0.5, 3, 2)
    law = np.exp([trace.logq.sum() for trace in space.traces])
    drawn = pc.sample(engine, sampler, [(1,)], n=draws_to_tell(space.power(1.0), law, least=150), seed=5)
    for c in drawn:
        want = space.traces[space.index[tuple(c.tokens.tolist())]]
        for name in ("logp", "logq", "entropy"):
            np.testing.assert_allclose(getattr(c.trace, name), getattr(want, name), atol=1e-9)
    assert chi_square_p(count(space, drawn), law) > ALARM
    assert chi_square_p(count(space, drawn), space.power(1.0)) < ALARM  # control
    assert engine.idle == engine.concurrency
    return len(drawn)


@every_kind
@pytest.mark.parametrize("chunk", [1, 3])
def test_a_stop_that_comes_too_early_is_drawn_again(kind, chunk):
    probs = random_table(22, 4)
    with FakeServer(probs, kind=kind, chunk=chunk) as server:
        engine = load(server, top_k=3, concurrency=8, stop_tokens=[EOS])
        check_early_stops(engine, probs)


def test_where_a_servers_stops_are_not_known_they_cannot_be_barred():
    with FakeServer(MODEL, kind="generate") as server:
        engine = load(server)
        with pytest.raises(pc.SettingError, match=r"^min_new_tokens: it is not known which tokens end a completion"):
            extend(engine, ask(0, min_new_tokens=2))
        wrong = load(server, stop_tokens=[3])
        with pytest.raises(pc.EngineError, match="token 0 ended a completion before min_new_tokens=8"):
            extend(wrong, *(ask(seed, min_new_tokens=8) for seed in range(20)))


@pytest.mark.parametrize("faulty", [False, True], ids=["sound", "drops"])
def test_entropy_cut_over_http_has_the_law_of_its_procedure(faulty):
    """Dropped streams and all: what is drawn after a drop follows the same law.

    False-alarm probability: ALARM for the law, and less for the control.
    """
    probs = random_table(18, 3)
    sampler = pc.EntropyCut(alpha=2, steps=2, blocks=1, max_new_tokens=3, uniform_mix=0.2, top_k=3)
    space = enumerate_completions(probs, (1,), 3, sampler.proposal_temperature, 3)
    with FakeServer(probs, kind="generate") as server:
        engine = load(server, top_k=3, concurrency=8)
        server.drops = [1, 0, 3, 1, 2] * 200 if faulty else []
        law, low = procedure_law([space], sampler), space.power(1.0)
        completions = pc.sample(engine, sampler, [(1,)], n=draws_to_tell(low, law), seed=5)
    counts = count(space, completions)
    assert chi_square_p(counts, law) > ALARM
    assert chi_square_p(counts, low) < ALARM  # control: not the model itself
