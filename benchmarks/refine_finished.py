"""What stopping a finished chain early does to its law, exactly: a model that may answer at once or work it out.

    python benchmarks/refine_finished.py

The first token decides: 1 answers at once (three tokens), 2 works it out (two further decisions on the way). Every law
is enumerated, nothing is drawn. Prints, for both cut laws, the distance in total variation from p^4 and the mass on
short answers, with ``refine_finished`` off and on, and in the limit of many steps by ``rule`` "published".
"""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

import powercut as pc
from powercut.study.exact import enumerate_completions, procedure_law
from powercut.study.reference import published_matrix

PROMPT, LENGTH, ALPHA = (9,), 10, 4
STAGES = ((1, 40), (5, 8))
"""Blocks, and steps at each: as many steps in all."""


def probs(context):
    """The next token's probabilities over 0 (stop), 1, 2, 3."""
    tokens = context[1:]
    p = np.zeros(4)
    if not tokens:
        p[[1, 2]] = 0.45, 0.55
    elif tokens[0] == 1:
        p[0 if len(tokens) >= 2 else 1] = 1
    elif len(tokens) in (3, 5):
        p[[1, 2]] = 0.9, 0.1
    else:
        p[0 if len(tokens) >= 8 else 3] = 1
    return p


def main():
    """Print the table."""
    space = enumerate_completions(probs, PROMPT, LENGTH, 1 / ALPHA)
    pi, short = space.power(ALPHA), np.array([len(x) < 5 for x in space.completions])
    table = Table("chain", "blocks x steps", "refine_finished", "distance from p^4", "mass on short answers", box=None)
    table.add_row("p^4 itself", "", "", "0", f"{pi[short].sum():.2f}")
    for cls in (pc.EntropyCut, pc.UniformCut):
        for refine in (False, True):
            for blocks, steps in STAGES:
                settings = {"alpha": ALPHA, "max_new_tokens": LENGTH, "blocks": blocks, "steps": steps, "top_k": None}
                sampler = cls(**settings, refine_finished=refine)
                spaces = [enumerate_completions(probs, PROMPT, h, 1 / ALPHA) for h in sampler.horizons]
                law = procedure_law(spaces, sampler)
                row = [f"{np.abs(law - pi).sum() / 2:.4f}", f"{law[short].sum():.2f}"]
                table.add_row(cls.__name__, f"{blocks} x {steps}", "on" if refine else "off", *row)
    wanted = dict(zip(space.completions, pi, strict=True))
    for cls in (pc.EntropyCut, pc.UniformCut):
        sampler = cls(alpha=ALPHA, max_new_tokens=LENGTH, blocks=1, top_k=None, rule="published")
        states, matrix = published_matrix(space, sampler)
        law = np.zeros(len(states))
        for x, trace in zip(space.completions, space.traces, strict=True):
            law[states.index(x)] = np.exp(trace.logq.sum())
        law = law @ np.linalg.matrix_power(matrix, 100_000)
        distance = sum(abs(mass - wanted.get(x, 0.0)) for x, mass in zip(states, law, strict=True)) / 2
        row = [f"{distance:.4f}", f"{sum(mass for x, mass in zip(states, law, strict=True) if len(x) < 5):.2f}"]
        table.add_row(f"{cls.__name__}, rule published", "in the limit", "on", *row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
