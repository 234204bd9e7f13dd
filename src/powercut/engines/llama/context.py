"""A context of llama.cpp: the cells that hold keys and values, which sequences share, and the passes over them."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from powercut.engines.llama.gguf_model import GgufModel
from powercut.engines.llama.library import complaint, listening, llama
from powercut.errors import EngineError, SettingError, did_you_mean, quoted
from powercut.trace import FloatArray, IntArray

NO_ROOM = 1
"""What ``decode`` returns where the cells do not suffice."""

_OURS = {
    "n_ctx": "context_length and slots",
    "n_seq_max": "slots",
    "n_threads": "threads",
    "n_threads_batch": "threads",
}
"""Parameters of llama.cpp that have a name of their own here."""

_LARGEST = 3e38
"""About the largest number that 32 bits hold."""

_KINDS = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q5_1": "Q5_1", "q5_0": "Q5_0", "q4_0": "Q4_0"}
"""Number formats of cached keys and values, by the names that llama.cpp's own tools give them."""

_CHOICES = {"flash_attn_type": (-1, 0, 1), "rope_scaling_type": (-1, 0, 1, 2, 3)}
"""Numbers that stand for something, by their parameters: llama.cpp ends the process for another, or passes over it."""

FREE = (
    *("n_ubatch", "flash_attn_type", "type_k", "type_v", "offload_kqv", "op_offload", "swa_full"),
    *("rope_scaling_type", "rope_freq_base", "rope_freq_scale"),
    *("yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow", "yarn_orig_ctx"),
)
"""Parameters of llama.cpp that a user may set; the others are set here, or are no numbers."""


class Context:
    """Cells for ``cells`` tokens in all, of up to ``sequences`` sequences, numbered from 0, of ``model``.

    A pass has at most ``tokens`` tokens. ``options`` is what ``context_options`` returns.
    Raises SettingError for a memory that cannot be had.
    """

    def __init__(
        self,
        model: GgufModel,
        *,
        cells: int,
        sequences: int,
        tokens: int,
        threads: int,
        options: Any,
    ) -> None:
        functions = self._functions = llama()
        options.n_ctx, options.n_seq_max, options.n_outputs_max = cells, sequences, sequences
        options.n_batch, options.n_threads, options.n_threads_batch = tokens, threads, threads
        with listening() as said:
            self.pointer: Any = functions.llama_init_from_model(model.pointer, options)
        if not self.pointer:
            raise SettingError(
                f"llama.cpp cannot make a cache of {cells} tokens ({complaint(said)}): lower slots or context_length"
            )
        self._free = weakref.finalize(self, _free, self.pointer, model)
        self._free.atexit = False  # the system does it
        self.said = said
        self.memory: Any = functions.llama_get_memory(self.pointer)
        self.cells = int(functions.llama_n_ctx(self.pointer))
        """For how many tokens in all there are cells: ``cells``, rounded up."""
        self._window = model.window
        self._vocab_size = model.vocab_size
        self._tokens, self._positions, self._sequences = np.zeros((3, tokens), dtype=np.int32)
        self._wanted = np.zeros(tokens, dtype=np.int8)
        self._one = np.ones(tokens, dtype=np.int32)
        where = self._sequences.ctypes.data + self._sequences.itemsize * np.arange(tokens)
        self._where = where.astype(np.uintp)
        number = ctypes.POINTER(ctypes.c_int32)
        self._batch = functions.llama_batch(
            token=self._tokens.ctypes.data_as(number),
            pos=self._positions.ctypes.data_as(number),
            n_seq_id=self._one.ctypes.data_as(number),
            seq_id=self._where.ctypes.data_as(ctypes.POINTER(number)),
            logits=self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def close(self) -> None:
        """Give back the memory, as the end of this object does; a second call does nothing."""
        self.pointer = None
        self._free()

    def decode(self, tokens: IntArray, positions: IntArray, sequences: IntArray, wanted: IntArray) -> int:
        """Compute ``tokens`` at ``positions`` of ``sequences``, all ``[n]``, in one pass.

        ``wanted`` are the places in the line after which logits are asked for. Returns 0, or NO_ROOM, in which case
        nothing has happened. Raises EngineError if llama.cpp fails.
        """
        n = len(tokens)
        self._tokens[:n], self._positions[:n], self._sequences[:n] = tokens, positions, sequences
        self._wanted[:n] = 0
        self._wanted[wanted] = 1
        self._batch.n_tokens = n
        status = int(self._functions.llama_decode(self.pointer, self._batch))
        if status not in (0, NO_ROOM):
            raise EngineError(f"llama.cpp failed to compute {n} tokens (llama_decode gives {status})")
        return status

    def logits(self, count: int) -> FloatArray:
        """The logits ``[count, V]`` of the last pass, as ``wanted``; llama.cpp's own memory until the next one."""
        found = self._functions.llama_get_logits(self.pointer)
        rows: FloatArray = np.ctypeslib.as_array(found, shape=(count, self._vocab_size))
        return rows

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Let sequence ``target`` hold positions ``start..end-1`` of ``source``; nothing is copied."""
        self._functions.llama_memory_seq_cp(self.memory, source, target, start, end)

    def cut(self, sequence: int, length: int) -> bool:
        """Keep the first ``length`` tokens of a sequence. False if it cannot go on there: it holds nothing then."""
        remove = self._functions.llama_memory_seq_rm
        if length and remove(self.memory, sequence, length, -1) and self.reaches(sequence, length):
            return True
        remove(self.memory, sequence, -1, -1)
        return not length

    def reaches(self, sequence: int, length: int) -> bool:
        """Whether a sequence holds all of its first ``length`` tokens that the next one sees.

        llama.cpp writes over tokens that are outside the window of a sequence as it stands, wherever it likes the cell.
        """
        return not self._window or 0 <= self.first(sequence) <= max(0, length - self._window + 1)

    def state(self, sequence: int) -> Any:
        """All that is kept of a sequence, as bytes of llama.cpp's own."""
        size = self._functions.llama_state_seq_get_size(self.pointer, sequence)
        kept = (ctypes.c_uint8 * size)()
        self._functions.llama_state_seq_get_data(self.pointer, kept, size, sequence)
        return kept

    def restore(self, sequence: int, state: Any) -> bool:
        """Have a sequence hold what ``state`` gave; whether that could be done."""
        return bool(self._functions.llama_state_seq_set_data(self.pointer, state, len(state), sequence))

    def first(self, sequence: int) -> int:
        """The first position from which on all layers hold all tokens of a sequence; -1 if it holds none."""
        return int(self._functions.llama_memory_seq_pos_min(self.memory, sequence))


def _free(pointer: Any, _: GgufModel) -> None:
    """Give back a context's memory; the model, which it looks at meanwhile, is there as long."""
    llama().llama_free(pointer)


def context_options(parameters: Mapping[str, Any]) -> Any:
    """llama.cpp's structure of options, with ``parameters`` by their names in llama.h.

    Raises SettingError for one that cannot be set, or a value that it cannot have.
    """
    functions = llama()
    options = functions.llama_context_default_params()
    options.kv_unified = options.swa_full = options.no_perf = True
    for name, value in parameters.items():
        setattr(options, name, _checked(functions, options, name, value))
    return options


def _checked(functions: Any, options: Any, name: str, value: Any) -> Any:
    """The value of one of llama.cpp's parameters, as its structure takes it."""
    if name in _OURS:
        raise SettingError(f"{name}: give {_OURS[name]}")
    if name not in FREE or not hasattr(options, name):
        raise SettingError(f"the llama engine has no option {name}{did_you_mean(name, FREE)}")
    if name in ("type_k", "type_v"):
        if value not in _KINDS:
            raise SettingError(f"{name} must be one of {', '.join(_KINDS)} (got {value!r})")
        return getattr(functions, f"GGML_TYPE_{_KINDS[value]}")
    if name in _CHOICES and (isinstance(value, bool) or value not in _CHOICES[name]):
        raise SettingError(f"{name} must be one of {', '.join(map(str, _CHOICES[name]))} (got {quoted(value)})")
    kind = dict(options._fields_)[name]
    fits = isinstance(value, bool) if kind is ctypes.c_bool else isinstance(value, int) and not isinstance(value, bool)
    if kind is ctypes.c_float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
    if not fits or (kind is ctypes.c_uint32 and not 0 < value < 2**31):
        what = {ctypes.c_bool: "true or false", ctypes.c_float: "a number"}.get(kind, "a whole number above 0")
        raise SettingError(f"{name} must be {what} (got {quoted(value)})")
    return value
