"""Quantization methods: the paper's own and those it compares with, on one model and lowering."""

from __future__ import annotations

from calibration.methods import efficientdm, maxmin, passionsr, q_diffusion, quantface, svdquant
from calibration.methods.method import Method

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (maxmin, q_diffusion, efficientdm, passionsr, svdquant, quantface)
}
"""Methods by name, in the order of the paper's Table 1."""
