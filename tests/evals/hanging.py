"""``powercut eval`` with a small table model that hangs for good once the run folder has so many results.

Run as a program: ``python -m tests.evals.hanging RESULTS RUN_DIR ARGUMENTS``.
"""

import asyncio
import sys
from pathlib import Path

import powercut
from powercut.cli import main
from tests.cli.fake import FakeEngine


class Hanging(FakeEngine):
    def __init__(self, results: int, folder: Path):
        super().__init__()
        self._most, self._folder = results, folder

    async def extend(self, request, keep_going=None):
        await asyncio.sleep(0)
        if sum(file.read_bytes().count(b"\n") for file in self._folder.glob("cells/*/results.jsonl")) >= self._most:
            await asyncio.Event().wait()
        return await powercut.TableEngine.extend(self, request, keep_going)


if __name__ == "__main__":
    powercut.load = lambda *_, **__: Hanging(int(sys.argv[1]), Path(sys.argv[2]))
    sys.exit(main(["eval", *sys.argv[3:], "--out", sys.argv[2]]))
