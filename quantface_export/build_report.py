"""Gather what the report shows from a finished build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.balance import Balance, channel_scale
from calibration.layers import QuantLayer, quant_layers
from calibration.observe import Site
from calibration.quantize import SitePlan
from calibration.quantizer import grid_from_range
from onnx_ops.hadamard import signs
from quantface_export.osdface.plan import FLOAT_PARTS
from quantface_export.pixels import to_pictures
from quantface_export.quantized import QuantizedStage
from quantface_export.report import (
    Distribution,
    LayerRow,
    Picture,
    ReportData,
    SizeRow,
    write_report,
)
from quantface_export.verify import psnr_db

Image = NDArray[np.uint8]

FIGURE_4 = "unet.down_blocks.1.resnets.1.conv2"
"""The convolution that the paper's figure 4 shows, a layer of the UNet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """Pictures of the golden images.

    Attributes:
        before: (s, s, 3) uint8 each.
        clean: The ground truth, None for a user's own images.
        fp32: (N, 3, s, s) float32 in [0, 1], the float model's.
        quantized: (N, 3, s, s) float32, the reference's.
    """

    before: Sequence[Image]
    clean: Sequence[Image] | None
    fp32: NDArray[np.float32]
    quantized: NDArray[np.float32]

    def pictures(self) -> list[Picture]:
        """One row of the report for each face."""
        fp32, quantized = to_pictures(self.fp32), to_pictures(self.quantized)
        return [
            Picture(
                before=self.before[i],
                fp32=fp32[i],
                quantized=picture,
                clean=None if self.clean is None else self.clean[i],
                psnr_db=psnr_db(self.fp32[i], self.quantized[i]),
                caption=f"calibration image {i + 1}",
            )
            for i, picture in enumerate(quantized)
        ]


def figure_4(name: str, stage: QuantizedStage) -> Distribution | None:
    """Channel ranges of the paper's convolution, if the stage has it."""
    layer = quant_layers(stage.module).get(FIGURE_4) if name == "unet" else None
    if layer is None:
        return None
    return distribution(stage.sites[layer.site], stage.plans[layer.site], layer)


def distribution(site: Site, plan: SitePlan, layer: QuantLayer) -> Distribution:
    """Channel ranges of one convolution's input under the four treatments of figure 4."""
    channels = len(site.peak)
    x = site.samples(layer.name)
    sign = torch.from_numpy(signs(channels, 0))
    weight_peak = layer.weight.effective()[0].abs().amax((0, 2, 3))
    scale = 1 / plan.balance.d.abs()
    if plan.alpha is None:
        scale = channel_scale(site.peak, weight_peak, 0.5)
    panels = {
        "original": x,
        "scaled": x / scale[:, None],
        "rotated": Balance(d=sign, block=channels).activation(x, 1),
        "both": Balance(d=sign / scale, block=channels).activation(x, 1),
    }
    turned = plan.balance.block > 1
    if plan.alpha is None:
        chosen = "rotated" if turned else "original"
    else:
        chosen = "both" if turned else "scaled"
    bits = plan.grid.bits
    return Distribution(
        layer=f"unet: {layer.name}",
        **{name: _ranges(v) for name, v in panels.items()},
        grid_ranges={name: _grid(v, bits) for name, v in panels.items()},
        grid_bits=bits,
        chosen=chosen,
    )


def _ranges(x: Tensor) -> NDArray[np.float32]:
    return torch.stack([x.amin((0, 2)), x.amax((0, 2))], 1).numpy()


def _grid(x: Tensor, bits: int) -> tuple[float, float]:
    grid = grid_from_range(float(x.min()), float(x.max()), bits)
    low, high = (grid.scale * (code - grid.zero_point) for code in (0, grid.top))
    return low, high


def report(
    path: Path,
    *,
    manifest: dict[str, Any],
    distribution: Distribution | None,
    faces: Faces,
    sizes: dict[str, tuple[int, int]],
    verified: dict[str, Any],
    mobile: dict[str, Any],
) -> None:
    """Write ``report.html``."""
    rows = manifest["layers"]
    kept = (
        "stage",
        "name",
        "kind",
        "weight_bits",
        "activation_bits",
        "rank",
        "transform",
        "sqnr_db",
    )
    transforms = {(r["stage"], r["site"]): r["transform"] for r in rows}
    write_report(
        path,
        ReportData(
            model=manifest["model"],
            recipe=manifest["recipe"]["name"],
            seed=manifest["seed"],
            command=manifest["reproduce"]["command"],
            versions=manifest["versions"],
            pictures=faces.pictures(),
            distribution=distribution,
            layers=[LayerRow(**{k: row[k] for k in kept}) for row in rows],
            sizes=[
                SizeRow(stage=name, fp32_bytes=fp32, bundle_bytes=bundle)
                for name, (fp32, bundle) in sizes.items()
            ],
            verify=verified,
            mobile=mobile,
            float_parts=FLOAT_PARTS,
            training=manifest["training"],
            allocation=manifest["allocation"],
            transforms=Counter(transforms.values()),
        ),
    )
