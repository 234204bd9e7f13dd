"""Traces from top-k log-probabilities equal those from the whole law."""

import numpy as np
import pytest

from powercut.engines.next_token import next_token_law
from powercut.engines.top_k import trace_from_top_k
from powercut.errors import EngineError

NO = -np.inf


def rows(n=7, k=5, seed=0):
    """Random ids without repetition, log-probabilities of a truncated law in no order, and a token drawn from each."""
    rng = np.random.default_rng(seed)
    ids = np.array([rng.choice(50, k, replace=False) for _ in range(n)])
    logprobs = np.log(rng.dirichlet(np.ones(k), n) * 0.9)
    return ids[np.arange(n), rng.integers(k, size=n)], ids, logprobs


def test_it_is_the_next_token_law_of_the_entries():
    tokens, ids, logprobs = rows()
    trace = trace_from_top_k(tokens, ids, logprobs, top_k=5, temperature=0.25)
    law = next_token_law(logprobs, np.full(7, 0.25))
    at = np.arange(7), (ids == tokens[:, None]).argmax(axis=1)
    np.testing.assert_array_equal(trace.tokens, tokens)
    np.testing.assert_allclose(trace.logp, law.logp[at], rtol=1e-13)
    np.testing.assert_allclose(trace.logq, law.logq[at], rtol=1e-13)
    np.testing.assert_allclose(trace.entropy, law.entropy, rtol=1e-13)
    assert not trace.finished


def test_order_and_a_constant_do_not_matter():
    tokens, ids, logprobs = rows()
    want = trace_from_top_k(tokens, ids, logprobs, top_k=5, temperature=0.5)
    shuffle = np.random.default_rng(1).permuted(np.tile(np.arange(5), (7, 1)), axis=1)
    shuffled = [np.take_along_axis(a, shuffle, axis=1) for a in (ids, logprobs + 3)]
    got = trace_from_top_k(tokens, *shuffled, top_k=5, temperature=0.5, finished=True)
    for name in ("logp", "logq", "entropy"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), atol=1e-12)
    assert got.finished


def test_more_entries_than_k_are_truncated_to_the_likeliest():
    ids, logprobs = np.array([[3, 1, 4, 9]]), np.log([[0.1, 0.4, 0.3, 0.2]])
    trace = trace_from_top_k([4], ids, logprobs, top_k=2, temperature=1.0)
    np.testing.assert_allclose(trace.logp, np.log(3 / 7), rtol=1e-13)
    np.testing.assert_allclose(trace.entropy, -(3 / 7 * np.log(3 / 7) + 4 / 7 * np.log(4 / 7)), rtol=1e-13)


def test_entries_of_probability_zero_and_absent_ones_count_for_nothing():
    ids, logprobs = np.array([[3, 1, 0, 0]]), np.array([[np.log(0.5), np.log(0.25), NO, NO]])
    trace = trace_from_top_k([1], ids, logprobs, top_k=4, temperature=0.5)
    np.testing.assert_allclose(trace.logp, np.log(1 / 3), rtol=1e-13)
    np.testing.assert_allclose(trace.logq, np.log(1 / 5), rtol=1e-13)
    assert np.isfinite(trace.entropy).all()


@pytest.mark.parametrize("drawn", [4, 9])
def test_of_tokens_tied_at_rank_k_any_may_be_drawn(drawn):
    """Both 4 and 9 are at rank 2; the law keeps two entries, whichever is drawn."""
    ids, logprobs = np.array([[1, 4, 9]]), np.log([[0.5, 0.2, 0.2]])
    trace = trace_from_top_k([drawn], ids, logprobs, top_k=2, temperature=1.0)
    np.testing.assert_allclose(trace.logp, np.log(2 / 7), rtol=1e-13)


def test_the_token_drawn_may_come_as_one_entry_more_if_it_is_tied():
    ids, logprobs = np.array([[7, 1, 4]]), np.log([[0.2, 0.5, 0.2]])  # drawn first, then the two likeliest
    trace = trace_from_top_k([7], ids, logprobs, top_k=2, temperature=1.0)
    np.testing.assert_allclose(trace.logp, np.log(2 / 7), rtol=1e-13)


def test_a_token_outside_the_k_likeliest_is_an_error():
    ids, logprobs = np.array([[7, 1, 4]]), np.log([[0.1, 0.5, 0.2]])
    with pytest.raises(EngineError, match="outside the 2 most likely"):
        trace_from_top_k([7], ids, logprobs, top_k=2, temperature=1.0)


def test_a_token_without_a_log_probability_is_an_error():
    with pytest.raises(EngineError, match="drew token 8"):
        trace_from_top_k([8], np.array([[7, 1]]), np.log([[0.6, 0.4]]), top_k=2, temperature=1.0)


def test_a_padding_entry_of_the_drawn_token_is_no_log_probability_of_its_own():
    """vLLM shows the token drawn twice; a struck-out copy must not be taken for it."""
    ids, logprobs = np.array([[4, 1, 4]]), np.array([[NO, np.log(0.5), np.log(0.2)]])
    trace = trace_from_top_k([4], ids, logprobs, top_k=2, temperature=1.0)
    np.testing.assert_allclose(trace.logp, np.log(2 / 7), rtol=1e-13)


def test_no_tokens_give_the_empty_trace():
    trace = trace_from_top_k([], np.zeros((0, 3), dtype=np.int64), np.zeros((0, 3)), top_k=3, temperature=1.0)
    assert len(trace) == 0
