"""One real bundle of the embedded model, built once for all tests that need one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

SEED = 11


def run_command(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "quantface_export", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line: ``command("verify", bundle, cwd=...)``."""
    return run_command


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of this run of the tests (``make test`` starts two)."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def built(shared: Path) -> tuple[Path, dict[str, Any]]:
    """A W4A4 bundle of nano and what ``build --json`` said of it."""
    bundle, report = shared / "built", shared / "built.json"
    options = ["--seed", SEED, "--calib-count", 8, "--train-steps", 2, "--with-pre-post"]
    with FileLock(shared / "built.lock"):
        if not report.exists():
            done = run_command("build", *options, "--out", bundle, "--json", report)
            assert done.returncode == 0, done.stderr
    return bundle, json.loads(report.read_text())


@pytest.fixture
def copied(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return Path(shutil.copytree(built[0], tmp_path / "bundle"))
