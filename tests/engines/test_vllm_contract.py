"""The engine contract for what is ours around vLLM: threads, batches of outputs, aborts. vLLM itself is a fake here."""

import pytest

from tests.engines.fake_vllm import close, fake_engine
from tests.engines.test_contract import *  # noqa: F403


@pytest.fixture
def engine(monkeypatch):
    engine = fake_engine(monkeypatch)
    yield engine
    close(engine)
