"""What --save-trace writes is read again as it was."""

import json

import numpy as np
import pytest

from powercut.chains import read_chains
from powercut.errors import SettingError
from powercut.samplers import SMC, BestOfN, EntropyCut, PowerSMC
from powercut.strict_json import json_line
from tests.view.recorded import WORDS, read_lines, recorded, save

CHAIN = EntropyCut(max_new_tokens=24, blocks=3, steps=6, alpha=3, refine_finished=True)


def test_a_chain_is_read_again_as_it_was():
    events, _, chains = recorded(CHAIN)
    chain = chains.by_place[0, 0]
    assert chain.prompt.tolist() == [1, 2]
    assert chain.drawn_with.settings["alpha"] == 3
    assert [each.step for each in chain.proposals] == [event.step for event in events]
    assert any(step.log_u is not None for step in (event.step for event in events) if step)
    for proposal, event in zip(chain.proposals, events, strict=True):
        found, made = proposal.drawn.trace, event.proposal
        assert (found.tokens == made.tokens).all()
        assert (found.logp == made.logp).all()
        assert (found.logq == made.logq).all()
        assert (found.entropy == made.entropy).all()
        for i, (ids, logp) in enumerate(proposal.drawn.likely):
            assert len(ids) <= 5
            assert list(logp) == sorted(logp, reverse=True)
            law = dict(zip(made.rows.ids[i].tolist(), made.rows.logp[i].tolist(), strict=True))
            assert ids[0] == max(law, key=law.get)
            assert logp == pytest.approx([law[token] for token in ids], abs=1e-4)
            assert all(value < np.log(1e-3) or token in ids for token, value in sorted(law.items()) if len(ids) < 5)
    current = None
    for proposal, event in zip(chain.proposals, events, strict=True):
        if proposal.step is None or proposal.step.accepted:
            head = [] if current is None else current[: proposal.cut]
            current = [*head, *proposal.drawn.trace.tokens.tolist()]
        assert current == event.trace.tokens.tolist()
    assert current == chain.completed.tokens.tolist()


def test_the_text_of_every_token_is_told_before_it_is_used():
    _, lines, chains = recorded(CHAIN, n=2)
    known = set()
    for line in lines:
        known |= {int(token) for token in line.get("pieces", ())}
        drawn = line.get("proposal")
        if drawn:
            assert set(drawn["tokens"]) <= known
            assert {token for ids in drawn["likely"]["tokens"] for token in ids} <= known
    assert chains.pieces == {token: WORDS[token] if token else "" for token in known}
    assert [line["kind"] for line in lines].count("prompt") == 1
    assert set(chains.by_place) == {(0, 0), (0, 1)}


@pytest.mark.parametrize(
    "sampler",
    [
        SMC(particles=6, block_size=4, max_new_tokens=16, ess_threshold=1.0),
        PowerSMC(particles=4, block_size=4, max_new_tokens=12, ramp_tokens=8, moves=2),
    ],
)
def test_particles_are_read_again_as_they_were(sampler):
    events, _, chains = recorded(sampler)
    blocks = chains.by_place[0, 0].blocks
    populations = [event.population for event in events if event.population is not None]
    assert len(blocks) == len(populations)
    before = []
    for block, population in zip(blocks, populations, strict=True):
        assert block.parents.tolist() == population.parents.tolist()
        assert list(block.log_weights) == population.log_weights.tolist()
        now = []
        for i, drawn in enumerate(block.drawn):
            old = before[block.parents[i]][: block.kept[i]] if before else []
            now.append([*old, *drawn.trace.tokens.tolist()])
        assert now == [trace.tokens.tolist() for trace in population.traces]
        before = now


def test_candidates_are_whole_texts():
    _, _, chains = recorded(BestOfN(n=3, max_new_tokens=8))
    chain = chains.by_place[0, 0]
    assert len(chain.proposals) == 3
    assert chain.completed.tokens.tolist() in [each.drawn.trace.tokens.tolist() for each in chain.proposals]


def test_older_files_can_be_read():
    _, lines, _ = recorded(CHAIN)
    old = [line for line in lines if line["kind"] not in ("run", "prompt", "pieces")]
    for line in old:
        line.pop("log_u", None)
        if "proposal" in line:
            del line["proposal"]["likely"]
    chain = read_lines(old).by_place[0, 0]
    assert chain.prompt is None
    assert chain.proposals[0].drawn.likely is None
    assert read_lines([{"kind": "of tomorrow", "x": 1}, *old]).by_place


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[]", "it is no JSON object"),
        ('{"kind": "step"}', "it has no prompt_index"),
        ('{"kind": "prompt", "prompt_index": 0, "tokens": [1.5]}', "each of tokens must be a whole number"),
        ('{"kind": "pieces", "pieces": {"a": "b"}, "special": {}}', "pieces must be named by token ids"),
        ('{"kind": "pieces", "pieces": {"1": 2}, "special": {}}', "a piece must be a text or bytes"),
        ('{"kind": "pieces", "pieces": {"1": [300]}, "special": {}}', "a piece must be a text or bytes"),
        ("{", "Expecting property name"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, line, reason):
    _, lines, _ = recorded(CHAIN)
    file = tmp_path / "chain.jsonl"
    file.write_text(json_line(lines[0]) + line + "\n" + json_line(lines[1]))
    with pytest.raises(SettingError) as error:
        read_chains(file)
    assert str(error.value).startswith(f"{file}:2 is no line that --save-trace wrote: {reason}")


def test_a_torn_last_line_is_passed_over(tmp_path):
    _, lines, _ = recorded(CHAIN)
    file = save(tmp_path / "chain.jsonl", lines[:4])
    with file.open("a") as stream:
        stream.write(json.dumps(lines[4])[:30])
    assert len(read_chains(file).by_place[0, 0].proposals) == sum("proposal" in line for line in lines[:4])
    with pytest.raises(SettingError, match="cannot be read"):
        read_chains(tmp_path / "nowhere")
