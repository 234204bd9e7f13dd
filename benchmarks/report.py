"""Time and memory of ``powercut report`` on a large run folder, made from a seed.

    python benchmarks/report.py [--rows 100000] [--text-length 2000] [--keep FOLDER]

The command runs in a process of its own, start-up included. On a busy machine compare CPU seconds, not wall time.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.report.example import comparison, write_run  # noqa: E402

COMMAND = "import sys; from powercut.cli import main; sys.exit(main())"


def main():
    """Write the run, report on it, print the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--text-length", type=int, default=2000, help="characters of each completion's text")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the run there, and leave it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        cells = comparison(problems=1, seeds=args.seeds)
        for cell in cells:
            cell["problems"] = max(1, round(args.rows / len(cells) / args.seeds))
        write_run(folder, cells, text="x" * args.text_length)
        files = list(folder.glob("cells/*/results.jsonl"))
        rows = sum(file.read_bytes().count(b"\n") for file in files)
        size = sum(file.stat().st_size for file in files)
        print(f"{rows:,} rows in {len(cells)} cells, {size / 1e6:.0f} MB", flush=True)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", COMMAND, "report", str(folder)], check=True, stdout=subprocess.DEVNULL)
        wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        peak = used.ru_maxrss / (1 if sys.platform == "darwin" else 1024)
        print(f"{wall:.1f} s wall, {used.ru_utime + used.ru_stime:.1f} s CPU, {peak:.0f} MB peak memory")


if __name__ == "__main__":
    main()
