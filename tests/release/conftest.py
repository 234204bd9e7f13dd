"""The wheel, built as a release builds it, and venvs that have nothing but what a test installs there."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TORCH = os.environ.get("TORCH", "torch==2.13.0")  # as in the Makefile, whose targets pass theirs


class Venv:
    """A fresh virtual environment."""

    def __init__(self, path, python=sys.executable):
        self.path = path
        if python == sys.executable:
            venv.create(path, with_pip=True)
        else:
            subprocess.run([python, "-m", "venv", path], check=True, timeout=300)

    def install(self, *requirements):
        command = [self.path / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, program, *arguments, **options):
        """The output of a program of the venv, which must end well; nothing of this checkout is on its path."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        options = {"cwd": self.path, "env": environment, "timeout": 1800, **options}
        done = subprocess.run([self.path / "bin" / program, *arguments], capture_output=True, text=True, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    """The folder with the sdist, and the wheel that is built from it."""
    builder = Venv(tmp_path_factory.mktemp("builder"))
    builder.install("build")
    out = tmp_path_factory.mktemp("dist")
    builder.run("python", "-m", "build", "--outdir", out, ROOT)
    return out


@pytest.fixture(scope="session")
def wheel(dist):
    [path] = dist.glob("*.whl")
    return path
