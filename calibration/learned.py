"""Weight scales that learn, and where activation grids do."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from calibration.layers import QuantLayer
from calibration.quantizer import LearnedGrid, weight_limits
from calibration.weights import Weight, WeightForm, trained_codes


class LearnedScale(WeightForm):
    """``codes = clamp(round(W / s))`` with a learned scale per output channel."""

    backbone: Tensor

    def __init__(self, w: Tensor, scale: Tensor, bits: int) -> None:
        super().__init__()
        self.limits = weight_limits(bits)
        self.register_buffer("backbone", w)
        self.log_scale = nn.Parameter(scale.log())

    def forward(self) -> Weight:
        scale = self.log_scale.exp()
        codes = trained_codes(self.backbone, scale, self.limits)
        return Weight(codes, scale, None, None)


def learn_grids(layers: Iterable[QuantLayer]) -> None:
    """Replace the input grid of every site that is not at an edge by one that learns."""
    learned: dict[str, LearnedGrid] = {}
    for layer in layers:
        if not layer.edge:
            grid = learned.setdefault(layer.site, LearnedGrid(layer.grid))
            del layer.x_grid
            layer.x_grid = grid
