"""A killed build goes on from its finished stages, with exactly what they gave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from calibration.progress import Silent
from quantface_export.finished import TENSORS, WorkError
from quantface_export.pipeline import build
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


def test_finished_stages_are_not_repeated(tmp_path: Path) -> None:
    work = tmp_path / "work"
    settings = BuildSettings(
        model="nano",
        recipe="w4a4",
        calib=None,
        calib_count=1,
        seed=3,
        out=tmp_path / "bundle",
        train_steps=0,
        work=work,
    )
    first = killed(settings, "vae_encoder: lowering to ONNX")
    assert "vre: observing activations" in first
    graph = (work / "vre" / "model.onnx").read_bytes()
    tensors = dict(np.load(work / "vre" / TENSORS))
    second = killed(settings, "unet: loading")
    assert second[:2] == [f"vre: finished before, taken from {work}", "vae_encoder: loading"]
    assert not any(text.startswith("vre: observing") for text in second)
    assert (work / "vre" / "model.onnx").read_bytes() == graph
    assert np.array_equal(dict(np.load(work / "vre" / TENSORS))["exact"], tensors["exact"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["work"]
    other = BuildSettings(
        **{name: getattr(settings, name) for name in BuildSettings.__slots__} | {"seed": 4}
    )
    with pytest.raises(WorkError, match="unfinished build of another"):
        build(other)
