"""Frechet features: the embedder's, or an Inception file's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quantface_export.errors import QuantfaceError
from quantface_export.features import load_features
from quantface_export.nano.weights import load_nano
from quantface_export.osdface.model import VreStage

IMAGES = torch.rand(9, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1


pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")


class Net(nn.Module):
    """Takes what the usual Inception file takes, and gives ``width`` features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        assert x.dtype == torch.uint8
        assert return_features
        means = x.float().mean([1, 2, 3])
        return means[:, None].repeat(1, self.width)


def saved(folder: Path, width: int) -> Path:
    path = folder / "inception.pt"
    torch.jit.script(Net(width)).save(str(path))
    return path


@pytest.fixture(scope="module")
def vre() -> VreStage:
    return load_nano().vre


def test_embedder_gives_rows_per_position_or_image(vre: VreStage) -> None:
    rows, pooled = (load_features(vre, pooled=p)(IMAGES) for p in (False, True))
    assert len(pooled) == len(IMAGES)
    assert torch.allclose(rows.reshape(len(IMAGES), -1, rows.shape[-1]).mean(1), pooled, atol=1e-5)


def test_inception_sees_bytes(vre: VreStage, tmp_path: Path) -> None:
    found = load_features(vre, saved(tmp_path, 2048), pooled=True)(IMAGES)
    pixels = ((IMAGES + 1) * 127.5).round()
    assert torch.allclose(found[:, 7], pixels.mean((1, 2, 3)), atol=1e-2)


def test_bad_files_in_one_line(vre: VreStage, tmp_path: Path) -> None:
    with pytest.raises(QuantfaceError, match="does not exist; expected TorchScript"):
        load_features(vre, tmp_path / "none.pt", pooled=True)
    (tmp_path / "bad.pt").write_bytes(b"no archive")
    with pytest.raises(QuantfaceError, match="can't be read; expected TorchScript"):
        load_features(vre, tmp_path / "bad.pt", pooled=True)
    with pytest.raises(QuantfaceError, match=r"gives features of \(8, 5\) for 8 images"):
        load_features(vre, saved(tmp_path, 5), pooled=True)(IMAGES)
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "net.pt"))
    with pytest.raises(QuantfaceError, match="does not take uint8 images"):
        load_features(vre, tmp_path / "net.pt", pooled=True)(IMAGES)
