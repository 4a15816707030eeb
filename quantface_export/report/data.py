"""What the report shows, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

PANELS = ("original", "scaled", "rotated", "both")
"""The panels of the paper's figure 4, fields of :class:`Distribution`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """One face through the float and the quantized model.

    Attributes:
        before: (h, w, 3) RGB, the degraded input.
        fp32: (h, w, 3), restored by the float model.
        quantized: (h, w, 3), restored by the quantized model.
        clean: (h, w, 3), the ground truth; None if there is none.
        psnr_db: PSNR of ``quantized`` against ``fp32``; infinite if they are equal.
        caption: What the picture is.

    Raises:
        ValueError: A picture is not (h, w, 3) uint8.
    """

    before: NDArray[np.uint8]
    fp32: NDArray[np.uint8]
    quantized: NDArray[np.uint8]
    clean: NDArray[np.uint8] | None = None
    psnr_db: float
    caption: str

    def __post_init__(self) -> None:
        for name in ("before", "fp32", "quantized", "clean"):
            image = getattr(self, name)
            if image is None and name == "clean":
                continue
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"{name} must be (h, w, 3) uint8, got {image.shape} {image.dtype}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distribution:
    """Input ranges of one convolution along its channels, as in the paper's figure 4.

    Attributes:
        layer: The convolution's stage and path.
        original: (C, 2) float32: smallest and largest value of each channel as it comes.
        scaled: (C, 2), divided by the channel scales of eq. 8.
        rotated: (C, 2), after the randomized Hadamard transform alone.
        both: (C, 2), after rotation-scaling.
        grid_ranges: Smallest and largest value that the grid holds, by panel's name;
            None leaves the band out.
        grid_bits: Width of that grid.
        chosen: The panel of what is exported.

    Raises:
        ValueError: A panel is not (C, 2) or has no channels or values that are not finite,
            or ``grid_ranges`` or ``chosen`` names another panel.
    """

    layer: str
    original: NDArray[np.float32]
    scaled: NDArray[np.float32]
    rotated: NDArray[np.float32]
    both: NDArray[np.float32]
    grid_ranges: Mapping[str, tuple[float, float]] | None = None
    grid_bits: int = 4
    chosen: str = "both"

    def __post_init__(self) -> None:
        for name in PANELS:
            ranges = getattr(self, name)
            if ranges.ndim != 2 or ranges.shape[1] != 2 or not len(ranges):
                raise ValueError(f"{name} must be (C, 2) with C >= 1, got {ranges.shape}")
            if not np.isfinite(ranges).all():
                raise ValueError(f"{name} holds values that are not finite")
        unknown = {self.chosen, *(self.grid_ranges or ())} - set(PANELS)
        if unknown:
            raise ValueError(f"there is no panel {sorted(unknown)}, expected some of {PANELS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One quantized layer.

    Attributes:
        stage: The stage it belongs to.
        name: Its path in the stage.
        kind: ``conv`` or ``linear``.
        weight_bits, activation_bits: Widths of its grids.
        rank: Rank of its low-rank branch; 0 without one.
        transform: ``online``, ``folded into norm``, ``folded into value rows`` or ``none``.
        sqnr_db: Signal to quantization noise of its output.
    """

    stage: str
    name: str
    kind: Literal["conv", "linear"]
    weight_bits: int
    activation_bits: int
    rank: int
    transform: str
    sqnr_db: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRow:
    """Bytes of one stage, as float32 and in the bundle."""

    stage: str
    fp32_bytes: int
    bundle_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportData:
    """Everything on the page. Parts that are empty or None are left out.

    Attributes:
        model: Name of the model.
        recipe: Name of the recipe.
        seed: Seed of the build.
        command: The command line that makes the same bundle; words in capitals are paths.
        versions: Version by package.
        pictures: Faces before and after.
        distribution: One convolution's input ranges.
        layers: Quantized layers, in the order in which they run.
        sizes: Bytes by stage, in the order in which the stages run.
        verify: What :func:`quantface_export.verify.verify` returned.
        mobile: What :func:`quantface_export.phone.usability.check_stage` says of each stage.
        float_parts: What stays in float, and why.
        training: What the manifest says of the training.
        allocation: What the manifest says of the allocation of bits.
        transforms: Number of channel transforms by kind: ``online`` and the folded ones.
    """

    model: str
    recipe: str
    seed: int
    command: str
    versions: Mapping[str, str] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    distribution: Distribution | None = None
    layers: Sequence[LayerRow] = ()
    sizes: Sequence[SizeRow] = ()
    verify: Mapping[str, Any] | None = None
    mobile: Mapping[str, Any] = field(default_factory=dict)
    float_parts: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] | None = None
    allocation: Mapping[str, Any] | None = None
    transforms: Mapping[str, int] = field(default_factory=dict)
