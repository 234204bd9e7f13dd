"""What a user is told when vLLM cannot start, and when it dies."""

import asyncio

import numpy as np
import psutil
import pytest

import powercut as pc
from powercut.errors import EngineError, PowercutError, SettingError
from tests.vllm.models import load_tiny


def one_line(error):
    return "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"context_length": 10**9}, "max_model_len"),
        ({"dtype": "float31"}, "float31"),
        ({"tensor_parallel": 2}, r"no option tensor_parallel \(did you mean tensor_parallel_size"),
        ({"logprobs_mode": "processed_logprobs"}, "raw_logprobs"),
    ],
)
def test_options_that_vllm_refuses(tmp_path, options, match):
    with pytest.raises(PowercutError, match=match) as error:
        load_tiny(tmp_path, **options)
    assert one_line(error)


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(EngineError, match=r"no folder|no config\.json") as error:
        pc.load(f"vllm:{tmp_path}/nothing/here/at/all")
    assert one_line(error)


def test_a_cache_that_is_too_small_names_the_settings(tmp_path):
    with pytest.raises(EngineError, match=r"context_length.*kv_cache_memory_bytes") as error:
        load_tiny(tmp_path, kv_cache_memory_bytes=1000)
    assert one_line(error)


def test_a_killed_vllm_fails_its_requests_with_one_line(tmp_path):
    engine = load_tiny(tmp_path, slots=4)
    request = pc.Request(context=np.array([1, 2, 3]), max_new_tokens=200, top_k=6)
    seen = []

    def kill(piece):
        if not seen:
            for child in psutil.Process().children():
                if child.name().startswith("VLLM"):  # and not Python's resource tracker
                    child.kill()
        seen.append(piece)
        return True

    async def run():
        requests = [pc.Request(context=request.context, max_new_tokens=200, top_k=6, seed=s) for s in range(8)]
        work = [engine.extend(r, kill) for r in requests]
        return await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 60)

    results = asyncio.run(run())
    failed = [r for r in results if isinstance(r, EngineError)]
    assert failed
    assert all("has died" in str(error) and "\n" not in str(error) for error in failed)
    assert "slots" in str(failed[0])
    with pytest.raises(EngineError, match="has died"):
        asyncio.run(engine.extend(request))
    asyncio.run(engine.aclose())
    with pytest.raises(EngineError, match="closed"):
        asyncio.run(engine.extend(request))
    with pytest.raises(SettingError):
        engine.check(pc.Request(context=request.context, max_new_tokens=4))
