"""A GGUF file as llama.cpp holds it: its weights, its vocabulary, and what the file says of itself."""

from __future__ import annotations

import ctypes
import os
import re
import weakref
from pathlib import Path
from typing import Any

from powercut.engines.batching.batched_engine import CLOSED
from powercut.engines.llama.library import Said, buffer_bytes, buffer_devices, complaint, listening, llama
from powercut.errors import EngineError, SettingError, quoted
from powercut.models.gguf_files import parts_of

_CONTROL = 1 << 0 | 1 << 3
"""What llama.cpp notes of special tokens, that for unknown text among them."""

_OVERRIDDEN = re.compile(r"control-looking token: +(\d+) '(.*)' was not control-type")
"""What llama.cpp logs of a token that the file calls no special one."""

_ENDS = ("eos", "eot", "eom")
_GIB = 2**30
_ENTRY = 330
"""Bytes for each token of a vocabulary in llama.cpp's tables, of which it says nothing: as seen with 49k and 152k."""


class GgufModel:
    """The model in ``path``, or in the parts of which that is the first.

    ``gpu_layers`` is how many layers a GPU holds (None: all, if the library can use one). Raises EngineError for a file
    that is no causal language model, is damaged, or is larger than this machine's memory, SettingError for layers that
    no GPU here can hold.
    """

    def __init__(self, path: Path, gpu_layers: int | None = None) -> None:
        functions = llama()
        _check_layers(gpu_layers)
        _check_memory(path, sum(part.stat().st_size for part in parts_of(path)))
        options = functions.llama_model_default_params()
        if gpu_layers is not None:
            options.n_gpu_layers = gpu_layers
        with listening() as said:
            self.pointer: Any = functions.llama_model_load_from_file(os.fsencode(path), options)
        if not self.pointer:
            raise EngineError(f"model: llama.cpp cannot load {path} ({complaint(said)}); give a language model's file")
        self._free = weakref.finalize(self, functions.llama_model_free, self.pointer)
        self._free.atexit = False  # the system does it
        try:
            self._check_kind(path)
        except EngineError:
            self.close()
            raise
        self.devices = buffer_devices(said)
        """Where the weights are: CPU, CUDA0, Metal, ..."""
        self.vocab_size = int(functions.llama_vocab_n_tokens(self.vocabulary))
        self.words = self._words(said)
        """Tokens of text, by how the vocabulary writes them, that llama.cpp takes for special ones by their look."""
        self.weight_bytes: int = buffer_bytes(said).get("model", 0) + _ENTRY * self.vocab_size
        """Memory that the weights and, about, the vocabulary take, in bytes."""
        self.longest = int(functions.llama_model_n_ctx_train(self.pointer))
        """The most tokens that the model was made for."""
        self.window = int(functions.llama_model_n_swa(self.pointer))
        """Tokens that the layers with a sliding window see; 0 if there are none."""
        self.recurrent = bool(
            functions.llama_model_is_recurrent(self.pointer) or functions.llama_model_is_hybrid(self.pointer)
        )
        """Whether there are layers that keep one state of all tokens before."""
        scaling = f"{self.said('general.architecture')}.rope.scaling"
        switch = self.said(f"{scaling}.original_context_length")
        of_two_kinds = switch is not None and self.said(f"{scaling}.type") in (None, "longrope")
        self.rope_switch = int(switch or 0) if of_two_kinds else 0
        """The length in tokens beyond which rotary embeddings of the longrope kind are others; 0 if they never are."""

    def close(self) -> None:
        """Give back the memory, as the end of this object does; a second call does nothing."""
        self.pointer = None
        self._free()

    @property
    def vocabulary(self) -> Any:
        """The vocabulary, in the model's memory. Raises EngineError once that is given back."""
        if not self.pointer:
            raise EngineError(CLOSED)
        return llama().llama_model_get_vocab(self.pointer)

    @property
    def about(self) -> str:
        """Kind, number of weights in millions, and number format."""
        functions = llama()
        count = functions.llama_model_n_params(self.pointer) / 1e6
        numbers = functions.llama_ftype_name(functions.llama_model_ftype(self.pointer)).decode()
        return f"{self.said('general.architecture')}, {count:.0f}M weights, {numbers}"

    def token_bytes(self, cell_bytes: int = 2) -> int:
        """Memory of the keys and values of one token, in bytes, with ``cell_bytes`` for each number; about."""
        functions, model = llama(), self.pointer
        heads = max(1, functions.llama_model_n_head(model))
        width = functions.llama_model_n_embd(model) // heads * functions.llama_model_n_head_kv(model)
        return int(2 * cell_bytes * width * functions.llama_model_n_layer(model))

    def said(self, key: str) -> str | None:
        """What the file says under ``key``, None if nothing."""
        text = ctypes.create_string_buffer(4096)
        length = llama().llama_model_meta_val_str(self.pointer, key.encode(), text, len(text))
        return None if length < 0 else text.value.decode(errors="replace")

    @property
    def chat_template(self) -> str | None:
        """The chat template in the file, None if there is none."""
        found = llama().llama_model_chat_template(self.pointer, None)
        return None if found is None else found.decode(errors="replace")

    def token_id(self, use: str) -> int | None:
        """The token that the file names for a use (``bos``, ``eos``, ``unknown``, ...), None if it names none."""
        said = self.said(f"tokenizer.ggml.{use}_token_id")
        return None if said is None or int(said) >= self.vocab_size else int(said)

    def ends(self) -> set[int]:
        """The tokens that end a text or a turn.

        They are those that the file names, whatever kind it says they are of, and special ones that llama.cpp knows by
        what they are called; but not those that it knows as marks between files and parts of files.
        """
        functions, vocabulary = llama(), self.vocabulary
        fill_in = {getattr(functions, f"llama_vocab_fim_{name}")(vocabulary) for name in ("pad", "rep", "sep")}
        known = {token for token in self._controls() if functions.llama_vocab_is_eog(vocabulary, token)}
        return (known - fill_in) | {token for use in _ENDS if (token := self.token_id(use)) is not None}

    def specials(self) -> list[int]:
        """The tokens that are no part of the text."""
        return sorted({*self._controls(), *self.ends()})

    def _controls(self) -> list[int]:
        attributes, vocabulary, words = llama().llama_vocab_get_attr, self.vocabulary, set(self.words.values())
        return [i for i in range(self.vocab_size) if attributes(vocabulary, i) & _CONTROL and i not in words]

    def _words(self, said: list[Said]) -> dict[str, int]:
        """``</s>`` in a vocabulary of bytes is the end of a crossed-out text, unless the file names it as an end.

        Names in ``<|...|>`` are hardly that, and some files do not say that they are special.
        """
        functions = llama()
        if functions.llama_vocab_type(self.vocabulary) != functions.LLAMA_VOCAB_TYPE_BPE:
            return {}
        found = [match for _, line in said if (match := _OVERRIDDEN.search(line))]
        named = {self.token_id(use) for use in ("bos", *_ENDS)}
        return {
            match[2]: int(match[1])
            for match in found
            if int(match[1]) not in named and not re.fullmatch(r"<\|.*\|>", match[2])
        }

    def _check_kind(self, path: Path) -> None:
        functions, model = llama(), self.pointer
        kind, architecture = None, self.said("general.architecture")
        if functions.llama_model_has_encoder(model):
            kind = "an encoder-decoder" if functions.llama_model_has_decoder(model) else "an encoder"
        elif functions.llama_model_is_diffusion(model):
            kind = "a diffusion model"
        elif self.said(f"{architecture}.attention.causal") == "false":
            kind = "an encoder"
        elif self.said(f"{architecture}.pooling_type") not in (None, "0"):
            kind = "an embedding model"
        elif not functions.llama_vocab_n_tokens(functions.llama_model_get_vocab(model)):
            kind = "without a vocabulary"
        if kind is not None:
            raise EngineError(f"model: {path} is {kind}; use a decoder-only language model")


def _check_layers(gpu_layers: int | None) -> None:
    """Raise SettingError for a number of layers that cannot be, or for some where no GPU can hold them."""
    if gpu_layers is None:
        return
    if isinstance(gpu_layers, bool) or not isinstance(gpu_layers, int) or not 0 <= gpu_layers < 2**31:
        raise SettingError(f"gpu_layers must be a whole number of at least 0 (got {quoted(gpu_layers)})")
    if gpu_layers and not llama().llama_supports_gpu_offload():
        raise SettingError(
            "gpu_layers: llama.cpp finds no GPU here, or was built for none: leave it out, or build llama-cpp-python "
            "for your GPU"
        )


def _check_memory(path: Path, size: int) -> None:
    total = machine_memory()
    if total is not None and size > total and not llama().llama_supports_gpu_offload():
        raise EngineError(
            f"model: {path} has {size / _GIB:.1f} GiB and this machine's memory {total / _GIB:.1f}: use a smaller "
            "model, or one with fewer bits"
        )


def machine_memory() -> int | None:
    """This machine's memory in bytes; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
