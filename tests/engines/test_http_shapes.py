"""Whatever JSON a server gives, it is understood or refused in words: no traceback, and no law made of nonsense."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powercut.engines.http.api import Api
from powercut.engines.http.dialects import in_order
from powercut.engines.http.handshake import token_ids
from powercut.engines.http.pool import model_cards, model_ids
from powercut.engines.laws import top_k_laws
from powercut.errors import EngineError
from tests.engines.fake_server import FakeServer, write
from tests.engines.http_tools import never_stops

KIND_OF = {"vLLM generate": "generate", "vLLM completions": "completions", "llama.cpp": "llama", "SGLang": "sglang"}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, -1, 10**400]),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just([None]),
    st.just({"error": None}),
)
JSON = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8
)


def events(kind):
    """The events that tell of three tokens, the last of which ends them."""
    fake = FakeServer(never_stops, kind=kind)
    drawn = list(fake.answer((1,), 3, 1.0, 3, 0, set()))
    return [event for n in (1, 2, 3) for event in write(fake, drawn[n - 1 : n], drawn[:n], 1)]


def places(node, path=()):
    """The paths of all values in it."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def replaced(node, path, value):
    """A copy with another value there."""
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = replaced(node[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize("dialect", in_order("vllm"), ids=lambda dialect: dialect.name)
@given(data=st.data())
@settings(max_examples=100)
def test_an_event_with_any_value_anywhere(dialect, data):
    event = data.draw(st.sampled_from(events(KIND_OF[dialect.name])))
    path = data.draw(st.sampled_from(list(places(event))))
    changed = replaced(event, path, data.draw(ODD | JSON))
    try:
        chunk = dialect.read(changed, data.draw(st.integers(0, 3)))
        laws = top_k_laws(chunk.tokens, chunk.ids, chunk.logprobs, top_k=3, temperature=0.5).laws
    except EngineError:
        return
    assert np.isfinite(laws).all()
    assert (laws[:2] <= 0).all()
    assert chunk.total is None or isinstance(chunk.total, int)


@given(JSON)
@settings(max_examples=100)
def test_any_json_in_place_of_other_answers(answer):
    assert all(isinstance(name, str) for name in model_ids(model_cards(answer)))
    for read in (token_ids, *(dialect.read_about for dialect in in_order("vllm"))):
        with contextlib.suppress(EngineError, TypeError, AttributeError):  # the handshake words the last two
            read(answer)
    error = Api("http://localhost")._worded(400, answer)
    assert str(error).isprintable()
    assert len(str(error)) < 500
