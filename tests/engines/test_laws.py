"""The next-token law against its definition, with numpy and torch; what a draw may never give; rows of servers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from powercut.engines.laws import check_rows, draw, next_token_law, padded_rows, top_k_laws, whole_numbers
from powercut.errors import EngineError

LAST = math.nextafter(1, 0)
"""The largest number below 1 that a generator can give."""

LOGITS = st.one_of(st.just(-math.inf), st.floats(-50, 50), st.floats(-1e4, 1e4))
BACKENDS = [lambda array: array, torch.as_tensor]
backends = pytest.mark.parametrize("xp", BACKENDS, ids=["numpy", "torch"])


@st.composite
def rows_of_logits(draw_from, elements=LOGITS):
    shape = draw_from(st.tuples(st.integers(1, 4), st.integers(1, 8)))
    logits = draw_from(hnp.arrays(np.float64, shape, elements=elements))
    possible = draw_from(hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    rows = np.arange(shape[0])
    logits[rows, possible] = np.maximum(logits[rows, possible], -1e4)  # some token can follow
    return logits


def temperatures(rows):
    return hnp.arrays(np.float64, rows, elements=st.one_of(st.just(1.0), st.floats(0.05, 5)))


def by_definition(row, temperature):
    """(log p, log q, H) of one row, number by number."""

    def log_normalise(scores):
        top = max(scores)
        norm = top + math.log(math.fsum(math.exp(s - top) for s in scores))
        return [s - norm for s in scores]

    logp = log_normalise(row)
    logq = log_normalise([lp / temperature for lp in logp])
    return logp, logq, -math.fsum(math.exp(lp) * lp for lp in logp if lp > -math.inf)


@backends
@given(data=st.data())
def test_the_law_is_its_definition(xp, data):
    logits = data.draw(rows_of_logits())
    tau = data.draw(temperatures(len(logits)))
    law = next_token_law(xp(logits), xp(tau))
    for i, row in enumerate(logits.tolist()):
        logp, logq, entropy = by_definition(row, float(tau[i]))
        np.testing.assert_allclose(np.asarray(law.logp)[i], logp, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(np.asarray(law.logq)[i], logq, rtol=1e-10, atol=1e-10)
        assert float(law.entropy[i]) == pytest.approx(entropy, abs=1e-10)


@given(rows_of_logits(), st.data())
def test_torch_and_numpy_agree(logits, data):
    tau = data.draw(temperatures(len(logits)))
    ours, theirs = next_token_law(logits, tau), next_token_law(torch.as_tensor(logits), torch.as_tensor(tau))
    for a, b in zip(ours, theirs, strict=True):
        assert b.dtype == torch.float64
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-12, atol=1e-12)
    u = data.draw(hnp.arrays(np.float64, len(logits), elements=st.floats(0, LAST)))
    drawn, also_drawn = draw(ours.logq, u), draw(torch.as_tensor(ours.logq), torch.as_tensor(u))
    cdf = np.cumsum(np.exp(ours.logq), axis=-1)
    clear = np.abs(cdf / cdf[:, -1:] - u[:, None]).min(axis=-1) > 1e-12  # not within rounding of a step
    assert drawn[clear].tolist() == also_drawn.numpy()[clear].tolist()


@backends
@given(data=st.data())
def test_laws_are_never_positive_and_entropy_is_within_its_bounds(xp, data):
    logits = data.draw(rows_of_logits())
    law = next_token_law(xp(logits), xp(data.draw(temperatures(len(logits)))))
    assert bool((law.logp <= 0).all())
    assert bool((law.logq <= 0).all())
    assert bool((law.entropy >= 0).all())
    assert bool((law.entropy <= math.log(logits.shape[1]) + 1e-12).all())


@backends
@given(data=st.data())
def test_a_law_does_not_depend_on_a_constant_or_on_other_rows(xp, data):
    logits = data.draw(rows_of_logits(st.floats(-50, 50)))
    tau = data.draw(temperatures(len(logits)))
    together = next_token_law(xp(logits), xp(tau))
    alone = next_token_law(xp(logits[:1] + 8.0), xp(tau[:1]))
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(np.asarray(a)[:1], np.asarray(b), atol=1e-11)


@backends
@pytest.mark.parametrize("bad", [[0.0, math.nan, 1.0], [math.inf, 0.0, 1.0], [math.inf] * 3, [-math.inf] * 3])
def test_a_row_without_a_law_has_a_nan_entropy_and_spoils_no_other(xp, bad):
    logits = np.array([[0.0, 1.0, 2.0], bad, [-math.inf, 0.0, 0.0]])
    with np.errstate(invalid="ignore"):
        law = next_token_law(xp(logits), xp(np.ones(3)))
    assert np.isnan(np.asarray(law.entropy)).tolist() == [False, True, False]
    assert float(law.entropy[2]) == pytest.approx(math.log(2))
    assert not np.isnan(np.asarray(law.logp)[[0, 2]]).any()


@backends
def test_a_certain_token_is_exact(xp):
    law = next_token_law(xp(np.array([[-math.inf, 3.0, -math.inf]])), xp(np.array([0.25])))
    assert np.asarray(law.logp).tolist() == np.asarray(law.logq).tolist() == [[-math.inf, 0.0, -math.inf]]
    assert float(law.entropy[0]) == 0
    assert int(draw(law.logq, xp(np.array([LAST])))[0]) == 1


@backends
@pytest.mark.parametrize("u", [0.0, 5e-324, 1e-300, 0.25, 0.5, 0.75, 1 - 1e-15, LAST])
@pytest.mark.parametrize(
    "probs",
    [
        [0, 1, 0],
        [0, 0, 1],
        [1, 0, 0],
        [0, 0.5, 0, 0.5, 0],
        [0.25, 0, 0, 0.75],
        [0, 1e-320, 1],
        [1, 1e-320, 0],
        [0.1] * 10,
    ],
    ids=str,
)
def test_a_token_of_probability_0_is_never_drawn(xp, probs, u):
    with np.errstate(divide="ignore"):
        logq = np.log(np.array([probs]))
    drawn = int(draw(xp(logq), xp(np.array([u])))[0])
    assert 0 <= drawn < len(probs)
    assert probs[drawn] > 0


@backends
@given(data=st.data())
def test_any_draw_of_any_law_is_possible(xp, data):
    logits = data.draw(rows_of_logits())
    law = next_token_law(xp(logits), xp(data.draw(temperatures(len(logits)))))
    u = data.draw(
        hnp.arrays(np.float64, len(logits), elements=st.one_of(st.sampled_from([0.0, LAST]), st.floats(0, LAST)))
    )
    drawn = np.asarray(draw(law.logq, xp(u)))
    assert drawn.dtype == np.int64
    assert (np.exp(np.asarray(law.logq))[np.arange(len(u)), drawn] > 0).all()
    assert (np.asarray(law.logp)[np.arange(len(u)), drawn] > -math.inf).all()


@backends
def test_a_draw_inverts_the_distribution(xp):
    """Token v for u in [F(v - 1), F(v)): so uniform noise gives exactly q."""
    q = np.array([0.125, 0.0, 0.5, 0.25, 0.125])
    with np.errstate(divide="ignore"):
        logq = np.repeat(np.log(q)[None], 8, axis=0)
    u = (np.arange(8) + 0.5) / 8
    assert np.asarray(draw(xp(logq), xp(u))).tolist() == [0, 2, 2, 2, 2, 3, 3, 4]


# Rows of servers: the most likely ids and their log-probabilities


def rows(n=7, k=5, seed=0):
    """Random ids without repetition, log-probabilities of a truncated law in no order, and a token drawn from each."""
    rng = np.random.default_rng(seed)
    ids = np.array([rng.choice(50, k, replace=False) for _ in range(n)])
    logprobs = np.log(rng.dirichlet(np.ones(k), n) * 0.9)
    return ids[np.arange(n), rng.integers(k, size=n)], ids, logprobs


def test_laws_of_rows_are_the_next_token_law_of_their_entries():
    tokens, ids, logprobs = rows()
    logp, logq, entropy = top_k_laws(tokens, ids, logprobs, top_k=5, temperature=0.25).laws
    law = next_token_law(logprobs, np.full(7, 0.25))
    at = np.arange(7), (ids == tokens[:, None]).argmax(axis=1)
    np.testing.assert_allclose(logp, law.logp[at], rtol=1e-13)
    np.testing.assert_allclose(logq, law.logq[at], rtol=1e-13)
    np.testing.assert_allclose(entropy, law.entropy, rtol=1e-13)


def test_the_order_of_entries_does_not_matter():
    tokens, ids, logprobs = rows()
    want = top_k_laws(tokens, ids, logprobs, top_k=5, temperature=0.5).laws
    shuffle = np.random.default_rng(1).permuted(np.tile(np.arange(5), (7, 1)), axis=1)
    shuffled = [np.take_along_axis(a, shuffle, axis=1) for a in (ids, logprobs)]
    np.testing.assert_allclose(top_k_laws(tokens, *shuffled, top_k=5, temperature=0.5).laws, want, atol=1e-12)


def test_more_entries_than_k_are_truncated_to_the_likeliest():
    ids, logprobs = np.array([[3, 1, 4, 9]]), np.log([[0.1, 0.4, 0.3, 0.2]])
    logp, _, entropy = top_k_laws([4], ids, logprobs, top_k=2, temperature=1.0).laws
    np.testing.assert_allclose(logp, np.log(3 / 7), rtol=1e-13)
    np.testing.assert_allclose(entropy, -(3 / 7 * np.log(3 / 7) + 4 / 7 * np.log(4 / 7)), rtol=1e-13)


@pytest.mark.parametrize("empty", [np.nan, 7.0, -np.inf])
def test_empty_places_count_for_nothing_whatever_they_hold(empty):
    ids, logprobs = np.array([[-1, 3, 1, -1]]), np.array([[empty, np.log(0.5), np.log(0.25), empty]])
    logp, logq, entropy = top_k_laws([1], ids, logprobs, top_k=2, temperature=0.5).laws
    np.testing.assert_allclose(logp, np.log(1 / 3), rtol=1e-13)
    np.testing.assert_allclose(logq, np.log(1 / 5), rtol=1e-13)
    assert np.isfinite(entropy).all()


@pytest.mark.parametrize("drawn", [4, 9])
def test_of_tokens_tied_at_rank_k_any_may_be_drawn(drawn):
    """Both 4 and 9 are at rank 2; the law keeps two entries, whichever is drawn."""
    ids, logprobs = np.array([[1, 4, 9]]), np.log([[0.5, 0.2, 0.2]])
    logp, _, _ = top_k_laws([drawn], ids, logprobs, top_k=2, temperature=1.0).laws
    np.testing.assert_allclose(logp, np.log(2 / 7), rtol=1e-13)


def test_the_token_drawn_may_come_as_one_entry_more_if_it_is_tied():
    ids, logprobs = np.array([[7, 1, 4]]), np.log([[0.2, 0.5, 0.2]])  # drawn first, then the two likeliest
    logp, _, _ = top_k_laws([7], ids, logprobs, top_k=2, temperature=1.0).laws
    np.testing.assert_allclose(logp, np.log(2 / 7), rtol=1e-13)


def test_a_token_outside_the_k_likeliest_is_an_error():
    ids, logprobs = np.array([[7, 1, 4]]), np.log([[0.1, 0.5, 0.2]])
    with pytest.raises(EngineError, match="outside the 2 most likely"):
        top_k_laws([7], ids, logprobs, top_k=2, temperature=1.0)


def test_a_token_without_a_log_probability_is_an_error():
    with pytest.raises(EngineError, match="drew token 8"):
        top_k_laws([8], np.array([[7, 1]]), np.log([[0.6, 0.4]]), top_k=2, temperature=1.0)


def test_no_tokens_have_empty_laws():
    laws = top_k_laws([], np.zeros((0, 3), dtype=np.int64), np.zeros((0, 3)), top_k=3, temperature=1.0).laws
    assert laws.shape == (3, 0)


GOOD = np.log([0.5, 0.3, 0.1])


@pytest.mark.parametrize(
    ("row_ids", "row", "said"),
    [
        ([7, 1, 4], [GOOD[0], math.nan, GOOD[2]], "NaN, infinite or null"),
        ([7, 1, 4], [math.inf, GOOD[1], GOOD[2]], "NaN, infinite or null"),
        ([7, 1, 4], [GOOD[0], -math.inf, GOOD[2]], "NaN, infinite or null"),
        ([7, 1, 4], [0.5, GOOD[1], GOOD[2]], r"above 0 \(0.5\): they are not raw"),
        ([7, 1, 4], np.log([0.5, 0.4, 0.2]), "sum to more than 1: they are not raw"),
        ([7, 1, 4], [-9999.0] * 3, "none is of a likely token"),
        ([7, 1, 4], [-1e308] * 3, "none is of a likely token"),
        ([7, 1, 7], GOOD, "two log-probabilities for one token"),
        ([7, 1, -1], GOOD, "2 log-probabilities for a token where top_k is 3"),
        ([-1, -1, -1], GOOD, "0 log-probabilities"),
    ],
)
@pytest.mark.parametrize("where", [0, 2])
def test_rows_that_are_no_laws_are_refused(row_ids, row, said, where):
    ids, logprobs = np.tile([7, 1, 4], (3, 1)), np.tile(GOOD, (3, 1))
    check_rows(ids, logprobs, 3)
    ids[where], logprobs[where] = row_ids, row
    with pytest.raises(EngineError, match=said):
        check_rows(ids, logprobs, 3)
    with pytest.raises(EngineError, match=said):
        top_k_laws([7, 7, 7], ids, logprobs, top_k=3, temperature=0.5)


@given(data=st.data())
def test_rows_of_any_law_pass_though_rounded_to_single_precision(data):
    logits = data.draw(rows_of_logits(st.floats(-50, 50)))
    law = next_token_law(logits, np.ones(len(logits)))
    ids = np.tile(np.arange(logits.shape[1]), (len(logits), 1))
    check_rows(ids, law.logp.astype(np.float32), logits.shape[1])


@pytest.mark.parametrize("odd", [1.0, 1.5, "1", True, None, -1, 2**63, 2**70, np.float64(1), [1]])
def test_what_is_no_whole_number_is_no_token_id(odd):
    assert whole_numbers([0, 7, np.int64(5), 2**62]).tolist() == [0, 7, 5, 2**62]
    with pytest.raises(EngineError, match="no whole number"):
        whole_numbers([1, odd])
    with pytest.raises(EngineError, match="no whole number"):
        padded_rows(np.array([2]), [1, odd], [-1.0, -2.0])


def test_flat_rows_are_padded_with_empty_places():
    ids, logprobs = padded_rows(np.array([2, 0, 1]), [3, 1, 4], [-1.0, -2, None])
    assert ids.tolist() == [[3, 1], [-1, -1], [4, -1]]
    np.testing.assert_array_equal(logprobs, [[-1, -2], [-np.inf, -np.inf], [np.nan, -np.inf]])
    assert padded_rows(np.zeros(0, np.int64), [], [])[0].shape == (0, 0)


@pytest.mark.parametrize("odd", ["-1.0", True, [1.0], 10**400])
def test_what_is_no_number_is_no_log_probability(odd):
    with pytest.raises(EngineError, match="no number"):
        padded_rows(np.array([2]), [1, 2], [-1.0, odd])


@pytest.mark.parametrize(
    ("widths", "ids", "values"), [([2], [1], [-1.0]), ([1], [1], []), ([1, 1], [1, 2, 3], [-1.0] * 3)]
)
def test_rows_of_other_lengths_than_said_are_refused(widths, ids, values):
    with pytest.raises(EngineError, match="do not match"):
        padded_rows(np.array(widths), ids, values)
