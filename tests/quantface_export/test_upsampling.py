"""Upsampling becomes the convolution's own where it copies pixels; anything else stays a Resize."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from calibration.layers import quant_layers
from calibration.recipe import Recipe
from onnx_ops.function_body import DOMAIN
from quantface_export.contract import require_fusion
from quantface_export.layer_table import read_layers
from quantface_export.lower.expand import expand
from quantface_export.lower.export import export_markers
from quantface_export.parity import compare_stage
from quantface_export.session import fastest_variant, open_session, run

nearest = partial(interpolate, scale_factor=2.0, mode="nearest")


class Upsampled(nn.Module):
    """A convolution of an enlarged image, and what else reads that."""

    def __init__(self, enlarge: Callable[[Tensor], Tensor], shared: bool) -> None:
        super().__init__()
        self.enlarge, self.shared = enlarge, shared
        self.conv = nn.Conv2d(24, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enlarge(nn.functional.silu(x))
        y: Tensor = self.conv(x)
        return y + x.mean() if self.shared else y


@pytest.mark.parametrize("rotate", [True, False], ids=["rotated", "scaled"])
@pytest.mark.parametrize(
    ("enlarge", "shared", "taken"),
    [
        (nearest, False, True),
        (nearest, True, True),  # something else reads it too
        (partial(interpolate, scale_factor=3.0, mode="nearest"), False, False),
        (partial(interpolate, scale_factor=(2.0, 1.0), mode="nearest"), False, False),
        (partial(interpolate, scale_factor=2.0, mode="bilinear"), False, False),
    ],
    ids=["nearest", "shared", "three", "rows", "bilinear"],
)
def test_upsampling(
    enlarge: Callable[[Tensor], Tensor],
    shared: bool,
    taken: bool,
    rotate: bool,
    lower: Callable[..., ir.Model],
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    model = Upsampled(enlarge, shared).eval().requires_grad_(False)
    x = torch.randn(1, 24, 5, 6) * torch.logspace(-1, 1, 24).reshape(1, -1, 1, 1)
    recipe = Recipe(name="test", weight_bits=4, activation_bits=4, rank=2, rotate=rotate)
    graph, path = lower(model, x, recipe, tmp_path), tmp_path / "model.onnx"

    left = [node.op_type for node in graph.graph].count("Resize")
    assert left == (shared if taken else 1)
    (record,) = read_layers(path)
    assert record.upsamples == taken
    require_fusion("test", path)
    for variant in ("function", fastest_variant()):
        parity = compare_stage(path, [x.numpy()], variant=variant, optimization="all")
        assert parity.lsb_max <= 1
        assert all(layer.mismatches <= 1 for layer in parity.layers)
        (y,) = run(open_session(path, variant=variant, optimization="all"), x.numpy())
        expected = model(x).numpy()
        assert np.median(np.abs(y - expected)) <= 1e-5 * np.abs(expected).max()

    portable = export_markers(model, (x,), ["x"], "y", "portable")
    expand(portable, quant_layers(model), "portable")
    assert [node.op_type for node in portable.graph].count("Resize") == 1
    in_bodies = [{n.domain for f in m.functions.values() for n in f} for m in (graph, portable)]
    assert "com.microsoft" in in_bodies[0]
    assert in_bodies[1] <= {"", DOMAIN}
