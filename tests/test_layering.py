"""Imports go one way, and what runs a bundle does not need torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS = ("onnx_ops", "calibration", "quantface_export", "mobile_demo")
"""Each package may import itself and those to its left."""

RUNS_A_BUNDLE = (
    "onnx_ops",
    "quantface_export.demo",
    "quantface_export.session",
    "quantface_export.verify",
    "quantface_export.photo.restore",
)
HEAVY = ("torch", "diffusers")


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every absolute import, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, (node.module or "").partition(".")[0]


def forbidden(source: str, package: str) -> list[tuple[int, str]]:
    """The imports of a layer above ``package``."""
    above = LAYERS[LAYERS.index(package) + 1 :]
    return [(line, name) for line, name in imported(source) if name in above]


@pytest.mark.parametrize("package", LAYERS)
def test_imports_go_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} holds no Python file"
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in files
        for line, name in forbidden(file.read_text(encoding="utf-8"), package)
    ]
    assert not wrong, "\n".join([f"allowed: {' <- '.join(LAYERS)}", *wrong])


@pytest.mark.parametrize(
    "statement",
    [
        "import quantface_export.photo",
        "import numpy, quantface_export as q",
        "from quantface_export import photo",
        "from quantface_export.photo import box",
        "def late():\n    import quantface_export",
    ],
)
def test_an_import_from_above_is_found(statement):
    assert [name for _, name in forbidden(statement, "calibration")] == ["quantface_export"]
    assert not forbidden(statement, "quantface_export")
    assert not forbidden(statement, "mobile_demo")


def test_relative_imports_stay_inside():
    assert not forbidden("from . import mobile_demo", "onnx_ops")


@pytest.mark.parametrize("module", RUNS_A_BUNDLE)
def test_running_a_bundle_does_not_import(module):
    program = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{module} cannot be imported:\n{done.stderr}"
    assert not done.stdout.split(), f"importing {module} imports {done.stdout.strip()}"
