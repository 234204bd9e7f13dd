"""OpenAI's client for Python of a year ago."""

import os
import subprocess
import sys
from pathlib import Path

OLDER = Path(sys.prefix) / "older-openai"
"""Where ``make venv`` puts it: it cannot be installed beside today's."""

CODE = "import sys, pytest; ended = int(pytest.main(sys.argv[1:])); import openai; print(openai.__version__, ended)"


def test_a_year_older_client():
    assert OLDER.is_dir(), f"{OLDER} is missing: make venv"
    tests = Path(__file__).with_name("test_openai.py")
    words = [sys.executable, "-c", CODE, "-p", "no:xdist", "-p", "no:cacheprovider", str(tests)]
    path = os.pathsep.join([str(OLDER), *sys.path])
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    version, ended = done.stdout.split()[-2:]
    assert ended == "0", done.stdout + done.stderr
    assert version.startswith("2.")
