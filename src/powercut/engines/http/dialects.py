"""How each kind of server is asked for tokens, and how what it streams is read: pure functions, one pair a server.

Every request turns off whatever else bends the law (top-p, min-p, penalties): servers take defaults for these from the
model's generation config or from their own. The server's own stop tokens are left in force; each of these servers
returns the token that stopped it like any other. (``ignore_eos`` is no alternative: llama.cpp takes it as a ban of the
token, which changes the law, and the others would decode on in vain.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from powercut.engines.protocol import Request
from powercut.engines.vllm.launch import TEMPERATURES
from powercut.errors import EngineError
from powercut.trace import FloatArray, IntArray

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event of a stream brings: ``tokens`` ``[n]``, for each the likely ``ids`` and ``logprobs``, ``[n, K]``.

    ``end`` is ``stop`` or ``length`` when the server says that it is done, another word when it failed. ``total`` is
    its own count of the tokens decoded so far, ``prefilled`` of the context tokens it had to compute.
    """

    tokens: IntArray
    ids: IntArray
    logprobs: FloatArray
    end: str | None = None
    total: int | None = None
    prefilled: int | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of server. ``payload(model, request, stop_ids)`` is the body to post to ``path``.

    ``parse(event, received)`` reads one event of the answer, ``received`` tokens having come before it. With
    ``end_apart`` the server says only after a token that it was the last. ``temperatures`` are the least and the
    most that the server draws at. ``raw`` and ``more`` are the remedies for
    log-probabilities that are not raw, or not enough; ``memory`` are the options to lower where it runs out of memory.
    """

    name: str
    path: str
    payload: Callable[[str, Request, Sequence[int]], Json]
    parse: Callable[[Json, int], Chunk]
    raw: str
    more: str
    memory: str
    temperatures: tuple[float, float] = (0.0, math.inf)
    end_apart: bool = False


Entries = Iterable[tuple[int, float | None]]


def _chunk(tokens: Sequence[int], rows: Sequence[Entries], **rest: Any) -> Chunk:
    """A chunk of rows of (id, log-probability), which may differ in length."""
    listed = [list(row) for row in rows]
    if len(listed) != len(tokens):
        raise EngineError("the server gives no log-probabilities with its tokens, or not with all")
    width = max(map(len, listed), default=0)
    ids = np.full((len(listed), width), -1, dtype=np.int64)
    logprobs = np.full((len(listed), width), -np.inf)
    for i, row in enumerate(listed):
        if row:
            ids[i, : len(row)], values = zip(*row, strict=True)
            logprobs[i, : len(row)] = [-np.inf if value is None else value for value in values]
    return Chunk(np.array(tokens, dtype=np.int64), ids, logprobs, **rest)


def _usage(event: Json) -> Json:
    """The server's counts in the OpenAI form."""
    usage = event.get("usage") or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    prefilled = None if cached is None else usage["prompt_tokens"] - cached
    return {"total": usage.get("completion_tokens"), "prefilled": prefilled}


def _law(request: Request) -> Json:
    """The law to draw from, in the words that all servers share: the model's own, truncated, at a temperature."""
    return {
        "temperature": request.temperature,
        "top_k": request.top_k,
        "top_p": 1.0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }


def _vllm(model: str, request: Request, stop_ids: Sequence[int]) -> tuple[Json, Json]:
    """What both of vLLM's ways are asked: about the answer, and about the drawing."""
    answer = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    drawing = {
        **_law(request),
        "repetition_penalty": 1.0,
        "max_tokens": request.max_new_tokens,
        "seed": request.seed,
        "logprobs": request.top_k,
        "stop_token_ids": list(stop_ids),
    }
    return answer, drawing


def _vllm_parse(event: Json, read: Callable[[Json], tuple[Sequence[int], Sequence[Entries]]]) -> Chunk:
    """One event of vLLM's; ``read`` gets tokens and rows out of its choice."""
    if not event["choices"]:
        return _chunk([], [], **_usage(event))
    choice = event["choices"][0]
    return _chunk(*read(choice), end=choice.get("finish_reason"), **_usage(event))


def _generate_payload(model: str, request: Request, stop_ids: Sequence[int]) -> Json:
    answer, drawing = _vllm(model, request, stop_ids)
    return {**answer, "token_ids": request.context.tolist(), "sampling_params": {**drawing, "detokenize": False}}


def _generate_choice(choice: Json) -> tuple[Sequence[int], Sequence[Entries]]:
    content = (choice.get("logprobs") or {}).get("content") or []
    rows = [[(top["token_id"], top["logprob"]) for top in entry["top_logprobs"]] for entry in content]
    return choice.get("token_ids") or [], rows


def _completions_payload(model: str, request: Request, stop_ids: Sequence[int]) -> Json:
    answer, drawing = _vllm(model, request, stop_ids)
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
    if head or not number.isdecimal():
        raise EngineError("the server names tokens by their text, not by token_id:N; use a newer vLLM")
    return int(number)


def _llama_payload(model: str, request: Request, stop_ids: Sequence[int]) -> Json:
    # It knows no stop ids of the request: the engine watches for them itself.
    return {
        "prompt": request.context.tolist(),
        "n_predict": request.max_new_tokens,
        **_law(request),
        "samplers": ["top_k", "temperature"],
        "repeat_penalty": 1.0,
        "seed": request.seed % (2**32 - 1),  # 32 bits, all of them set meaning a random one
        "n_probs": request.top_k,
        "post_sampling_probs": False,
        "return_tokens": True,
        "cache_prompt": True,
        "timings_per_token": True,
        "stream": True,
    }


def _llama_parse(event: Json, received: int) -> Chunk:
    final = bool(event.get("stop"))
    counts = {"total": event.get("tokens_predicted"), "prefilled": (event.get("timings") or {}).get("prompt_n")}
    end = None if not final else "length" if event.get("stop_type") == "limit" else "stop"
    entries = [] if final else event.get("completion_probabilities") or []  # the last event says again what came before
    tokens = [] if final else event.get("tokens") or [entry["id"] for entry in entries]
    rows = [[(top["id"], top["logprob"]) for top in entry["top_logprobs"]] for entry in entries]
    for token, entry, row in zip(tokens, entries, rows, strict=False):
        if all(token != listed for listed, _ in row):
            row.append((token, entry["logprob"]))
    return _chunk(tokens, rows, end=end, **counts)


def _sglang_payload(model: str, request: Request, stop_ids: Sequence[int]) -> Json:
    sampling = {
        **_law(request),
        "repetition_penalty": 1.0,
        "max_new_tokens": request.max_new_tokens,
        "sampling_seed": request.seed % 2**31,
        "stop_token_ids": list(stop_ids),
        "skip_special_tokens": False,
        "no_stop_trim": True,
    }
    return {
        "input_ids": request.context.tolist(),
        "sampling_params": sampling,
        "return_logprob": True,
        "top_logprobs_num": request.top_k,
        "stream": True,
    }


def _sglang_parse(event: Json, received: int) -> Chunk:
    meta = event["meta_info"]
    total, cached = meta.get("completion_tokens"), meta.get("cached_tokens")
    if total and "output_token_logprobs" not in meta:
        raise EngineError("the server gives no log-probabilities with its tokens")
    drawn = meta.get("output_token_logprobs") or []
    tops = meta.get("output_top_logprobs") or []
    if total is not None and len(drawn) == total:  # everything so far, not only what is new
        drawn, tops = drawn[received:], tops[received:]
    rows = []
    for (logprob, token, *_), top in zip(drawn, tops, strict=False):
        row = {listed: value for value, listed, *_ in top or []}
        rows.append({token: logprob, **row}.items())
    finish = meta.get("finish_reason")
    prefilled = None if cached is None else meta["prompt_tokens"] - cached
    end = finish if finish is None or isinstance(finish, str) else finish["type"]
    return _chunk([entry[1] for entry in drawn], rows, end=end, total=total, prefilled=prefilled)


VLLM_GENERATE = Dialect(
    "vLLM generate",
    "/inference/v1/generate",
    _generate_payload,
    lambda event, _: _vllm_parse(event, _generate_choice),
    raw="start it with --logprobs-mode raw_logprobs",
    more="start it with --max-logprobs {k}, or lower top_k",
    memory="its --max-num-seqs, --max-model-len or --gpu-memory-utilization",
    temperatures=TEMPERATURES,
)
VLLM_COMPLETIONS = replace(
    VLLM_GENERATE,
    name="vLLM completions",
    path="/v1/completions",
    payload=_completions_payload,
    parse=lambda event, _: _vllm_parse(event, _completions_choice),
)
LLAMA = Dialect(
    "llama.cpp",
    "/completion",
    _llama_payload,
    _llama_parse,
    raw="use a newer llama-server",
    more="lower top_k",
    memory="its -c or --parallel",
    end_apart=True,
)
SGLANG = Dialect(
    "SGLang",
    "/generate",
    _sglang_payload,
    _sglang_parse,
    raw="start it with SGLANG_RETURN_ORIGINAL_LOGPROB=1 in its environment",
    more="lower top_k",
    memory="its --max-running-requests or --mem-fraction-static",
)

BY_OWNER: dict[str, tuple[Dialect, ...]] = {
    "vllm": (VLLM_GENERATE, VLLM_COMPLETIONS),
    "llamacpp": (LLAMA,),
    "sglang": (SGLANG,),
}
"""The dialects to try, in order, by what ``owned_by`` says in the server's list of models."""

OTHERS = (VLLM_GENERATE, VLLM_COMPLETIONS, SGLANG, LLAMA)
"""To try where it says something else."""
