"""Load a language model with transformers, or say in one line why not. Importing this imports no torch."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from powercut.errors import EngineError, SettingError, one_line
from powercut.models.adapters import ADAPTER_FILE, Adapter, merge, need_peft, read_adapter
from powercut.models.checking import check_built, check_claims, check_files
from powercut.models.converting import DEFAULT_MODEL, CacheUnusableError, bundled_folder, read_gguf, require_gguf
from powercut.models.finding import FoundModel, find_model, gated
from powercut.models.libraries import libraries, quiet
from powercut.models.yarn import yarn_changes
from powercut.text import TokenizerText

DTYPES = ("float32", "bfloat16", "float16", "float64")

_TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A decoder-only causal language model in evaluation mode, without gradients, on its device.

    ``model`` is a transformers ``PreTrainedModel``; ``tokenizer`` is None where the model has no tokenizer files.
    ``stop_tokens`` are the ids that end a completion: the generation config's (else the model config's), the
    tokenizer's own, and the one that ends a turn in the chat template.
    """

    model: Any
    tokenizer: Any | None
    name: str
    stop_tokens: frozenset[int]


def load_model(
    name: str | None = None, *, device: str | None = None, dtype: str | None = None, yarn: float | None = None
) -> LoadedModel:
    """Load a local folder, a hub id, or (None, ``"smollm2"``) the bundled SmolLM2-135M-Instruct.

    ``device`` None is CUDA where there is one, else the CPU. ``dtype`` (float32, bfloat16, float16, float64) None is
    float32 on the CPU and the checkpoint's own elsewhere. An adapter (LoRA) is merged into the model that it names, if
    peft is installed. ``yarn`` is a factor by which the context is extended. No code that comes with a model is run.

    Raises SettingError for a device or dtype that cannot be used here, EngineError when the model cannot be loaded;
    each is one line that says what to do.
    """
    if dtype is not None and dtype not in DTYPES:
        raise SettingError(f"dtype must be one of {', '.join(DTYPES)} (got {dtype!r})")
    found = find_model(name, adapters=True)
    torch, _ = libraries()
    device = _check_device(torch, device)
    if dtype is None and torch.device(device).type == "cpu":
        dtype = "float32"
    torch_dtype = getattr(torch, dtype) if dtype else "auto"
    with quiet(bars=not found.local):  # a download is worth a bar
        adapter = _find_adapter(found)
        if adapter is None:
            model, tokenizer = _load(found, device, torch_dtype, yarn)
        else:
            need_peft(adapter)
            base, tokenizer = _load(find_model(adapter.base), device, torch_dtype, yarn)
            model, tokenizer = merge(base, adapter), _load_tokenizer(found) or tokenizer
    model.eval().requires_grad_(False)
    return LoadedModel(model, tokenizer, found.name, _stop_tokens(found.name, model, tokenizer))


def _find_adapter(found: FoundModel) -> Adapter | None:
    if found.name == DEFAULT_MODEL:
        return None
    try:
        if not _has_file(found, ADAPTER_FILE):
            return None
        file = libraries()[1].utils.hub.cached_file(found.source, ADAPTER_FILE)
    except Exception as error:
        raise _explained(found.name, error, f"its {ADAPTER_FILE} cannot be read") from error
    adapter = read_adapter(Path(file).parent)
    # Only the file was fetched from a hub that is reached: peft fetches the others.
    return adapter if adapter is None or found.local else replace(adapter, source=found.source)


def _load(found: FoundModel, device: str, dtype: Any, yarn: float | None) -> tuple[Any, Any | None]:
    """Model and tokenizer."""
    if found.name == DEFAULT_MODEL:
        try:
            found = found._replace(source=str(bundled_folder()))
        except CacheUnusableError as error:
            if yarn is not None:
                raise
            warnings.warn(f"{error}; reading its GGUF instead, which takes 15 s each time", stacklevel=3)
            return read_gguf(require_gguf(), dtype=None if dtype == "auto" else dtype, device=device)
    config = check_config(found)
    if yarn is not None:
        config.get_text_config().update(yarn_changes(config, yarn))
    return _load_weights(found, config, device, dtype), _load_tokenizer(found)


def _stop_tokens(name: str, model: Any, tokenizer: Any | None) -> frozenset[int]:
    ids = getattr(model.generation_config, "eos_token_id", None)
    if ids is None:
        ids = getattr(model.config.get_text_config(), "eos_token_id", None)
    own = getattr(tokenizer, "eos_token_id", None)
    listed = ids if isinstance(ids, list | tuple) else [ids]
    turn = frozenset[int]() if tokenizer is None else TokenizerText(tokenizer).turn_end
    ends = [token for token in (*listed, own) if token is not None]
    for token in ends:
        if type(token) is not int or token < 0:
            raise EngineError(
                f"model: {name}: eos_token_id {token!r} of its configs is no token id; give a number there"
            )
    stops, vocab = turn | frozenset(ends), int(model.config.get_text_config().vocab_size)
    if outside := sorted(token for token in stops if token >= vocab):
        warnings.warn(
            f"model: {name}: end token {one_line(str(outside[0]), 40)} is outside its vocabulary of {vocab} tokens: it "
            "ends nothing",
            stacklevel=2,
        )
    return stops.difference(outside)


def _check_device(torch: Any, device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
        module = torch.get_device_module(wanted.type)
        available, count = module.is_available(), module.device_count()
    except (RuntimeError, AttributeError) as error:
        raise SettingError(f"device: torch cannot use {device!r}; use cpu, cuda or cuda:N") from error
    if not available:
        raise SettingError(f"device: {device} was asked for and torch finds none here; use cpu, or leave it out")
    if (wanted.index or 0) >= count:
        raise SettingError(f"device: there is no {device} here, only {count} of them, counted from 0")
    return str(device)


def check_config(found: FoundModel) -> Any:
    """The model's transformers config. Raises EngineError for a kind that transformers or powercut does not load."""
    _, transformers = libraries()
    name = found.name
    folder = Path(found.source) if found.local else None
    if folder is not None:
        check_files(name, folder)
    try:
        claimed, _ = transformers.PretrainedConfig.get_config_dict(found.source, local_files_only=found.local)
    except Exception as error:
        raise _explained(name, error, "its config.json cannot be read") from error
    if isinstance(claimed, dict):
        check_claims(name, claimed, folder)
    try:
        config = transformers.AutoConfig.from_pretrained(
            found.source, local_files_only=found.local, trust_remote_code=False
        )
    except Exception as error:
        raise _explained(name, error, "its config.json cannot be read") from error
    if getattr(config, "is_encoder_decoder", False):
        raise EngineError(
            f"model: {name} is an encoder-decoder ({config.model_type}); use a decoder-only language model"
        )
    listed = getattr(config, "architectures", None)
    masked = [kind for kind in map(str, listed if isinstance(listed, list) else ()) if kind.endswith("ForMaskedLM")]
    if masked or type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        what = masked[0] if masked else config.model_type
        raise EngineError(f"model: {name} is no causal language model ({what}); use a decoder-only language model")
    return config


def _load_weights(found: FoundModel, config: Any, device: str, dtype: Any) -> Any:
    _, transformers = libraries()
    name = found.name
    try:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            found.source,
            config=config,
            device_map=device,  # tensors go there as they are read
            dtype=dtype,
            local_files_only=found.local,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        raise _explained(name, error, "its weights cannot be loaded") from error
    if missing := sorted(report["missing_keys"]):  # transformers would have drawn them at random
        raise EngineError(
            f"model: {name} lacks {len(missing)} of its weights ({missing[0]}, ...): it is incomplete, "
            "or no causal language model"
        )
    check_built(name, model)
    if unused := sorted(report["unexpected_keys"]):
        warnings.warn(
            f"model: {name}: its config.json has no use for {len(unused)} of its weights ({unused[0]}, ...): "
            "is it that of another model?",
            stacklevel=2,
        )
    return model


def _load_tokenizer(found: FoundModel) -> Any | None:
    _, transformers = libraries()
    try:
        if not any(_has_file(found, file) for file in _TOKENIZER_FILES):
            return None
        return transformers.AutoTokenizer.from_pretrained(
            found.source, local_files_only=found.local, trust_remote_code=False
        )
    except Exception as error:
        raise _explained(found.name, error, "its tokenizer cannot be loaded") from error


def _has_file(found: FoundModel, file: str) -> bool:
    if found.local:
        return (Path(found.source) / file).is_file()
    return bool(libraries()[1].utils.hub.has_file(found.source, file))


def _explained(name: str, error: Exception, what: str) -> EngineError:
    """Word a failure inside transformers, which raises the same errors for quite different causes."""
    text, chain = str(error), [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and len(chain) < 10:
        chain.append(cause)  # type: ignore[arg-type]
    kinds = {type(link).__name__ for link in chain}
    if "GatedRepoError" in kinds:
        return EngineError(gated(name))
    if "does not recognize this architecture" in text:
        version = libraries()[1].__version__
        return EngineError(
            f"model: {name} is of a kind that transformers {version} does not know: pip install --upgrade transformers"
        )
    if "ignore_mismatched_sizes" in text:
        return EngineError(
            f"model: {name}: its weights have other sizes than its config.json says; download or save it again"
        )
    if "trust_remote_code" in text:
        return EngineError(f"model: {name} comes with code of its own, which powercut does not run; use another model")
    if "OutOfMemoryError" in kinds or isinstance(error, MemoryError):
        return EngineError(f"model: {name} does not fit into memory; use dtype bfloat16, or another device")
    if "torchvision::" in text:
        remedy = "pip uninstall torchvision torchaudio torchcodec"
        return EngineError(f"torchvision does not match the installed torch, which breaks transformers: {remedy}")
    if isinstance(error, ImportError):
        return EngineError(f"model: {name} needs another package ({one_line(error)})")
    return EngineError(f"model: {name}: {what} ({one_line(error)}); download or save it again")
