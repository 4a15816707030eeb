"""Pictures inside the page, lossless, within a budget."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from quantface_export.report.data import Picture

BUDGET = 2_400_000
"""Characters that all pictures together may take, so that the page stays under 3 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture's name under it, its data URI and its size in pixels."""

    name: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The pictures of one face."""

    caption: str
    psnr_db: float
    shown: list[Shown]


def encode_rows(pictures: Sequence[Picture], budget: int = BUDGET) -> list[Row]:
    """Encode faces until the budget is spent; the first one is always there."""
    rows: list[Row] = []
    for picture in pictures:
        named = {
            "before": picture.before,
            "fp32": picture.fp32,
            "quantized": picture.quantized,
            "ground truth": picture.clean,
        }
        shown = [_show(name, image) for name, image in named.items() if image is not None]
        budget -= sum(len(each.uri) for each in shown)
        if rows and budget < 0:
            break
        rows.append(Row(caption=picture.caption, psnr_db=picture.psnr_db, shown=shown))
    return rows


def _show(name: str, rgb: NDArray[np.uint8]) -> Shown:
    encoded, png = cv2.imencode(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not encoded:
        raise ValueError(f"{name} cannot be encoded as PNG, its shape is {rgb.shape}")
    text = base64.b64encode(png.tobytes()).decode("ascii")
    return Shown(
        name=name,
        uri=f"data:image/png;base64,{text}",
        width=rgb.shape[1],
        height=rgb.shape[0],
    )
