"""Find the faces in a photograph, with the detector at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantface_export.photo.box import Box, suppress
from quantface_export.photo.cascade import CascadeDetector
from quantface_export.photo.yunet import YunetDetector

Detector = Callable[[NDArray[np.uint8]], list[Box]]
"""Takes (h, w, 3) RGB; returns boxes in its pixels, in any order, overlaps allowed."""


def load_detector(path: Path | None = None) -> Detector:
    """The built-in cascade, or YuNet from a file.

    Args:
        path: A YuNet ONNX file; None means the cascade, which needs no file but
            finds upright frontal faces only.

    Raises:
        DetectorError: ``path`` is missing or is not YuNet.
    """
    return CascadeDetector() if path is None else YunetDetector(path=path)


def detect_faces(rgb: NDArray[np.uint8], detector: Detector | None = None) -> list[Box]:
    """Find faces, each once.

    Args:
        rgb: (h, w, 3) RGB, 0..255.
        detector: From ``load_detector``; None means the built-in cascade.

    Returns:
        One box per face, largest first; empty if there are none.
    """
    find = load_detector() if detector is None else detector
    return suppress(find(rgb), limit=0.4)
