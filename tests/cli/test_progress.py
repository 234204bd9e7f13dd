"""The live display, drawn on a terminal that is a string."""

import io

import numpy as np
from rich.console import Console

from powercut.cli.output import InOrder
from powercut.cli.progress import Progress, figures
from powercut.engines.protocol import Usage
from powercut.trace import Completion, Event, Stats, Step, Trace


def make_trace(length):
    return Trace(np.zeros(length), *(np.full((3, length), -0.5)))


def make_console():
    return Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)


def drawn(progress):
    console = make_console()
    console.print(progress)
    return console.file.getvalue()


def test_a_chain_is_shown_where_it_stands_until_it_ends():
    usage = Usage()
    progress = Progress(make_console(), usage, total=3, steps_per_stage=4)
    assert "0/3 completions" in drawn(progress)
    usage.decoded = 1234
    step = Step(stage=1, cut=2, log_accept=0.0, accepted=True, early=False, tokens_decoded=3)
    progress.observe(0, 1, Event(0, 5, None, make_trace(4), make_trace(4)))
    progress.observe(0, 1, Event(1, 5, step, make_trace(3), make_trace(8)))
    text = drawn(progress)
    assert "1,234 tokens decoded" in text
    assert text.splitlines()[-1].split() == ["0", "1", "2/5", "1/4", "100%", "0%", "8"]
    progress.finish(0, 1)
    text = drawn(progress)
    assert "1/3 completions" in text
    assert "2/5" not in text


def test_many_chains_do_not_fill_the_screen():
    progress = Progress(make_console(), Usage(), total=40, steps_per_stage=None)
    for j in range(40):
        progress.observe(0, j, Event(0, 1, None, make_trace(1), make_trace(1)))
    assert len(drawn(progress).splitlines()) == 11
    assert "and 32 more" in drawn(progress)


def test_the_display_makes_way():
    console = make_console()
    with Progress(console, Usage(), 1, 1) as progress, progress.aside():
        console.print("a text")
    assert "a text" in console.file.getvalue()


def test_without_a_terminal_there_is_a_line_now_and_then():
    console = Console(file=io.StringIO(), force_terminal=False)
    for every in (0, 3600):
        progress = Progress(console, Usage(), total=1, steps_per_stage=4, every=every)
        with progress, progress.aside():
            progress.observe(0, 0, Event(1, 5, None, make_trace(4), make_trace(4)))
    [line] = console.file.getvalue().splitlines()
    assert line.startswith("0/1 completions · 0 tokens decoded")
    assert line.endswith("prompt 0, sample 0: stage 2/5, step 0/4, acceptance –, changed –, length 4")


def test_figures_say_what_is_known():
    stats = Stats(steps=23, acceptance=10 / 23, changed=2 / 23, tokens_decoded=1834, tokens_prefilled=0, seconds=12.06)
    assert figures(Completion(make_trace(4), stats)) == (
        "log-probability -2.00 · of 23 steps 43% accepted, 9% changed the text · 1,834 tokens decoded, 4 kept · 12.1 s"
        " · cut off at max-new-tokens"
    )
    plain = Stats(steps=0, acceptance=None, changed=None, tokens_decoded=1, tokens_prefilled=0, seconds=0)
    assert "accepted" not in figures(Completion(make_trace(1), plain))


def test_completions_are_shown_in_order_and_gaps_are_passed_over_at_the_end():
    def make(i):
        return Completion(make_trace(1), Stats(0, None, None, 1, 0, 0.0), prompt_index=i)

    shown = []
    in_order = InOrder(lambda c: shown.append(c.prompt_index), [(i, 0) for i in range(5)])
    in_order.add((1, 0), make(1))
    assert shown == []
    in_order.add((0, 0), None)
    assert shown == [1]
    in_order.add((4, 0), make(4))
    in_order.add((3, 0), make(3))
    assert shown == [1]
    in_order.close()
    assert shown == [1, 3, 4]


def test_figures_of_samplers_that_weigh_and_choose():
    cost = {"steps": 0, "acceptance": None, "changed": None, "tokens_decoded": 9, "tokens_prefilled": 0, "seconds": 1.0}
    assert "log-probability -1.00 · log Z -12.35 · 9 tokens" in figures(
        Completion(make_trace(2), Stats(**cost, log_z=-12.345))
    )
    assert " · best of 3 · " in figures(Completion(make_trace(2), Stats(**cost, candidates=3)))


def test_a_sampler_without_steps_has_no_columns_for_them():
    progress = Progress(make_console(), Usage(), total=1, steps_per_stage=None)
    progress.observe(0, 0, Event(1, 4, None, make_trace(4), make_trace(8)))
    header, row = drawn(progress).splitlines()[-2:]
    assert header.split() == ["prompt", "sample", "stage", "length"]
    assert row.split() == ["0", "0", "2/4", "8"]
