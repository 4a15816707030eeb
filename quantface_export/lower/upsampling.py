"""Take nearest-neighbour upsampling into the convolution that follows.

Copies of a pixel are scaled, rotated and rounded alike, so its codes can be copied instead, and the
convolution can do so while it reads them.
"""

from __future__ import annotations

import onnx_ir as ir

from quantface_export.lower.pads import constant_of

_COPIES = {
    "mode": "nearest",
    "nearest_mode": "floor",
    "coordinate_transformation_mode": "asymmetric",
}


def without_upsampling(x: ir.Value) -> tuple[ir.Value, bool]:
    """What a convolution may read instead of ``x``, and whether it has to upsample that.

    Args:
        x: (N, C, H, W), the input of a convolution.

    Returns:
        The (N, C, H / 2, W / 2) whose pixels a Resize copied into squares of four; or ``x``.
    """
    resize = x.producer()
    if resize is None or (resize.domain, resize.op_type) != ("", "Resize"):
        return x, False
    image, *_, factors = resize.inputs
    attributes = resize.attributes
    if len(resize.inputs) != 3 or constant_of(factors) != [1, 1, 2, 2] or "axes" in attributes:
        return x, False
    copies = all(k in attributes and attributes[k].as_string() == v for k, v in _COPIES.items())
    return (image, True) if image is not None and copies else (x, False)
