"""Imports point down only, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import powercut

ROOT = Path(powercut.__file__).parent
LAYERS = [
    {"trace", "errors"},
    {"prompt"},
    {"text"},
    {"cuts", "diagnostics", "resampling", "stage_log", "target"},
    {"strict_json", "versions"},
    {"durable", "locking", "records"},
    {"step_lines"},
    {"chains"},
    {"models"},
    {"engines"},
    {"samplers"},
    {"agreement", "run", "run_options"},
    {"verify"},
    {"integrations"},
    {"evals"},
    {"report", "view"},
    {"server"},
    {"study"},
    {"cli"},
    {"__main__"},
]
"""From the bottom up. A module may import those of its own layer and below."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(ROOT.rglob("*.py"))


def module_name(path):
    parts = ("powercut", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in FILES}


def imported(path):
    """Every module of powercut that a file imports, inside functions too: ``powercut.x.y``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: a relative import"
            # ``from powercut.engines import protocol`` imports powercut.engines.protocol
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in full}
    return {name for name in found if name.split(".")[0] == "powercut"}


def layer(module):
    """The name in LAYERS; None for the package itself."""
    return module.split(".")[1] if "." in module else None


each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def test_every_module_has_a_layer():
    names = {layer(module) for module in MODULES} - {None}
    assert names == set(LEVEL)


@each_file
def test_imports_point_down(path):
    module = module_name(path)
    if module == "powercut":  # gathers what is public, and is imported by the entry points only
        assert LEVEL["cli"] not in {LEVEL[layer(name)] for name in imported(path)}
        return
    for name in imported(path):
        if name == "powercut":
            assert layer(module) == "cli", f"{module} imports the package that imports it"
        else:
            assert LEVEL[layer(name)] <= LEVEL[layer(module)], f"{module} imports {name}"


@each_file
def test_samplers_know_engines_by_their_protocol_only(path):
    if layer(module_name(path)) != "samplers":
        return
    engines = {name for name in imported(path) if layer(name) == "engines"}
    assert engines <= {"powercut.engines.protocol"}


def test_the_walk_sees_imports():
    """The checks above are not empty."""
    assert "powercut.engines.transformers" in imported(ROOT / "engines" / "__init__.py")  # inside a function
    assert imported(ROOT / "samplers" / "kernel.py") >= {"powercut.cuts", "powercut.target", "powercut.samplers.draw"}
    assert len(FILES) > 20


@pytest.mark.parametrize(
    "module",
    [
        "powercut",
        "powercut.cli",
        "powercut.models.loading",
        "powercut.samplers",
        "powercut.evals.tasks.arithmetic",
        "powercut.evals.tasks",
    ],
)
def test_importing_is_light(module):
    code = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    heavy = {"torch", "transformers", "huggingface_hub", "tokenizers", "scipy", "matplotlib", "jinja2", "inspect_ai"}
    assert not loaded & heavy
