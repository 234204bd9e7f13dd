"""Run folders made from a seed: what ``powercut eval`` would write, of a world in which samplers differ as stated here.

python -m tests.report.example FOLDER
"""

import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

POWER = {"alpha": 4.0, "beta": 4.0, "steps": 10, "blocks": 16}
SAMPLERS = {"standard": {}, "low-temperature": {"alpha": 4.0}, "best-of-n": {"n": 8}, "entropy-cut": POWER}
SKILL = {"standard": -0.6, "low-temperature": 0.1, "best-of-n": 0.5, "uniform-cut": 0.6, "entropy-cut": 0.8}
"""Added to a problem's easiness, as log odds."""
COST = {"standard": 1.0, "low-temperature": 0.9, "best-of-n": 8.0, "uniform-cut": 9.5, "entropy-cut": 7.5}
"""Decoded tokens, in completions."""
SHARED = {"max_new_tokens": 1024, "top_k": 50, "stop": []}


@dataclass
class World:
    """Draws the results of a cell; problems keep their easiness from cell to cell."""

    rng: np.random.Generator
    text: str = "So the answer is \\boxed{42}."
    easiness: dict[str, float] = field(default_factory=dict)

    def rows(self, about, problems, seeds, skill):
        settings, sampler = about["settings"], about["sampler"]
        cuts = sampler.endswith("-cut")
        settings = {"alpha": 4.0, "steps": 10, **settings}
        skill += (
            SKILL.get(sampler, 0)
            + 0.3 * (np.log2(min(8.0, float(settings["alpha"]))) - 2)
            - 0.4 * (about["task"] == "humaneval")
        )
        for problem in problems:
            ease = self.easiness.setdefault(problem, self.rng.normal(0, 1.6))
            odds = ease + skill + self.rng.normal(0, 0.7)
            for seed in seeds:
                tokens = int(self.rng.integers(80, 400))
                decoded = int(tokens * COST.get(sampler, 1) * self.rng.uniform(0.8, 1.2) * settings["steps"] / 10)
                yield {
                    **{name: about[name] for name in ("task", "model", "sampler")},
                    "cell": about["cell"],
                    "id": problem,
                    "seed": seed,
                    "correct": bool(self.rng.random() < 1 / (1 + np.exp(-odds))),
                    "answer": "42",
                    "reason": "",
                    "logp": round(-0.2 * tokens / (1 + max(0, skill)), 3),
                    "entropy": round(float(self.rng.uniform(0.2, 0.6)), 4),
                    "tokens": tokens,
                    "finished": bool(self.rng.random() < 0.97),
                    "acceptance": round(float(self.rng.beta(4, 8)), 4) if cuts else None,
                    "changed": round(float(self.rng.beta(3, 12)), 4) if cuts else None,
                    "steps": settings["steps"] * 8 if cuts else 0,
                    "tokens_decoded": decoded,
                    "tokens_prefilled": 60,
                    "seconds": round(decoded / 90, 3),
                    "text": self.text,
                    "error": None,
                    "log_z": None,
                }


def about_cell(task, model, sampler, settings, problems, seeds, **more):
    """The contents of cell.json, its folder's name among them."""
    about = {"task": task, "model": model, "sampler": sampler, "settings": settings}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{task}--{model.replace('/', '_')}--{sampler}--{digest}"
    return {"cell": name, **about, "seeds": list(range(seeds)), "problems": problems, "prompt_style": "chat", **more}


def write_cell(folder, about, rows):
    """One cell of a run."""
    cell = folder / "cells" / about["cell"]
    cell.mkdir(parents=True, exist_ok=True)
    (cell / "cell.json").write_text(json.dumps(about))
    (cell / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_run(folder, cells, *, seed=0, skills=None, text=None):
    """A whole run; ``skills`` says how good each model is, as log odds."""
    world = World(np.random.default_rng(seed), *([] if text is None else [text]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"format": 1}))
    for about in cells:
        problems = [f"{about['task']}/{i}" for i in range(about["problems"])]
        write_cell(folder, about, world.rows(about, problems, about["seeds"], (skills or {}).get(about["model"], 0)))
    return folder


def comparison(problems=60, seeds=8, models=("base/Qwen-7B", "rl/Qwen-7B-GRPO")):
    """Two models, two tasks, every sampler."""
    return [
        about_cell(
            task, model, sampler, {**SHARED, **settings, **({"alpha": 5.0} if more and settings else {})}, n, seeds
        )
        for task, n, more in (("math500", problems, False), ("humaneval", problems // 2, True))
        for model in models
        for sampler, settings in {**SAMPLERS, "uniform-cut": {k: v for k, v in POWER.items() if k != "beta"}}.items()
    ]


def ablation(problems=60, seeds=4, model="base/Qwen-7B"):
    """Alpha, and steps, varied for one sampler on one task."""
    variants = [{"alpha": alpha} for alpha in (1.0, 2.0, 4.0, 8.0)] + [{"steps": steps} for steps in (2, 5, 20)]
    cut = [about_cell("gsm8k", model, "entropy-cut", {**SHARED, **POWER, **v}, problems, seeds) for v in variants]
    return [about_cell("gsm8k", model, s, {**SHARED, **SAMPLERS[s]}, problems, seeds) for s in list(SAMPLERS)[:3]] + cut


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_run(folder / "compare", comparison(), skills={"rl/Qwen-7B-GRPO": 0.8})
    write_run(folder / "ablate", ablation())
