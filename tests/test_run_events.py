"""Many prompts at once: what an observer sees."""

import dataclasses
import itertools

import pytest

import powercut as pc
from tests.watched import SAMPLER, Watched, each_sampler, place


@each_sampler
@pytest.mark.parametrize("concurrency", [1, 64])
def test_events_retell_each_chain(sampler, concurrency):
    events = {}

    def observe(i, j, event):
        events.setdefault((i, j), []).append(event)

    engine = Watched(concurrency)
    completions = pc.sample(engine, sampler, [[1], [3]], n=3, seed=1, observe=observe)
    horizons = getattr(sampler, "horizons", (sampler.max_new_tokens,))
    assert set(events) == {place(c) for c in completions}
    for completion in completions:
        seen = events[place(completion)]
        current = pc.Trace.empty()
        for event in seen:
            assert event.stages == len(horizons)
            assert len(event.trace) <= horizons[event.stage]
            assert event.trace.finished or len(event.trace) == horizons[event.stage]
            if event.step is None:
                current = current.splice(len(current), event.proposal)
            else:
                assert event.step.stage == event.stage
                assert 0 <= event.step.tokens_decoded <= len(event.proposal) > 0  # some of it was known
                if event.step.accepted:
                    current = current.splice(event.step.cut, event.proposal)
            assert event.trace == current
        assert current == completion.trace
        assert tuple(e.step for e in seen if e.step) == completion.steps
        assert [e.stage for e in seen] == sorted(e.stage for e in seen)
        decoded = sum(len(e.proposal) if e.step is None else e.step.tokens_decoded for e in seen)
        assert decoded == completion.stats.tokens_decoded
        openings = [e.stage for e in seen if e.step is None]
        assert openings == list(range(len(openings)))
        assert seen[0].step is None


def test_every_stage_has_all_its_steps_when_finished_completions_are_refined():
    counts = {}

    def observe(i, j, event):
        key = j, event.stage, event.step is not None
        counts[key] = counts.get(key, 0) + 1

    sampler = dataclasses.replace(SAMPLER, skip_repeats=False)  # so that null steps are made too
    completions = pc.sample(Watched(), sampler, [[1]], n=8, observe=observe)
    assert {c.stats.steps for c in completions} == {SAMPLER.steps * 2}
    for j, stage in itertools.product(range(8), range(2)):
        assert counts[j, stage, True] == SAMPLER.steps


def test_a_chain_that_is_finished_at_the_end_of_a_stage_stops_there():
    sampler = pc.EntropyCut(alpha=2, steps=2, blocks=3, max_new_tokens=6, skip_repeats=False)
    stages = []
    for c in pc.sample(Watched(), sampler, [[1]], n=30):
        last = c.steps[-1].stage
        assert c.stats.steps == 2 * (last + 1)
        assert c.finished or last == 2
        stages.append(last)
    assert set(stages) == {0, 1, 2}
