"""Take nearest-neighbour upsampling into the convolution that follows.

Copies of a pixel are scaled, rotated and rounded alike, so its codes can be copied instead, and the
convolution can do so while it reads them.
"""

from __future__ import annotations

import onnx_ir as ir

from onnx_ops.quantized_conv_body import NEAREST
from quantface_export.lower.builder import constant_of


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
    if len(resize.inputs) != 3 or constant_of(resize.inputs[2]) != [1, 1, 2, 2]:
        return x, False
    given, image = resize.attributes, resize.inputs[0]
    copies = all(k in given and given[k].as_string() == v for k, v in NEAREST.items())
    if image is None or not copies or "axes" in given:
        return x, False
    return image, True
