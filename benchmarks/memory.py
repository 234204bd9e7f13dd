"""Memory of a process that decodes on the CPU, against what its engine announces.

    python benchmarks/memory.py [--model M] [--dtype D] [--slots 8] [--length 512]

The transformers engine, or, of a GGUF file, the llama engine.

Measured is what the process grew by since the libraries were imported: when the model is loaded, and when every slot
has been full to its end.
"""

from __future__ import annotations

import argparse
import asyncio
import warnings

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

import powercut as pc
from powercut.engines.protocol import Chain
from powercut.models.gguf_files import is_gguf


async def fill(engine):
    """Every row and every store to its end: a chain's second prompt moves its first to the store."""
    chains = [Chain() for _ in range(engine.concurrency)]
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        prompts = rng.integers(10, engine.vocab_size, size=(len(chains), engine.context_length - 8))
        requests = [pc.Request(p, 8, top_k=50, chain=chain) for p, chain in zip(prompts, chains, strict=True)]
        await asyncio.gather(*(engine.extend(request) for request in requests))


def engine_of(model):
    """The engine's class, its libraries imported, and what it is loaded with."""
    if is_gguf(model):
        from powercut.engines.llama import LlamaEngine
        from powercut.engines.llama.library import llama

        llama()
        return LlamaEngine, {}
    from powercut.engines.transformers import TransformersEngine
    from powercut.models.libraries import libraries

    libraries()
    return TransformersEngine, {"device": "cpu"}


def main():
    """Load, fill, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub id, folder or GGUF file; default: the bundled SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", help="float32, bfloat16, ...")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--length", type=int, default=512, help="context_length")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    kind, options = engine_of(args.model or "")
    process = psutil.Process()
    before = process.memory_info().rss
    if args.dtype:
        options["dtype"] = args.dtype
    engine = kind.load(args.model, slots=args.slots, context_length=args.length, **options)
    engine.stop_tokens = frozenset()
    loaded = process.memory_info().rss - before
    asyncio.run(fill(engine))
    full = process.memory_info().rss - before
    table = Table(
        "", "announced", "process grew by", "ratio", title=f"{engine.describe()}; {before / 2**30:.2f} before"
    )
    for name, announced, grown in (
        ("loaded", engine.weight_bytes, loaded),
        ("every slot full", engine.weight_bytes + engine.cache_bytes + getattr(engine, "work_bytes", 0), full),
    ):
        table.add_row(name, *(f"{size / 2**30:.2f} GiB" for size in (announced, grown)), f"{grown / announced:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
