"""A killed build goes on from its finished stages, and gives the bytes of one that was not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from calibration.progress import Silent
from quantface_export import pipeline
from quantface_export.bundle import GOLDEN, MANIFEST, REPORT, load_bundle
from quantface_export.finished import WorkError
from quantface_export.osdface.config import MODELS, ModelConfig
from quantface_export.pipeline import build
from quantface_export.runner import Runner
from quantface_export.settings import BuildSettings

T = TypeVar("T")


class Killed(Exception):
    """What ends a build in the middle."""


class KilledAt(Silent):
    """Raises when a phase with this text begins; remembers the ones before."""

    def __init__(self, text: str) -> None:
        self.text, self.seen = text, list[str]()

    def step(self, text: str) -> None:
        self.seen.append(text)
        if text == self.text:
            raise Killed

    def track(self, items: Iterable[T], text: str, total: int | None = None) -> Iterator[T]:
        self.step(text)
        return iter(items)


def killed(settings: BuildSettings, text: str) -> list[str]:
    progress = KilledAt(text)
    with pytest.raises(Killed):
        build(settings, progress)
    return progress.seen


@pytest.fixture
def settings(
    published: Path, tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> BuildSettings:
    """A short build: of the tiny model, for any image size, verified as large ones are."""
    monkeypatch.setitem(MODELS, tiny.name, tiny)
    monkeypatch.setattr(pipeline, "LARGE", 0)
    return BuildSettings(
        model=tiny.name,
        recipe="w4a4",
        size="64x40",
        dynamic=True,
        weights=published,
        calib=None,
        calib_count=1,
        seed=3,
        out=tmp_path / "bundle",
        train_steps=0,
        keep_unstable=True,
        work=tmp_path / "work",
    )


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_finished_stages_are_not_repeated(settings: BuildSettings, tmp_path: Path) -> None:
    assert settings.work is not None
    work = settings.work
    first = killed(settings, "vae_encoder: lowering to ONNX")
    assert "vre: observing activations" in first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["work"]
    with pytest.raises(WorkError, match="unfinished build of another"):
        build(replace(settings, seed=4))
    resumed = KilledAt("never")
    build(settings, resumed)
    second = resumed.seen
    assert second[:2] == [f"vre: finished before, taken from {work}", "vae_encoder: loading"]
    assert not any(text.startswith("vre: observing") for text in second)
    again = tmp_path / "elsewhere" / "again"
    built = build(replace(settings, out=again, work=None))
    assert {case["size"] for case in built["verify"]["end_to_end"]["cases"]} == {"64x40", "40x32"}
    first, other = contents(settings.out), contents(again)
    assert {MANIFEST, REPORT, GOLDEN, "unet/model.onnx.data"} <= set(first)
    assert [name for name in first if first[name] != other[name]] == []
    assert first.keys() == other.keys()
    assert str(tmp_path).encode() not in first[MANIFEST] + first[REPORT]
    image = np.zeros((1, 3, 128, 32), np.float32)
    assert Runner(load_bundle(again))(image).shape == image.shape
