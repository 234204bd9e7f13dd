"""Linear layers laid out for decoding on the CPU.

torch multiplies the few rows of a decode step by a layer's weights several times slower than memory delivers those,
and two rows slower than one. oneDNN, which comes with torch, does not if it may lay the weights out its own way
beforehand: a step of one request then takes half the time, and one of eight costs little more than that
(``benchmarks/linear.py``). It is what torch's own compiler does to a frozen model, here without compiling, by the two
operations of torch that it uses; they have no public name. The results differ from torch's in the last bits only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class PackedLinear(nn.Module):
    """``nn.Linear`` for inference on the CPU, its weights packed by oneDNN; the layer it is made from can go."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        self.register_buffer("packed", torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach()), persistent=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # as torch names it
        """``[..., in_features]`` to ``[..., out_features]``."""
        return torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "")

    @property
    def weight(self) -> torch.Tensor:
        """``[out_features, in_features]``, unpacked anew each time: for models that look at it."""
        return self.packed.to_dense()


def pack_linears(model: nn.Module) -> None:
    """Replace the model's plain linear layers, in float32 or bfloat16 on the CPU, by packed ones where torch has them.

    The model can only decode from then on: not be trained, saved or moved. Memory stays the same, but for a layer
    that shares its weights with the embedding.
    """
    types = [dtype for dtype in CLOSE if _can_pack(dtype)]
    packed: dict[nn.Module, PackedLinear] = {}
    for path, layer in list(model.named_modules(remove_duplicate=False)):  # a shared layer in each of its places
        if path and _is_plain(layer) and layer.weight.dtype in types:
            packed[layer] = packed.get(layer) or PackedLinear(layer)
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, packed[layer])
    if packed:  # what is left is often a view of the file, all of which stays in memory as long as one such view lives
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()


def _is_plain(layer: Any) -> bool:
    return type(layer) is nn.Linear and layer.weight.device.type == "cpu"


CLOSE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""The types that are packed, and how much the results may differ from torch's."""


def _can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch has oneDNN's linear layers for ``dtype``, and they compute what its own do."""
    with torch.random.fork_rng(devices=[]):  # its initial weights are drawn
        layer = nn.Linear(48, 80, dtype=dtype)
    x = torch.linspace(-1, 1, 2 * 3 * 48, dtype=dtype).reshape(2, 3, 48)
    try:
        return torch.allclose(PackedLinear(layer)(x), layer(x), rtol=CLOSE[dtype], atol=CLOSE[dtype] / 10)
    except (AttributeError, RuntimeError, NotImplementedError):  # not built in, or not for this processor
        return False
