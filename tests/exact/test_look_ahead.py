"""Look-ahead changes nothing but latency and cost: the chains of look_ahead=1, step for step and bit for bit."""

import functools

import pytest
import torch

import powercut as pc
from powercut.engines.transformers import TransformersEngine
from powercut.samplers.draw import Draw
from powercut.samplers.guess import Guess
from powercut.samplers.look_ahead import LookAhead
from powercut.study.exact import EOS
from tests.checks import random_table
from tests.tiny import tiny_model


def table():
    return pc.TableEngine(random_table(21, 5), EOS)


def transformer():
    model = tiny_model("llama", vocab_size=20, dtype=torch.float64)
    return TransformersEngine(model, stop_tokens=[EOS], slots=8, context_length=64)


def chains(engine, n, *, refine_finished=True, **settings):
    paths = {}
    settings |= {"alpha": 3, "steps": 9, "blocks": 3, "max_new_tokens": 24, "top_k": 5, "uniform_mix": 0.2}
    sampler = pc.EntropyCut(refine_finished=refine_finished, **settings)
    completions = pc.sample(
        engine, sampler, [(1, 2)], n=n, seed=3, observe=lambda i, j, e: paths.setdefault(j, []).append(e.trace)
    )
    return completions, paths


@functools.cache
def one_after_another(make, n, settings):
    """The chains of look_ahead=1, with these (name, value) pairs as settings."""
    return chains(make(), n, **dict(settings))


@pytest.mark.parametrize("early_reject", [True, False])
@pytest.mark.parametrize("look_ahead", [2, 5, 30, "auto"])
@pytest.mark.parametrize(
    ("make", "n", "settings"),
    [
        (table, 12, {}),
        (table, 12, {"refine_finished": False}),
        (table, 8, {"tries": 3}),
        (table, 12, {"rule": "published", "refine_finished": False}),
        (transformer, 2, {}),
        (transformer, 12, {}),
        (transformer, 12, {"refine_finished": False}),
    ],
)
def test_chains_are_those_without_look_ahead(make, n, settings, look_ahead, early_reject):
    engine = make()
    settings = {"early_reject": early_reject, **settings}
    refine_finished = settings.get("refine_finished", True)
    got, got_paths = chains(engine, n, look_ahead=look_ahead, **settings)
    want, want_paths = one_after_another(make, n, tuple(settings.items()))
    for a, b in zip(got, want, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist()
        assert [(s.stage, s.cut, s.accepted, s.tokens_decoded) for s in a.steps] == [
            (s.stage, s.cut, s.accepted, s.tokens_decoded) for s in b.steps
        ]
        assert 0 < b.stats.acceptance < 1 or not refine_finished  # a chain may be short then
        assert a.stats.tokens_decoded >= b.stats.tokens_decoded
    if make is table:  # a transformer's last bits depend on the batch
        assert [c.trace for c in got] == [c.trace for c in want]
        assert got_paths == want_paths
    # what was decoded in vain is accounted for too
    assert sum(c.stats.tokens_decoded for c in got) == engine.usage.decoded
    assert engine.idle == engine.concurrency


def test_look_ahead_decodes_side_by_side():
    most = 0
    engine = table()

    def observe(i, j, event):
        nonlocal most
        most = max(most, engine.concurrency - engine.idle)

    every = {"top_k": 5, "look_ahead": 4, "skip_repeats": False}  # so that each proposal is decoded
    sampler = pc.UniformCut(alpha=6, steps=20, blocks=1, max_new_tokens=12, **every)
    pc.sample(engine, sampler, [(1,)], seed=1, observe=observe)
    assert most == 3  # one of the four has just been judged


def test_the_next_extension_is_drawn_ahead():
    engine, most = table(), 0

    async def extend(request, keep_going=None):
        nonlocal most
        most = max(most, 1 + engine.concurrency - engine.idle)
        return await pc.TableEngine.extend(engine, request, keep_going)

    engine.extend = extend
    sampler = pc.UniformCut(alpha=6, steps=1, blocks=8, max_new_tokens=24, top_k=5, look_ahead=2, skip_repeats=False)
    pc.sample(engine, sampler, [(1,)], n=8, seed=1, concurrency=1)
    assert most == 2  # with one step a stage, what else could be


def passes(monkeypatch, look_ahead, **changed):
    """Forward passes for the same chain, and how many requests were taken that had been decoded ahead."""
    engine, count, took = transformer(), 0, []
    advance, take = engine._cache.advance, Guess.take

    def counted(*args):
        nonlocal count
        count += 1
        return advance(*args)

    def taken(self, keep_going):
        took.append(len(self._pieces))
        return take(self, keep_going)

    engine._cache.advance = counted
    with monkeypatch.context() as patch:
        patch.setattr(Guess, "take", taken)
        for name, value in changed.items():
            patch.setattr(LookAhead, name, value)
        [c], _ = chains(engine, 1, look_ahead=look_ahead)
    return count, took, c


def test_what_comes_after_an_acceptance_is_decoded_before_it_is_known(monkeypatch):
    alone, _, want = passes(monkeypatch, 1)
    ahead, took, got = passes(monkeypatch, 8)
    rejections, _, same = passes(monkeypatch, 8, _guess=lambda self, head: None)
    assert got.tokens.tolist() == want.tokens.tolist() == same.tokens.tolist()
    assert sum(pieces > 0 for pieces in took) >= 10
    assert ahead < rejections < alone


def test_a_guess_is_taken_back_when_the_text_cuts_elsewhere(monkeypatch):
    """As wrong as can be: each guess is made for another seed. The chain is the same, what was guessed is wasted."""
    guess = Draw.guess

    def wrong(self, kept, horizon, seed, **others):
        return guess(self, kept, horizon, seed + 1, **others)

    [want], _ = chains(table(), 1)
    monkeypatch.setattr(Draw, "guess", wrong)
    engine = table()
    [got], _ = chains(engine, 1, look_ahead=6)
    assert got.trace == want.trace
    assert engine.usage.decoded > want.stats.tokens_decoded


@pytest.mark.parametrize("look_ahead", [4, "auto"])
def test_it_takes_what_is_idle_and_no_more(look_ahead):
    engine = pc.TableEngine(random_table(21, 5), EOS, concurrency=6)
    sampler = pc.UniformCut(alpha=6, steps=20, blocks=1, max_new_tokens=12, top_k=5, look_ahead=look_ahead)
    most = 0

    def observe(i, j, event):
        nonlocal most
        most = max(most, engine._running)

    pc.sample(engine, sampler, [(1,)], n=6, observe=observe)
    assert 6 <= most <= 12  # while a chain is between two proposals another may take its place


@pytest.mark.parametrize(("slots", "n", "look_ahead"), [(1, 1, 4), (3, 4, 4), (3, 4, "auto")])
def test_what_is_drawn_ahead_costs_nobody_a_cached_prefix(slots, n, look_ahead):
    """On a full engine nothing is drawn ahead; else a lane that opens computes a last token anew, now and then.

    How many are drawn ahead depends on the clock; that no request costs more than its last token does not.
    """

    def prefilled(ahead):
        engine = TransformersEngine(tiny_model("llama", vocab_size=40), slots=slots, context_length=64)
        extend, contexts = engine.extend, []

        async def counted(request, keep_going=None):
            contexts.append(len(request.context))
            return await extend(request, keep_going)

        engine.extend = counted
        settings = {"alpha": 1.5, "steps": 6, "blocks": 2, "max_new_tokens": 24, "top_k": 20, "refine_finished": True}
        pc.sample(engine, pc.UniformCut(look_ahead=ahead, **settings), [[1, 2, 3]], n=n, seed=1)
        return engine.usage.prefilled, contexts

    (alone, _), (ahead, contexts) = prefilled(1), prefilled(look_ahead)
    assert sum(contexts) > 5 * (alone + len(contexts))  # what it would be with nothing cached
    assert ahead == alone if slots == 1 else ahead <= alone + len(contexts)
