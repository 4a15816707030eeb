"""Finished stages come back exactly, and only to the build that they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.recipe import RECIPES
from quantface_export.finished import (
    FinishedStage,
    Together,
    WorkError,
    WorkFolder,
    belongs_to,
)
from quantface_export.report import PANELS, Distribution
from quantface_export.stages import STAGES


def stage(with_figure: bool) -> FinishedStage:
    rng = np.random.default_rng(3)
    ranges = {name: rng.normal(size=(5, 2)).astype(np.float32) for name in PANELS}
    figure = Distribution(layer="unet: x", **ranges, grid_ranges={"both": (-1.25, 0.1)})
    return FinishedStage(
        rows=[{"stage": "unet", "name": "x", "sqnr_db": 0.1 + 0.2, "rank": None}],
        output=rng.normal(size=(2, 3)).astype(np.float32),
        reference=[rng.normal(size=(1, n)).astype(np.float32) for n in (3, 2)],
        exact=[rng.normal(size=(1, n)) for n in (3, 2)],
        distribution=figure if with_figure else None,
    )


@pytest.mark.parametrize("with_figure", [False, True])
def test_a_stage_comes_back_exactly(tmp_path: Path, with_figure: bool) -> None:
    work, made = WorkFolder(tmp_path / "work", "a"), stage(with_figure)
    assert work.finished("unet") is None
    folder = work.begin("unet")
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "model.onnx.data").write_bytes(b"weights")
    assert work.finished("unet") is None
    work.finish("unet", made)
    found = WorkFolder(tmp_path / "work", "a").finished("unet")
    assert found is not None
    assert found.rows == made.rows
    pairs = [(found.output, made.output)]
    for name in ("reference", "exact"):
        pairs += zip(getattr(found, name), getattr(made, name), strict=True)
    for a, b in pairs:
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    if made.distribution is None:
        assert found.distribution is None
    else:
        assert found.distribution is not None
        assert tuple(found.distribution.grid_ranges["both"]) == (-1.25, 0.1)  # type: ignore[index]
        for name in PANELS:
            a, b = getattr(found.distribution, name), getattr(made.distribution, name)
            assert np.array_equal(a, b)
    work.hand_over("unet", tmp_path / "bundle")
    assert sorted(p.name for p in (tmp_path / "bundle").iterdir()) == [
        "model.onnx",
        "model.onnx.data",
    ]
    work.remove()
    assert (tmp_path / "bundle" / "model.onnx.data").read_bytes() == b"weights"
    assert not (tmp_path / "work").exists()


def test_half_a_stage_is_begun_again(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "work", "a")
    (work.begin("vre") / "model.onnx").write_bytes(b"half")
    again = WorkFolder(tmp_path / "work", "a")
    assert again.finished("vre") is None
    assert not list(again.begin("vre").iterdir())


def test_refuses_what_is_not_its_own(tmp_path: Path) -> None:
    WorkFolder(tmp_path / "work", "a")
    with pytest.raises(WorkError, match="unfinished build of another model"):
        WorkFolder(tmp_path / "work", "b")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"")
    with pytest.raises(WorkError, match="is no work folder"):
        WorkFolder(tmp_path / "photos", "a")
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_builds_are_told_apart(tmp_path: Path) -> None:
    file, images = tmp_path / "weights", np.zeros((1, 4, 4, 3), np.uint8)
    file.write_bytes(b"1")
    first = belongs_to(("w4a4",), [file], images)
    assert belongs_to(("w4a4",), [file], images) == first
    assert belongs_to(("w6a6",), [file], images) != first
    assert belongs_to(("w4a4",), [file], images + 1) != first
    file.write_bytes(b"22")
    assert belongs_to(("w4a4",), [file], images) != first


def test_training_counts_once_all_of_its_stages_are_finished(tmp_path: Path) -> None:
    """Before, it has to run again: the stages that are missing are made of it."""
    work = WorkFolder(tmp_path / "work", "a")
    made = Together(recipe=RECIPES["w4a4-mp"], training={"losses": [0.1]}, allocation=None)
    work.keep(made)
    for name in STAGES:
        assert work.kept() is None
        work.begin(name)
        work.finish(name, stage(with_figure=False))
    assert WorkFolder(tmp_path / "work", "a").kept() == made
