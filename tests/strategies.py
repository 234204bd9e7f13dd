"""What the property tests draw from: traces of any numbers, and traces that follow from laws as an engine's do."""

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from powercut import Trace
from powercut.engines.laws import next_token_law

FLOATS = st.floats(-1e3, 1e3)
ENTROPIES = st.one_of(st.just(0.0), st.floats(0, 12))
"""Nats; exact zeros, where the next token is forced, are common."""


def entropies(min_size=1, max_size=20):
    """Entropies of a completion, shape ``[n]``."""
    return hnp.arrays(np.float64, st.integers(min_size, max_size), elements=ENTROPIES)


def log_weights():
    """Weights of particles in nats, shape ``[n]``; some may be 0, not all."""
    values = st.one_of(st.floats(-800, 800), st.sampled_from([-math.inf, 0.0]))
    return hnp.arrays(np.float64, st.integers(1, 12), elements=values).filter(lambda found: found.max() > -math.inf)


@st.composite
def traces(draw, min_size=0, max_size=12, finished=None):
    """Traces whose columns have nothing to do with each other."""
    n = draw(st.integers(min_size, max_size))
    column = hnp.arrays(np.float64, n, elements=FLOATS)
    tokens = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 9)))
    ends = draw(st.booleans()) if finished is None else finished
    prefilled = draw(st.integers(0, 50))
    return Trace(tokens, draw(column), draw(column), draw(column), finished=ends and n > 0, prefilled=prefilled)


def trace_from_logits(logits, tokens, temperature):
    """What an engine would report of drawing ``tokens`` ``[n]`` from ``logits`` ``[n, V]``."""
    law = next_token_law(logits, np.full(len(logits), temperature))
    at = np.arange(len(tokens)), tokens
    return Trace(tokens, law.logp[at], law.logq[at], law.entropy)


@st.composite
def consistent_traces(draw, temperature, min_size=1, max_size=10):
    """Traces drawn at ``temperature`` from random logits, from flat to so sharp that probabilities underflow."""
    n, vocab = draw(st.integers(min_size, max_size)), draw(st.integers(1, 6))
    scale = draw(st.sampled_from([0.0, 1e-9, 0.1, 1.0, 10.0, 1000.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return trace_from_logits(scale * rng.normal(size=(n, vocab)), rng.integers(vocab, size=n), temperature)
