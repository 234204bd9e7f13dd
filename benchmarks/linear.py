"""Milliseconds of a linear layer for few rows on this machine's CPU: torch's own and packed.

    python benchmarks/linear.py [--shapes 576x1536 ...] [--rows 1 2 4 8 16] [--dtype bfloat16] [--repeats 20]

Many copies of a layer take turns, more than any cache holds: as a model's layers do.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from powercut.engines.transformers.packed_linear import PackedLinear

COPIES_BYTES = 256 * 2**20  # so many weights take turns that no cache holds them,
MOST_COPIES = 100  # unless they are tiny


@torch.inference_mode()
def milliseconds(layers, x, repeats):
    """Median time of one layer."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for layer in layers:
            layer(x)
        seconds.append((time.perf_counter() - start) / len(layers))
    return 1000 * statistics.median(seconds[1:])


def main():
    """Time both on every shape and number of rows, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shapes = ["576x1536", "576x49152", "4096x4096"]
    parser.add_argument("--shapes", nargs="+", default=shapes, help="inputs x outputs")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    title = f"torch {torch.__version__}, {args.dtype}, {torch.get_num_threads()} threads, median of {args.repeats}"
    table = Table("inputs x outputs", "rows", "torch, ms", "packed, ms", "packed / torch", title=title)
    for shape in args.shapes:
        inputs, outputs = map(int, shape.split("x"))
        copies = min(1 + COPIES_BYTES // (dtype.itemsize * inputs * outputs), MOST_COPIES)
        plain = [nn.Linear(inputs, outputs, bias=False, dtype=dtype) for _ in range(copies)]
        packed = [PackedLinear(layer) for layer in plain]
        for rows in args.rows:
            x = torch.randn(rows, inputs, dtype=dtype)
            times = [milliseconds(layers, x, args.repeats) for layers in (plain, packed)]
            table.add_row(shape, str(rows), *(f"{t:.2f}" for t in times), f"{times[1] / times[0]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
