"""One request on its way: what it takes in, where it ends, what is left to ask for, and when its chain is due."""

import numpy as np
import pytest

from powercut.engines.protocol import Chain, Request
from powercut.engines.sequence import Sequence
from powercut.errors import EngineError
from powercut.trace import Trace

TEXT = {1: "a", 2: "b", 3: "ab", 4: ""}


def ask(n=10, **options):
    return Request(context=[9, 9], max_new_tokens=n, **options)


def sequence(request=None, keep_going=None, stop_tokens=(0,)):
    def decode_now(tokens):
        return "".join(TEXT.get(token, "?") for token in tokens)

    return Sequence(request or ask(), keep_going, stop_tokens, decode_now)


def laws(n, value=-1.0):
    return np.stack((np.full(n, value), np.full(n, value), np.ones(n)))


def take(it, *tokens, **options):
    it.take(np.array(tokens), laws(len(tokens)), **options)


def test_it_holds_what_it_took_and_shows_each_token_once():
    pieces = []
    it = sequence(keep_going=lambda piece: pieces.append(piece) or True)
    assert it.last_token == 9
    for tokens in ([5, 6], [], [7]):
        take(it, *tokens)
    assert (it.count, it.last_token, it.done, it.finished) == (3, 7, False, False)
    assert it.trace().tokens.tolist() == [5, 6, 7]
    assert [piece.tokens.tolist() for piece in pieces] == [[5, 6], [7]]
    assert Trace.join(pieces) == it.trace()


@pytest.mark.parametrize(
    ("request_", "taken"),
    [
        (ask(), [5, 0]),  # the engine's own stop
        (ask(stop=(6,)), [5, 6]),
        (ask(stop=("b",)), [5, 1, 2]),
        (ask(stop=("ab",)), [5, 1, 4, 2]),  # over three tokens, one of which has no text
        (ask(stop=("b",)), [3]),  # in the middle of a token
    ],
)
def test_it_ends_with_a_stop_and_drops_what_follows(request_, taken):
    shown = []
    it = sequence(request_, keep_going=lambda piece: shown.extend(piece.tokens.tolist()) or True)
    take(it, *taken, 7, 8)
    assert it.finished
    assert it.done
    assert it.trace().tokens.tolist() == shown == taken
    assert it.trace().finished
    take(it, 5)
    assert it.count == len(taken)


def test_where_it_is_too_early_for_a_stop_none_is_looked_for():
    """Stop strings lie wholly in the text of what comes later, drawn or kept."""
    for kept, drawn in ([], [3, 1, 2, 7]), ([3], [1, 2, 7]), ([3, 1], [2, 1, 2]), ([3, 5, 1], [2]):
        request = Request([9, 9, *kept], 10, stop=("ab",), min_new_tokens=2, prompt_length=2)
        it = sequence(request)
        take(it, *drawn)
        ended = next((i + 1 for i in range(2, 9) if ([*kept, *drawn][i - 1 : i + 1] == [1, 2] and i > 2)), None)
        assert it.trace().finished == (ended is not None), (kept, drawn)
    it = sequence(ask(stop=(6,), min_new_tokens=2))
    assert (it.early, it.barred) == (2, {0, 6})
    take(it, 5, 7)
    assert (it.early, it.barred) == (0, frozenset())
    take(it, 6)
    assert it.finished


def test_an_early_stop_of_the_servers_own_is_an_error():
    it = sequence(ask(min_new_tokens=2))
    with pytest.raises(
        EngineError, match=r"^token 6 ended a completion before min_new_tokens=2 and is not known as a s"
    ):
        take(it, 5, 6, stopped=True)
    late = sequence(ask(min_new_tokens=2))
    take(late, 5, 7, 6, stopped=True)
    assert late.finished


def test_it_ends_at_its_length_without_being_finished():
    it = sequence(ask(n=3))
    take(it, 5, 6, 7, 8)
    assert it.trace().tokens.tolist() == [5, 6, 7]
    assert (it.done, it.finished) == (True, False)


def test_a_stop_that_only_the_server_knows():
    it = sequence()
    take(it, 5, 6, stopped=True)
    assert it.trace().finished
    none = sequence()
    take(none, stopped=True)
    assert not none.finished


def test_what_comes_when_no_more_is_wanted_is_kept_and_shown_to_nobody():
    shown = []
    it = sequence(keep_going=lambda piece: shown.append(piece))
    take(it, 5)
    assert (it.wanted, it.done) == (False, True)
    take(it, 6)
    assert len(shown) == 1
    assert it.trace().tokens.tolist() == [5, 6]


def test_prefilled_tokens_are_counted_once():
    it = sequence()
    it.prefilled = 2
    take(it, 5, 6)
    assert (it.trace().prefilled, it.trace()[1:].prefilled) == (2, 0)


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_no_law_has_are_refused(row, bad):
    it = sequence()
    take(it, 5)
    values = laws(2)
    values[row, 1] = bad
    with pytest.raises(EngineError, match="NaN, infinite or positive after 3 tokens: try dtype float32"):
        it.take(np.array([5, 6]), values)


def test_signs_that_no_law_has_are_refused_unless_they_are_rounding():
    for row, value in ((0, 1e-3), (1, 1e-3), (2, -1e-3)):
        values = laws(1)
        values[row] = value / 1e4
        sequence().take(np.array([5]), values)
        values[row] = value
        with pytest.raises(EngineError):
            sequence().take(np.array([5]), values)


def test_a_token_that_cannot_be_drawn_was_not_drawn_from_this_law():
    values = laws(2)
    values[1, 1] = -690.0
    sequence().take(np.array([5, 6]), values)
    values[:2, 1] = -9999.0  # what servers give in place of -inf
    with pytest.raises(EngineError, match="token 6 was drawn, and has probability 0"):
        sequence().take(np.array([5, 6]), values)


def test_numbers_after_the_end_do_not_matter():
    it = sequence()
    values = laws(3)
    values[:, 2] = np.nan
    it.take(np.array([5, 0, 6]), values)
    assert it.trace().tokens.tolist() == [5, 0]


def test_the_rest_of_a_request_goes_on_from_what_came_with_new_noise():
    request = ask(stop=("b",), seed=3)
    it = sequence(request)
    assert it.rest() is request
    take(it, 5, 6)
    rest = it.rest()
    assert rest.context.tolist() == [9, 9, 5, 6]
    assert (rest.max_new_tokens, rest.prompt_length, rest.stop) == (8, 2, ("b",))
    assert rest.generated.tolist() == [5, 6]
    assert rest.seed not in (3, it.rest().seed + 1)
    assert rest.seed == it.rest().seed
    take(it, 7)
    assert it.rest().seed != rest.seed


def test_a_chain_is_not_due_while_its_request_is_open():
    chain = Chain()
    assert chain.due == 1
    it = sequence(ask(chain=chain))
    assert chain.due == 0
    it.close()
    it.close()
    assert chain.due == 1
    it = sequence(ask(chain=chain))
    chain.close()
    it.close()
    assert chain.due == 0


def test_requests_of_one_chain_that_overlap():
    with Chain() as chain:
        chain.expect(1)  # two at once
        two = [sequence(ask(chain=chain, lane=lane)) for lane in range(2)]
        assert chain.due == 0
        for i, it in enumerate(two, 1):
            it.close()
            assert chain.due == i
    assert chain.due == 0
