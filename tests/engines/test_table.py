"""A table's function may return anything: a probability vector is used, all else is one line."""

import asyncio
import math

import numpy as np
import pytest

import powercut as pc


def extend(given):
    return asyncio.run(pc.TableEngine(lambda _: given).extend(pc.Request([1, 2, 3], 4, top_k=3)))


@pytest.mark.parametrize("given", [[0.5, 0.5], (0, 1), [True, False], np.array([0.5, 0.5], np.float32), [5e-324, 1.0]])
def test_probability_vectors_of_any_numbers(given):
    assert len(extend(given)) == 4


@pytest.mark.parametrize(
    "given",
    [
        [math.nan] * 6,
        [0.5, 0.5, math.nan],
        [math.inf, 0],
        [1.5, -0.5],
        [0.9],
        [1.1],
        [],
        1.0,
        [[0.5, 0.5], [0, 0]],
        None,
        "abc",
        ["0.5", "0.5"],
        {1: 1.0},
        {1.0},
        [[1], [2, 3]],
        [1j, 1],
        object(),
        [10**400, 0],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_probability_vector_is_one_line(given):
    with pytest.raises(pc.EngineError, match=r"^next_token_probs\(1, 2, 3\) is not a probability vector: ") as caught:
        extend(given)
    assert "\n" not in str(caught.value)
