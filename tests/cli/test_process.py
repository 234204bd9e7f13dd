"""The command as a process of its own: Ctrl-C, closed pipes, exit codes, and what an import costs."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAKE = [sys.executable, "-m", "tests.cli.fake", "sample", "--max-new-tokens", "6", "--blocks", "2", "--steps", "3"]


@pytest.fixture
def start():
    """Starts the command; whatever is left of it goes at the end of the test."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, **options):
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
            process = stack.enter_context(subprocess.Popen([*FAKE, *arguments], cwd=ROOT, **pipes | options))
            stack.callback(process.kill)
            return process

        yield start


def wait_until(condition, process):
    """Until ``condition()``, or the process ends too early, which is a failure."""
    while not condition():
        assert process.poll() is None
        time.sleep(0.02)


@pytest.fixture
def prompts(tmp_path):
    """Three prompts, the second of which never ends."""
    path = tmp_path / "prompts"
    path.write_text("a\nh\nb\n")
    return path


def test_ctrl_c_keeps_what_is_finished(start, prompts, tmp_path):
    trace = tmp_path / "trace.jsonl"
    process = start("--file", str(prompts), "--quiet", "--save-trace", str(trace))
    first = process.stdout.readline()
    while (
        trace.read_text().count('"kind": "completion"') < 2
    ):  # until the third prompt is done, its text still held back
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "interrupted: 2 of 3 completions finished\n"
    ends = [event for event in map(json.loads, trace.read_text().splitlines()) if event["kind"] == "completion"]
    texts = [end["text"] for end in sorted(ends, key=lambda end: end["prompt_index"])]
    assert first + rest == f"{texts[0]}\n\n{texts[1]}\n"


def test_ctrl_c_with_json_and_an_output_file(start, prompts, tmp_path):
    output = tmp_path / "out.jsonl"
    process = start("--file", str(prompts), "--quiet", "--json", "--output", str(output))
    wait_until(lambda: output.exists() and output.read_text().count("\n") == 2, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted: 2 of 3 completions finished\n"
    assert sorted(json.loads(line)["prompt_index"] for line in output.read_text().splitlines()) == [0, 2]


@pytest.fixture(scope="module")
def interrupt():
    """Runs the command with a SIGINT after a share of the calls that it makes, 1 being all."""
    command = [sys.executable, "-m", "tests.cli.interrupted"]
    sample = ["sample", "a", "-n", "12", "--quiet", "--json", *FAKE[4:]]

    def run(call):
        return subprocess.run([*command, str(call), *sample], cwd=ROOT, capture_output=True, text=True, timeout=120)

    whole = run(0)
    assert whole.stdout.count("\n") == 12
    calls = int(whole.stderr)
    return lambda share: run(round(share * calls))


# While it imports (most of the calls), reads its arguments, samples, and ends.
@pytest.mark.parametrize("share", [0.05, 0.7, 0.85, 0.999])
def test_ctrl_c_at_any_moment_is_one_line(interrupt, share):
    run = interrupt(share)
    assert run.returncode == 130
    assert re.fullmatch(r"interrupted(: \d+ of 12 completions finished)?\n", run.stderr)
    if finished := re.search(r": (\d+) of", run.stderr):
        assert run.stdout.count("\n") >= int(finished[1])


def test_a_reader_that_goes_away_ends_it_silently(start, prompts):
    process = start("--file", str(prompts), "--quiet")
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=60)) == ("", 141)


def test_a_full_stdout_is_one_line(start):
    with Path("/dev/full").open("w") as full:
        process = start("a", "--quiet", stdout=full)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (2, "error: cannot write to stdout: No space left on device\n")


def closed(stream):
    """Runs a command with a standard stream that is closed, as ``>&-`` does in a shell."""
    code = f"import os, sys; os.close({stream}); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("stream", "arguments", "code", "message"),
    [
        (1, [*FAKE[1:], "a"], 2, "error: cannot write to stdout: it is closed\n"),
        (1, ["-m", "tests.cli.fake", "--version"], 2, "error: cannot write to stdout: it is closed\n"),
        (1, ["-m", "tests.cli.fake", "--help"], 2, "error: stdout cannot be used: not writable\n"),
        (0, FAKE[1:], 2, "error: stdin has no prompt: give one per line\n"),
        (2, [*FAKE[1:], "a"], 0, ""),
    ],
)
def test_a_closed_stream_is_one_line(stream, arguments, code, message):
    run = subprocess.run([*closed(stream), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (code, message)


def test_bad_input_exits_with_2_and_one_line(start):
    process = start("a", "--alpha", "abc")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (2, "", "error: --alpha must be a number (got 'abc')\n")


def test_a_terminal_that_lacks_a_character_is_no_error(start):
    process = start("--file", "-", "-n", "2", stdin=subprocess.PIPE, env={"PYTHONIOENCODING": "ascii"})
    _, err = process.communicate("aé\n", timeout=60)
    assert process.returncode == 0
    assert "\\xe9" in err


def test_help_loads_nothing_heavy():
    code = "import sys; from powercut.cli import main; main(['sample', '--help']); print(*sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"torch", "transformers", "scipy", "pandas"} & set(run.stderr.split())
    for flag in ("--alpha", "--beta", "--top-k", "--no-early-reject", "--stop", "--save-trace", "--json", "--raw"):
        assert flag in run.stdout


@pytest.mark.parametrize("command", [[Path(sys.executable).with_name("powercut")], [sys.executable, "-m", "powercut"]])
def test_the_installed_command_shows_its_version(command):
    run = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert re.fullmatch(r"powercut \d+\.\d+\.\d+\n", run.stdout)
