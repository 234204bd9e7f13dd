"""What powercut eval costs beside the sampling itself: CPU time of harness and provider for each completion.

    python benchmarks/eval_overhead.py [--completions 256] [--tokens 16]

64 Entropy-Cut chains at once on the table engine, whose cost is subtracted: chains of the same kind run through
powercut.sample and through the harness, with all it does: Inspect's tasks, scorers and logs, grading, every line synced
to the disk. Each with two numbers of completions, so that the start of a run is told apart. The chains are short: what
is measured depends on their number alone, and would be lost in the noise of what sampling takes.

CPU time of this process is compared, not wall time: a model decodes elsewhere (on a GPU, or in another process), and
while it does the harness waits. The share of the wall time of a real engine is then at most

    CPU seconds a completion * tokens/s of the engine / tokens decoded a completion,

as if nothing of it were hidden behind the decoding. The last lines give that share for engines of several speeds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import powercut as pc
from powercut.evals.problem import Problem
from powercut.evals.runs.benchmarks import Benchmark
from powercut.evals.runs.folder import RunFolder
from powercut.evals.runs.harness import Harness
from powercut.evals.runs.plan import Cell, sampler_seed
from powercut.evals.tasks import TASKS
from powercut.records import RunFacts

CHAINS = 64
LETTERS = "abcdefghijklmnopqrstuvwxyz \n.0123456789"


class Text:
    """One token a letter."""

    has_chat_template = False

    async def encode(self, text):
        """Ids of the letters that there are."""
        return [LETTERS.index(letter) for letter in text.lower() if letter in LETTERS]

    async def decode(self, tokens):
        """The letters."""
        return self.decode_now(tokens)

    def decode_now(self, tokens):
        """The letters."""
        return "".join(LETTERS[token] for token in tokens)


class Engine(pc.TableEngine):
    """Never stops, so that all chains take the same work."""

    def __init__(self):
        size = len(LETTERS)
        laws = [[(1 + (i * 7 + j * j) % 11) for j in range(size)] for i in range(size)]
        laws = [[weight / sum(law) for weight in law] for law in laws]
        super().__init__(lambda context: laws[context[-1]], text=Text(), concurrency=CHAINS)


def bench(count):
    """So many problems of the arithmetic task."""
    task = TASKS["arithmetic"]
    return Benchmark(task, [Problem(f"p{i}", f"what is {i} plus {i}?", str(2 * i)) for i in range(count)])


def direct(count, sampler):
    """CPU seconds, and tokens decoded, of chains through powercut.sample."""
    engine = Engine()
    prompts = [f"problem: {problem.question}" for problem in bench(count).problems]
    start = time.process_time()
    pc.sample(engine, sampler, prompts, seed=sampler_seed("arithmetic", "p0", 0), chat=False)
    return time.process_time() - start, engine.usage.decoded


def harness(count, sampler):
    """CPU seconds, tokens decoded, and bytes of the run folder, of the same number of chains through the harness."""
    engine = Engine()
    cell = Cell(bench(count), "table", "entropy-cut", sampler, "base", 1)
    with tempfile.TemporaryDirectory() as path, RunFolder(Path(path)) as folder:
        folder.record(RunFacts())
        start = time.process_time()
        Harness(engine, folder, [cell], lambda *_: None).run()
        seconds = time.process_time() - start
        size = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    return seconds, engine.usage.decoded, size


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completions", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    sampler = pc.EntropyCut(max_new_tokens=args.tokens, blocks=2, steps=2)
    few, many = CHAINS, CHAINS + args.completions
    harness(4, sampler)  # imports
    costs = []
    for repeat in range(args.repeats):
        own = [direct(count, sampler) for count in (few, many)]
        all_ = [harness(count, sampler) for count in (few, many)]
        # chains differ in their seeds and so in their work: seconds of sampling are compared by tokens
        per_token = (own[1][0] - own[0][0]) / (own[1][1] - own[0][1])
        seconds, tokens = (all_[1][k] - all_[0][k] for k in (0, 1))
        costs.append((seconds - tokens * per_token) / args.completions)
        print(
            f"run {repeat + 1}: {args.completions} completions, {tokens / args.completions:,.0f} tokens decoded each: "
            f"{seconds:.1f} s of CPU, of which sampling {tokens * per_token:.1f} s: "
            f"{1000 * costs[-1]:.1f} ms a completion for harness and provider"
        )
        kilobytes = (all_[1][2] - all_[0][2]) / args.completions / 1000
    cost = statistics.median(costs)
    print(f"median: {1000 * cost:.1f} ms a completion; {kilobytes:.1f} kB of disk a completion")
    for decoded in (2_000, 10_000, 50_000):
        shares = ", ".join(f"{cost * rate / decoded:.2%} at {rate:,} tokens/s" for rate in (250, 2_500, 10_000))
        print(f"completions of {decoded:,} decoded tokens: at most {shares}")


if __name__ == "__main__":
    main()
