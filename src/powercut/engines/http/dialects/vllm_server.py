"""vLLM's server, in both of its ways: ``/inference/v1/generate``, integers in and out, and ``/v1/completions``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from powercut.engines.http.dialects.dialect import (
    Chunk,
    Dialect,
    Entries,
    Json,
    chunk_of,
    computed,
    law_asked,
    told_count,
)
from powercut.engines.protocol import Request
from powercut.engines.vllm.launch import TEMPERATURES
from powercut.errors import EngineError


def _shared(model: str, request: Request, stop_ids: Sequence[int]) -> tuple[Json, Json]:
    """What both ways are asked: about the answer, and about the drawing."""
    answer = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    drawing = {
        **law_asked(request),
        "repetition_penalty": 1.0,
        "max_tokens": request.max_new_tokens,
        "seed": request.seed,
        "logprobs": request.top_k,
        "stop_token_ids": list(stop_ids),
    }
    return answer, drawing


def _parse(event: Json, read: Callable[[Json], tuple[Sequence[int], Sequence[Entries]]]) -> Chunk:
    """One event; ``read`` gets tokens and rows out of its choice."""
    usage = event.get("usage") or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    counts: Json = {
        "total": told_count(usage.get("completion_tokens")),
        "prefilled": computed(usage.get("prompt_tokens"), cached),
    }
    if event["choices"] == []:
        return chunk_of([], [], **counts)
    choice = event["choices"][0]
    return chunk_of(*read(choice), end=choice.get("finish_reason"), **counts)


def _generate_payload(model: str, request: Request, stop_ids: Sequence[int]) -> Json:
    answer, drawing = _shared(model, request, stop_ids)
    return {**answer, "token_ids": request.context.tolist(), "sampling_params": {**drawing, "detokenize": False}}


def _generate_choice(choice: Json) -> tuple[Sequence[int], Sequence[Entries]]:
    content = (choice.get("logprobs") or {}).get("content") or []
    rows = [[(top["token_id"], top["logprob"]) for top in entry["top_logprobs"]] for entry in content]
    return choice.get("token_ids") or [], rows


def _completions_payload(model: str, request: Request, stop_ids: Sequence[int]) -> Json:
    answer, drawing = _shared(model, request, stop_ids)
    return {
        **answer,
        **drawing,
        "prompt": request.context.tolist(),
        "add_special_tokens": False,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,  # log-probabilities are keyed by text else, which is not unique
    }


def _completions_choice(choice: Json) -> tuple[Sequence[int], Sequence[Entries]]:
    logprobs: Mapping[str, Any] = choice.get("logprobs") or {}
    tokens = choice.get("token_ids")
    if tokens is None:
        tokens = [_token_id(name) for name in logprobs.get("tokens") or []]
    listed = logprobs.get("top_logprobs") or []
    return tokens, [[(_token_id(name), value) for name, value in (row or {}).items()] for row in listed]


def _token_id(name: str) -> int:
    head, _, number = name.partition("token_id:")
    if head or not (number.isascii() and number.isdecimal()):
        raise EngineError("the server names tokens by their text, not by token_id:N; use a newer vLLM")
    return int(number)


GENERATE = Dialect(
    "vLLM generate",
    "/inference/v1/generate",
    _generate_payload,
    lambda event, _: _parse(event, _generate_choice),
    raw="start it with --logprobs-mode raw_logprobs",
    more="start it with --max-logprobs {k}, or lower top_k",
    memory="its --max-num-seqs, --max-model-len or --gpu-memory-utilization",
    temperatures=TEMPERATURES,
)
COMPLETIONS = replace(
    GENERATE,
    name="vLLM completions",
    path="/v1/completions",
    payload=_completions_payload,
    parse=lambda event, _: _parse(event, _completions_choice),
)
