"""Chains as they are recorded: of small models, and a long one that no model has drawn."""

import asyncio
import json
from dataclasses import asdict

import numpy as np

from powercut.chains import Chains
from powercut.engines.table import TableEngine
from powercut.engines.with_rows import WithRows
from powercut.records import Completed
from powercut.samplers import SAMPLERS
from powercut.step_lines import StepLines
from powercut.strict_json import json_line
from powercut.text import completion_text
from powercut.trace import Completion, Event, Rows, Stats, Step, Trace
from tests.letters import Letters

CHAIN = SAMPLERS["entropy-cut"](max_new_tokens=40, blocks=4, steps=8, alpha=2, refine_finished=True)
NAMES = {kind: name for name, kind in SAMPLERS.items()}

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">"
WORDS = [
    *("<end>", " the", " answer", " is", " 12", " 7", ".", "\n", " so", " we"),
    *("\t", " cat", HOSTILE, "\u202e", " 数学", "数", " naïve", " <b>", "  ", " def"),
]
"""The vocabulary of the small model; token 0 ends a text."""


def shown_text(trace, start=0):
    """What the page shows of tokens: marks of the direction of writing are spelt out."""
    spelt = [WORDS[token] if token else "" for token in trace.tokens[start:].tolist()]
    return "".join(spelt).replace("\u202e", "\\u202e")


class Words(Letters):
    """Text whose tokens are WORDS."""

    def __init__(self):
        super().__init__(WORDS)

    async def encode(self, text):
        return await super().encode(text.split("|"))

    def decode_now(self, tokens):
        return super().decode_now([token for token in tokens if token])


def words_engine(seed=0):
    """A model of WORDS that is sure of some tokens, and unsure of others."""
    rng = np.random.default_rng(seed)
    laws = rng.dirichlet(np.full(len(WORDS), 0.25), size=(len(WORDS), len(WORDS)))
    laws[:, :, 0] *= 0.2
    laws /= laws.sum(axis=-1, keepdims=True)
    return TableEngine(lambda context: laws[context[-1], context[-2] if len(context) > 1 else 0], 0, text=Words())


def recorded(sampler, engine=None, *, prompt=(1, 2), seed=0, n=1):
    """What is recorded of ``n`` completions: events, lines (as JSON has them) and chains."""
    engine = engine or words_engine()
    name = NAMES[type(sampler)]
    lines = StepLines(engine.text, sampler=name, settings=asdict(sampler), seed=seed, model=engine.name)
    events, written = [], []

    async def draw(j):
        def observe(event):
            events.append(event)
            written.extend(lines.event(0, j, event))

        rng = np.random.default_rng([seed, j])
        completion = await sampler(WithRows(engine), np.array(prompt), rng, observe, place=(0, j))
        facts = {"sampler": name, "settings": asdict(sampler), "seed": seed, "model": engine.name, "meta": {}}
        written.append(lines.completion(Completed.of(completion, **facts)))

    for j in range(n):
        asyncio.run(draw(j))
    read = [json.loads(json_line(line)) for line in written]
    return events, read, read_lines(read)


def read_lines(lines):
    chains = Chains()
    for line in lines:
        chains.add(line)
    return chains


def save(file, lines):
    file.write_text("".join(map(json_line, lines)))
    return file


class Numbered(Words):
    """Text of a large vocabulary: words, and ends of lines."""

    def decode_now(self, tokens):
        return "".join("\n" if token % 37 == 0 else f" w{token}" for token in tokens)


def drawn_at_random(rng, count, vocabulary=8000):
    """A trace as a real model's are: mostly sure, with laws of five tokens."""
    entropy = np.minimum(rng.gamma(0.25, 1.2, count), 4.0)
    ids = np.minimum(rng.zipf(1.3, (count, 5)), vocabulary - 1).astype(np.int32)
    ids[:, 1:] = (ids[:, :1] + np.arange(1, 5) * 13) % vocabulary
    shares = np.exp(-np.arange(5) * 3 / np.maximum(entropy, 0.05)[:, None])
    logp = np.log(np.maximum(shares / shares.sum(axis=1, keepdims=True), 1e-300))
    at = (rng.random(count)[:, None] > np.cumsum(np.exp(logp), axis=1)).sum(axis=1).clip(0, 4)
    rows = np.arange(count)
    return Trace(ids[rows, at], logp[rows, at], np.minimum(4 * logp[rows, at], 0.0), entropy, rows=Rows(ids, logp))


def long_chain(tokens=3072, steps=160, seed=0, *, early=True):
    """The lines of a chain of so many tokens and steps, of 8 stages; without ``early`` every proposal is whole."""
    rng = np.random.default_rng(seed)
    stages = 8
    sampler = SAMPLERS["entropy-cut"](max_new_tokens=tokens, blocks=stages, steps=steps // stages)
    facts = {"sampler": "entropy-cut", "settings": asdict(sampler), "seed": seed, "model": "no model"}
    lines, written = StepLines(Numbered(), **facts), []
    current, made = Trace.empty(), []
    for stage, horizon in enumerate(sampler.horizons):
        tail = drawn_at_random(rng, horizon - len(current))
        current = current.splice(len(current), tail)
        written += lines.event(0, 0, Event(stage, stages, None, tail, current, np.arange(1, 40)))
        for _ in range(steps // stages):
            cut = int(rng.integers(horizon))
            shared = min(int(rng.geometric(0.2)), horizon - cut)
            fate = rng.random()
            accepted = fate < 0.2
            is_early = early and fate > 0.45
            length = min(horizon - cut - shared, int(rng.geometric(0.01)) if is_early else horizon)
            tail = current[cut : cut + shared].splice(shared, drawn_at_random(rng, length))
            changed = cut + shared if accepted and length else None
            step = Step(stage, cut, float(rng.normal(-1)), accepted, is_early, length, changed, log_u=-1.0)
            current = current.splice(cut, tail) if accepted else current
            written += lines.event(0, 0, Event(stage, stages, step, tail, current, np.arange(1, 40)))
            made.append(step)
    stats = Stats.of(made, tokens_decoded=1, tokens_prefilled=0, seconds=1.0)
    text = asyncio.run(completion_text(Numbered(), current.tokens.tolist(), ()))
    completion = Completion(current, stats, tuple(made), text)
    written.append(lines.completion(Completed.of(completion, **facts, meta={})))
    return written
