"""Take the zeros around an image into the convolution that follows.

The code of 0 is the zero point, which is what a quantized convolution pads with, and a rotation
leaves zeros: no one has to copy the image into a larger one first.
"""

from __future__ import annotations

import onnx_ir as ir

from quantface_export.lower.builder import constant_of

_WITH_ZEROS = [("", "Pad", inputs) for inputs in (2, 3)]  # 4: axes of its own


def without_pads(x: ir.Value, padding: tuple[int, ...]) -> tuple[ir.Value, list[int]]:
    """What a convolution may read instead of ``x``, and its pads then.

    Args:
        x: (N, C, H, W), the input of a convolution.
        padding: (vertical, horizontal) zeros that the convolution puts around it.

    Returns:
        ``x`` or, where a Pad with zeros made it, the input of that; (top, left, bottom, right).
    """
    own = [*padding, *padding]
    pad = x.producer()
    if pad is None or (pad.domain, pad.op_type, len(pad.inputs)) not in _WITH_ZEROS:
        return x, own
    image, amounts, *value = pad.inputs
    mode = pad.attributes.get("mode")
    around = constant_of(amounts)
    if (mode is not None and mode.as_string() != "constant") or image is None or around is None:
        return x, own
    spatial = len(around) == 8 and not any((*around[:2], *around[4:6])) and min(around) >= 0
    if not spatial or any(constant_of(v) != [0] for v in value):
        return x, own
    return image, [int(a + b) for a, b in zip(own, (*around[2:4], *around[6:]), strict=True)]
