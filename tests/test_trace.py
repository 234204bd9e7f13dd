"""Laws of Trace and Completion, for any trace."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powercut import Completion, Stats, Step, Trace
from tests.strategies import traces

COLUMNS = ("tokens", "logp", "logq", "entropy")
STATS = Stats(steps=0, acceptance=None, changed=None, tokens_decoded=3, tokens_prefilled=1, seconds=0.5)


def columns(trace):
    return [getattr(trace, name).tolist() for name in COLUMNS]


def same(trace, other):
    """Equal by the columns themselves, not by ``==``."""
    return columns(trace) == columns(other) and trace.finished is other.finished


@given(traces())
def test_columns_have_one_length_and_their_types(trace):
    assert [getattr(trace, name).dtype for name in COLUMNS] == [np.int64, np.float64, np.float64, np.float64]
    assert {getattr(trace, name).shape for name in COLUMNS} == {(len(trace),)}


@given(traces(), st.slices(12))
def test_a_slice_slices_every_column(trace, part):
    part = slice(part.start, part.stop)
    piece = trace[part]
    assert columns(piece) == [column[part] for column in columns(trace)]
    assert piece.finished == (trace.finished and len(trace) - 1 in range(*part.indices(len(trace))))
    assert piece.prefilled == 0


@given(traces(min_size=1), st.data())
def test_a_slice_of_a_slice_is_a_slice(trace, data):
    start = data.draw(st.integers(0, len(trace)))
    stop = data.draw(st.integers(start, len(trace)))
    assert same(trace[start:][: stop - start], trace[start:stop])
    assert same(trace[:stop][start:], trace[start:stop])
    assert same(trace[:], trace)


@pytest.mark.parametrize("stride", [2, -1, -2])
def test_a_slice_has_no_stride(stride):
    with pytest.raises(ValueError, match="steps of 1"):
        Trace([1, 2], [0, 0], [0, 0], [0, 0])[::stride]


@given(traces(min_size=1), st.lists(st.integers(0, 12)))
def test_pieces_join_to_the_whole(trace, cuts):
    ends = sorted(min(cut, len(trace)) for cut in cuts)
    pieces = [trace[a:b] for a, b in zip([0, *ends], [*ends, len(trace)], strict=True)]
    if any(piece.finished for piece in pieces[:-1]):  # a cut at the very end leaves an empty piece behind the stop
        with pytest.raises(ValueError, match="nothing can follow"):
            Trace.join(pieces)
        pieces = [piece for piece in pieces if len(piece)]
    assert same(Trace.join(pieces), trace)
    assert same(Trace.join(iter(pieces)), trace)


@given(st.lists(traces(finished=False), max_size=4), traces())
def test_joining_adds_up(pieces, last):
    whole = Trace.join([*pieces, last])
    assert columns(whole) == [[x for p in (*pieces, last) for x in getattr(p, name).tolist()] for name in COLUMNS]
    assert whole.finished == last.finished
    assert whole.prefilled == sum(piece.prefilled for piece in (*pieces, last))


def test_joining_nothing_is_the_empty_trace():
    assert same(Trace.join([]), Trace.empty())
    assert (len(Trace.empty()), Trace.empty().finished, Trace.empty().prefilled) == (0, False, 0)


@given(traces(min_size=1, finished=True), traces())
def test_nothing_follows_a_finished_trace(trace, more):
    with pytest.raises(ValueError, match="nothing can follow"):
        Trace.join((trace, more))
    if len(more):
        with pytest.raises(ValueError, match="nothing can follow"):
            trace.splice(len(trace), more)


@given(traces(min_size=1), traces(), st.data())
def test_splice_keeps_the_head_and_takes_the_tail(trace, tail, data):
    cut = data.draw(st.integers(0, len(trace) - trace.finished))
    spliced = trace.splice(cut, tail)
    assert columns(spliced) == [a[:cut] + b for a, b in zip(columns(trace), columns(tail), strict=True)]
    assert spliced.finished == tail.finished
    assert spliced.prefilled == 0
    assert same(trace.splice(cut, trace[cut:]), trace)
    assert same(spliced[cut:], tail)


@given(traces())
def test_splicing_nothing_to_the_end_changes_nothing(trace):
    assert same(trace.splice(len(trace), Trace.empty()), trace)
    assert same(Trace.empty().splice(0, trace), trace)


@given(traces(), traces(), st.integers(1, 5))
def test_a_cut_lies_inside(trace, tail, beyond):
    for cut in (-beyond, len(trace) + beyond):
        with pytest.raises(ValueError, match=rf"cut {cut} is outside 0\.\.{len(trace)}"):
            trace.splice(cut, tail)


@given(traces(min_size=1))
def test_a_trace_cannot_be_changed(trace):
    for derived in (trace, trace[:], trace[:1], trace.splice(0, trace), Trace.join((trace[:0], trace))):
        for name in COLUMNS:
            with pytest.raises(ValueError, match="read-only"):
                getattr(derived, name)[0] = 1
        for name in (*COLUMNS, "finished", "prefilled"):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(derived, name, 1)


def test_the_callers_arrays_stay_theirs():
    given_arrays = [np.array([3, 4]), *np.zeros((3, 2))]
    trace = Trace(*given_arrays)
    for array in given_arrays:
        array[:] = 7
    assert columns(trace) == [[3, 4], [0, 0], [0, 0], [0, 0]]


@given(traces(min_size=1), st.data())
def test_equality_is_to_the_last_bit(trace, data):
    copy = Trace(*columns(trace), finished=trace.finished, prefilled=trace.prefilled + 1)
    assert copy == trace  # prefilled is a cost, not a part of what was drawn
    name = data.draw(st.sampled_from(COLUMNS))
    i = data.draw(st.integers(0, len(trace) - 1))
    changed = dict(zip(COLUMNS, columns(trace), strict=True))
    value = changed[name][i]
    changed[name][i] = value + 1 if name == "tokens" else np.nextafter(value, np.inf)
    assert Trace(**changed, finished=trace.finished) != trace
    assert Trace(*columns(trace), finished=not trace.finished) != trace
    assert trace[:-1] != trace
    assert trace != columns(trace)


def test_a_trace_has_no_hash():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Trace.empty())


@pytest.mark.parametrize(
    "bad",
    [
        ([1, 2], [0], [0, 0], [0, 0]),
        ([1], [0], [0], [0, 0]),
        ([[1]], [[0]], [[0]], [[0]]),
        (1, 0.0, 0.0, 0.0),
        (1, [0.0], [0.0], [0.0]),
    ],
)
def test_columns_that_do_not_fit_are_refused(bad):
    with pytest.raises(ValueError, match="four one-dimensional arrays of the same length"):
        Trace(*bad)


def test_an_empty_trace_is_not_finished():
    with pytest.raises(ValueError, match="empty trace cannot be finished"):
        Trace([], [], [], [], finished=True)


@given(traces())
def test_a_completion_reads_its_trace(trace):
    completion = Completion(trace, STATS)
    assert completion.tokens is trace.tokens
    assert completion.finished is trace.finished
    assert type(completion.logp) is float
    assert completion.logp == pytest.approx(sum(trace.logp.tolist()), abs=1e-9)
    assert (completion.steps, completion.text) == ((), None)
    assert (completion.prompt_index, completion.sample_index) == (0, 0)


def test_completions_steps_and_stats_cannot_be_changed():
    step = Step(stage=0, cut=1, log_accept=-0.5, accepted=True, early=False, tokens_decoded=2)
    for thing in (Completion(Trace.empty(), STATS), STATS, step):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, dataclasses.fields(thing)[0].name, None)
    assert step == dataclasses.replace(step)
    assert "log_accept" not in repr(Completion(Trace.empty(), STATS, steps=(step,)))  # hundreds of them would flood
