"""The engine contract on the llama engine, with random models of six tokens in float32: a kind of memory each."""

import pytest

from tests.engines.test_contract import *  # noqa: F403
from tests.llama import kinds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(params=kinds.KINDS)
def engine(request, folder):
    return kinds.load(folder, request.param, kinds.model(request.param, 6, seed=0), slots=4, context_length=64)


def test_it_says_where_and_how_it_decodes(engine):
    assert "by llama.cpp on" in engine.describe()
    assert "4 slots of 64 tokens" in engine.describe()
    assert "in one batch" in engine.describe()
