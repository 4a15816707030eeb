"""Find faces with a YuNet network the user brings (Wu et al., 2023), through OpenCV."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from cv2.utils import logging
from numpy.typing import NDArray

from quantface_export.photo.box import Box
from quantface_export.photo.errors import DetectorError
from quantface_export.photo.framing import FFHQ_LIFT, FFHQ_MARGIN

WHERE = (
    "expected a YuNet ONNX file such as face_detection_yunet_2023mar.onnx from OpenCV's model zoo"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class YunetDetector:
    """Detector for faces of any pose.

    Attributes:
        path: The network, an ONNX file.
        working_side: Photographs with a longer side are shrunk to this many pixels.
        certain: Least score, 0..1.
    """

    path: Path
    working_side: int = 1280
    certain: float = 0.7
    _network: cv2.FaceDetectorYN = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Load the network and run it once.

        Raises:
            DetectorError: The file is missing or is not YuNet.
        """
        if not self.path.is_file():
            raise DetectorError(f"{self.path} does not exist; {WHERE}")
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        try:
            network = cv2.FaceDetectorYN.create(str(self.path), "", (64, 64), self.certain, 0.3)
            network.detect(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            raise DetectorError(f"{self.path} is not a face detector; {WHERE}") from error
        finally:
            logging.setLogLevel(level)
        object.__setattr__(self, "_network", network)

    def __call__(self, rgb: NDArray[np.uint8]) -> list[Box]:
        """Find faces in (h, w, 3) RGB; boxes in its pixels, in no order, may overlap."""
        factor = min(1.0, self.working_side / max(rgb.shape[:2]))
        small = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        self._network.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        return [] if rows is None else [_box(row.astype(float), factor) for row in rows]


def _box(row: NDArray[np.float64], factor: float) -> Box:
    """The square whose FFHQ frame YuNet's five points call for (Karras et al., 2019).

    That frame has side ``max(4 * eye to eye, 3.6 * eyes to mouth)`` and lies around
    ``eyes + 0.1 * (mouth - eyes)``, ``eyes`` and ``mouth`` being midpoints.
    """
    right_eye, left_eye, _, right_mouth, left_mouth = row[4:14].reshape(5, 2) / factor
    eyes, mouth = (right_eye + left_eye) / 2, (right_mouth + left_mouth) / 2
    frame = max(4 * np.hypot(*(left_eye - right_eye)), 3.6 * np.hypot(*(mouth - eyes)))
    side = max(1.0, frame / FFHQ_MARGIN)
    x, y = eyes + 0.1 * (mouth - eyes) - side / 2
    y += FFHQ_LIFT * side
    return Box(x=round(x), y=round(y), side=round(side), score=float(row[14]))
