"""The page: one file that loads nothing, in which a model's text is never markup."""

import base64
import hashlib
import html
import json
import re
import zlib
from importlib.resources import files

import numpy as np
import pytest

from powercut.chains import Chains
from powercut.errors import SettingError
from powercut.samplers import SMC, BestOfN, EntropyCut, Rejection, Standard
from powercut.trace import Trace
from powercut.view.answers import last_answer
from powercut.view.page import SCRIPTS, part, script_text, view_page
from powercut.view.payload import payload, text_of
from tests.view.recorded import HOSTILE, WORDS, long_chain, read_lines, recorded

CHAIN = EntropyCut(max_new_tokens=24, blocks=3, steps=6, alpha=3, refine_finished=True)


def unpack(data):
    """Head and arrays of a payload, as front/data.js reads them."""
    whole = zlib.decompress(base64.b64decode(data))
    size = int.from_bytes(whole[:4], "little")
    head, rest = json.loads(whole[4 : 4 + size]), whole[4 + size :]
    arrays = {}
    for name, (width, start, count) in head["arrays"].items():
        planes = np.frombuffer(rest[start : start + width * count], dtype=np.uint8).reshape(width, count)
        arrays[name] = sum(planes[i].astype(np.int64) << (8 * i) for i in range(width))
    return head, arrays


def test_a_payload_has_every_text_that_the_chain_had():
    events, _, chains = recorded(CHAIN, seed=2)
    found = payload(chains, chains.by_place[0, 0])
    head, arrays = unpack(found.data)
    assert found.notes == ()
    ids = [head["tokenIds"][i] for i in arrays["ids"]]
    current = []
    for shown, event in zip(head["events"], events, strict=True):
        new = range(shown["start"], shown["start"] + shown["n"])
        tail = current[shown["cut"] : shown["cut"] + shown["shared"]] + [(i, ids[i]) for i in new]
        assert [token for _, token in tail] == event.proposal.tokens.tolist()
        if event.step is None or event.step.accepted:
            current = current[: shown["cut"]] + tail
        assert [token for _, token in current] == event.trace.tokens.tolist()
        assert shown["logp"] == pytest.approx(event.trace.logp.sum())
        assert shown["changed"] == (event.step is not None and event.step.changed_at is not None)
        kept = [i for i, _ in current]
        assert -arrays["logp"][kept] / 1000 == pytest.approx(event.trace.logp, abs=1e-3)
        assert arrays["entropy"][kept] / 1000 == pytest.approx(event.trace.entropy, abs=1e-3)
    assert [head["vocabulary"][i] for i in head["prompt"]] == [WORDS[1], WORDS[2]]
    assert {"".join(answer) for answer in head["answers"]} <= {"7", "12"}
    assert arrays["counts"].sum() == len(arrays["likelyIds"])


def test_particles_and_candidates_say_which_was_returned():
    events, _, chains = recorded(SMC(particles=5, block_size=4, max_new_tokens=12))
    head, _ = unpack(payload(chains, chains.by_place[0, 0]).data)
    last = [event.population for event in events if event.population is not None][-1]
    chosen = last.traces[head["blocks"][-1]["chosen"]].tokens.tolist()
    assert chosen == chains.by_place[0, 0].completed.tokens.tolist()
    assert [block["chosen"] for block in head["blocks"][:-1]] == [-1] * (len(head["blocks"]) - 1)
    for sampler in (BestOfN(n=4, max_new_tokens=8), Rejection(alpha=1.2, max_new_tokens=3)):
        _, _, chains = recorded(sampler)
        head, _ = unpack(payload(chains, chains.by_place[0, 0]).data)
        assert sum(one["chosen"] for one in head["candidates"]) == 1
        if isinstance(sampler, BestOfN):
            best = max(one["score"] for one in head["candidates"])
            assert next(one["score"] for one in head["candidates"] if one["chosen"]) == best


def test_no_text_of_a_model_becomes_markup():
    engine_text = [token for token, word in enumerate(WORDS) if word == HOSTILE]
    for sampler in (CHAIN, SMC(particles=4, block_size=6, max_new_tokens=12), BestOfN(n=3, max_new_tokens=12)):
        _, lines, chains = recorded(sampler)
        assert any(set(engine_text) & set(line["proposal"]["tokens"]) for line in lines if "proposal" in line)
        page = view_page(chains, f"a {HOSTILE} <!--script-->")
        assert HOSTILE not in page
        assert "onerror=" not in page.replace(html.escape(HOSTILE), "").replace("onerror=\\", "")
        assert page.count("<script") == 3
        assert page.count("</script>") == 3


def test_no_part_writes_markup():
    for name in SCRIPTS:
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
            assert word not in part(f"{name}.js"), f"{name}.js has {word}"


def test_lines_of_the_front_end_are_as_short_as_those_of_the_rest():
    for file in files("powercut.view").joinpath("front").iterdir():
        assert max(map(len, file.read_text(encoding="utf-8").splitlines())) <= 120, file.name


def test_the_page_loads_nothing():
    _, _, chains = recorded(CHAIN)
    page = view_page(chains, "chain")
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(?:link|img|iframe|object|embed|base)\b|@import|url\(", page)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    digest = base64.b64encode(hashlib.sha256(script_text().encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    for rule in ("default-src 'none'", "connect-src 'none'", "form-action 'none'", "base-uri 'none'"):
        assert rule in policy
    assert "connect-src 'self'" in html.unescape(view_page(chains, "chain", branches=True))


def test_a_long_chain_fits_into_three_megabytes():
    """3,072 tokens and 160 steps, of which every proposal was decoded to its end."""
    page = view_page(read_lines(long_chain(early=False)), "long")
    assert 300_000 < len(page) < 3_000_000


def test_what_is_not_known_is_said():
    _, lines, _ = recorded(CHAIN)
    assert payload(read := read_lines(lines[:-1]), read.by_place[0, 0]).notes[0].endswith("or was interrupted")
    bare = read_lines([line for line in lines if line["kind"] not in ("run", "prompt", "pieces", "completion")])
    notes = payload(bare, bare.by_place[0, 0]).notes
    assert any("what the chain was drawn with" in note for note in notes)
    assert any("texts of tokens are not in the file" in note for note in notes)
    with pytest.raises(SettingError, match="do not hang together"):
        view_page(read_lines([line for line in lines if line.get("stage") != 0]), "torn")
    with pytest.raises(SettingError, match="has no chains"):
        view_page(Chains(), "empty")
    with pytest.raises(SettingError, match="has no steps: write them with powercut sample --save-trace"):
        view_page(read_lines([line for line in lines if line["kind"] == "completion"]), "bare")


def test_answers():
    assert last_answer(r"so \boxed{\frac{1}{2}} and 7") == r"\frac{1}{2}"
    assert last_answer("12, or 1,234.5.") == "1,234.5"
    assert last_answer("costs 12, then") == "12"
    assert last_answer("none") is None
    _, _, chains = recorded(Standard(max_new_tokens=12), seed=3)
    head, _ = unpack(payload(chains, chains.by_place[0, 0], lambda text: len(text)).data)
    trace = chains.by_place[0, 0].proposals[0].drawn.trace
    assert isinstance(trace, Trace)
    assert head["answers"] == [str(len(text_of(trace.tokens.tolist(), chains.pieces, chains.special)))]


def test_bytes_of_characters_join_into_text():
    pieces = {1: b"\xf0\x9f", 2: b"\x98\x80", 3: " a", 4: b"\xff"}
    assert text_of([3, 1, 2, 5], pieces, set()) == " a😀"
    assert text_of([4, 3], pieces, {3}) == "\ufffd"
