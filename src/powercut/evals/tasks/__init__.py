"""Every task. A new one is a file here, with what it needs to read its rows, and a line in TASKS."""

from __future__ import annotations

from powercut.evals.tasks import aime26, arithmetic, gpqa_diamond, gsm8k, humaneval, math500
from powercut.evals.tasks.task import Task

TASKS: dict[str, Task] = {
    each.TASK.name: each.TASK for each in (math500, humaneval, gpqa_diamond, aime26, gsm8k, arithmetic)
}
"""Every task by its command-line name."""
