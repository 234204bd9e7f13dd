"""llama-server hides tokens that end inside a character: their share and what follows them keep their law."""

import numpy as np
import pytest

import powercut as pc
from powercut.engines.http.dialects.llama_server import _incomplete
from powercut.study.exact import enumerate_completions
from tests.checks import chi_square_p, count, random_table
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import ask, extend, load

ALARM = 1e-6
MODEL = random_table(3, 5)


def emoji(context):
    """Tokens 3 and 4 end inside a character, and 2 goes on from there, or 4 again."""
    if context[-1] in (3, 4):
        return np.array([0.05, 0.01, 0.59, 0.0, 0.35])
    return np.array([0.0, 0.4, 0.05, 0.35, 0.2])


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("probs", [MODEL, emoji], ids=["random", "emoji"])
def test_hidden_tokens_keep_their_law(probs, temperature):
    """False-alarm probability: ALARM each, of all completions of three tokens."""
    top_k = 4
    space = enumerate_completions(probs, (1,), 3, temperature, top_k)
    law = np.exp([trace.logq.sum() for trace in space.traces])
    with FakeServer(probs, kind="llama", hidden=frozenset({3, 4})) as server:
        engine = load(server, top_k=top_k, concurrency=16)
        sampler = pc.LowTemperature(alpha=1 / temperature, max_new_tokens=3, top_k=top_k)
        completions = pc.sample(engine, sampler, [[1]], n=250, seed=7)
    counts = count(space, completions)
    assert counts.sum() == 250
    assert chi_square_p(counts, law) > ALARM


def test_their_laws_are_those_of_a_server_that_shows_them():
    with FakeServer(MODEL, kind="llama", hidden=frozenset({2, 4})) as server:
        traces = extend(load(server), *(ask(seed, n=8, temperature=0.5) for seed in range(30)))
    seen = {int(token) for trace in traces for token in trace.tokens}
    assert seen >= {2, 4}
    for trace in traces:
        context = [1, 2, 3]
        for token, logp, entropy in zip(trace.tokens, trace.logp, trace.entropy, strict=True):
            p = np.sort(MODEL(tuple(context)))[::-1][:4]
            p /= p.sum()
            assert np.isclose(np.exp(logp), MODEL(tuple(context))[token] / np.sort(MODEL(tuple(context)))[-4:].sum())
            assert np.isclose(entropy, -(p * np.log(p)).sum())
            context.append(int(token))


def test_a_break_before_the_hidden_token_is_drawn_does_not_undo_that_it_was_hidden():
    """Token 3 has probability 0.9, and each request that would tell of it fails once: it is drawn all the same."""
    failed = []

    def fail_once(path, body):
        if "logit_bias" in body and body["n_predict"] == 1 and body["seed"] not in failed:
            failed.append(body["seed"])
            return b""
        return None

    probs = np.array([0.0, 0.5, 0.0, 0.5])
    with FakeServer(lambda context: probs, kind="llama", hidden=frozenset({3})) as server:
        engine = load(server, top_k=2)
        server.instead = fail_once
        traces = extend(engine, *(ask(seed, n=1, top_k=2) for seed in range(100)))
    assert len(failed) > 20
    counts = np.bincount([int(trace.tokens[0]) for trace in traces], minlength=4)
    assert chi_square_p(counts[[1, 3]], np.array([0.5, 0.5])) > ALARM


def test_a_hidden_token_that_no_rule_explains_is_an_error():
    with FakeServer(emoji, kind="llama") as server:
        engine = load(server)
        server.hidden = frozenset({2})

        def shown_as_complete(text):
            return text.replace("[240, 159]", "[65]")

        server.spoil = shown_as_complete
        with pytest.raises(pc.EngineError, match="hid a token: it is none of"):
            extend(engine, *(ask(seed, n=4) for seed in range(5)))


@pytest.mark.parametrize("kind", ["completions", "sglang"])
def test_other_servers_may_hide_none(kind):
    def lose(text):
        return text.replace('"completion_tokens": 2', '"completion_tokens": 3')

    with FakeServer(lambda context: np.array([0.0, 0.5, 0.3, 0.2]), kind=kind, cumulative=False) as server:
        engine = load(server, top_k=3)
        server.spoil = lose
        with pytest.raises(pc.EngineError, match="hides tokens"):
            extend(engine, ask(top_k=3, n=5))


@pytest.mark.parametrize(
    ("text", "incomplete"),
    [
        (b"", False),
        (b"a", False),
        ("é".encode(), False),
        ("é".encode()[:1], True),
        ("€".encode()[:2], True),
        ("😀".encode(), False),
        *(("😀".encode()[:n], True) for n in (1, 2, 3)),
        (b"\x98\x80", False),  # the rest of a character
        (b"a \xf0\x9f\x98", True),
        (b"\xf0\xc3\xa9", True),  # no UTF-8 at all: judged as the server does
        (b"\xf0\xc3\xa9a", False),
    ],
)
def test_what_ends_inside_a_character(text, incomplete):
    assert _incomplete(text) == incomplete
