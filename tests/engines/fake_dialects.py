"""What a fake server's requests and events look like: as those of vLLM, llama.cpp and SGLang do."""

from __future__ import annotations

OWNERS = {"generate": "vllm", "completions": "vllm", "llama": "llamacpp", "sglang": "sglang"}
PATHS = {
    "generate": "/inference/v1/generate",
    "completions": "/v1/completions",
    "llama": "/completion",
    "sglang": "/generate",
}


def read(kind, body):
    """What a request asks for: context, tokens, temperature, top_k, seed, stops."""
    if kind == "llama":
        return (
            body["prompt"],
            body["n_predict"],
            body["temperature"],
            body["top_k"],
            body["seed"],
            set(),
        )
    if kind == "sglang":
        sampling = body["sampling_params"]
        names = ("max_new_tokens", "temperature", "top_k", "sampling_seed", "stop_token_ids")
        context = body["input_ids"]
    else:
        sampling = body["sampling_params"] if kind == "generate" else body
        names = ("max_tokens", "temperature", "top_k", "seed", "stop_token_ids")
        context = body["token_ids" if kind == "generate" else "prompt"]
    *rest, stops = (sampling[name] for name in names)
    return context, *rest, set(stops)


def write(fake, new, drawn, prompt):
    """The events that tell of the tokens ``new``, the last of ``drawn``."""
    tokens, rows, end = [t for t, _, _ in new], [row for _, row, _ in new], new[-1][2]
    if fake.hide_stop and end == "stop":
        tokens, rows = tokens[:-1], rows[:-1]
    usage = {"prompt_tokens": prompt, "completion_tokens": len(drawn) - (fake.hide_stop and end == "stop")}
    if fake.kind == "generate":
        content = [
            {"token_id": t, "logprob": dict(row)[t], "top_logprobs": [{"token_id": i, "logprob": v} for i, v in row]}
            for t, row in zip(tokens, rows, strict=True)
        ]
        choice = {"index": 0, "token_ids": tokens, "finish_reason": end}
        choice["logprobs"] = {"content": content} if fake.log_probs else None
        yield {"choices": [choice], "usage": usage}
    elif fake.kind == "completions":
        choice = {"index": 0, "text": "", "token_ids": tokens, "finish_reason": end, "logprobs": None}
        if fake.log_probs:
            choice["logprobs"] = {
                "tokens": [f"token_id:{t}" for t in tokens],
                "token_logprobs": [dict(row)[t] for t, row in zip(tokens, rows, strict=True)],
                "top_logprobs": [{f"token_id:{i}": v for i, v in row} for row in rows],
            }
        yield {"choices": [choice], "usage": usage}
    elif fake.kind == "llama":
        for i, (t, row) in enumerate(zip(tokens, rows, strict=True)):
            if t in fake.hidden:
                continue
            tops = [{"id": i, "logprob": v, "bytes": [0xF0, 0x9F] if i in fake.hidden else [65]} for i, v in row]
            entry = {"id": t, "logprob": dict(row).get(t, -50.0), "top_logprobs": tops}
            event = {"tokens": [t], "stop": False, "tokens_predicted": len(drawn) - len(new) + i + 1}
            yield {**event, "completion_probabilities": [entry]} if fake.log_probs else event
        if end:
            last = {"tokens": [], "stop": True, "stop_type": "limit" if end == "length" else "eos"}
            yield {**last, "tokens_predicted": len(drawn), "timings": {"prompt_n": prompt - (fake.cached or 0)}}
    else:
        told = drawn if fake.cumulative else new
        meta = {"prompt_tokens": prompt, "completion_tokens": len(drawn), "finish_reason": end and {"type": end}}
        if fake.log_probs:
            meta["output_token_logprobs"] = [[dict(row)[t], t, None] for t, row, _ in told]
            meta["output_top_logprobs"] = [[[v, i, None] for i, v in row] for _, row, _ in told]
        if fake.cached is not None:
            meta["cached_tokens"] = fake.cached
        yield {"text": "", "output_ids": [t for t, _, _ in told], "meta_info": meta}
    if end and fake.kind in ("generate", "completions"):
        details = {} if fake.cached is None else {"prompt_tokens_details": {"cached_tokens": fake.cached}}
        yield {"choices": [], "usage": {**usage, **details}}
