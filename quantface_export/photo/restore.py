"""Restore the faces of one photograph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantface_export.photo.box import Box
from quantface_export.photo.crop import Crop, cut, frame, paste, resize
from quantface_export.photo.detect import Detector, detect_faces
from quantface_export.photo.errors import NoFaceError

RestoreFace = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Takes one aligned face crop, (s, s, 3) RGB, and returns it restored, same shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A restored photograph.

    Attributes:
        image: (h, w, 3) RGB.
        faces: How many faces were restored.
        boxes: Where they were found, largest first; empty for an aligned input.
    """

    image: NDArray[np.uint8]
    faces: int
    boxes: tuple[Box, ...]


def restore_photo(
    rgb: NDArray[np.uint8],
    restore_face: RestoreFace,
    size: int,
    *,
    aligned: bool = False,
    detector: Detector | None = None,
) -> Restored:
    """Restore every face in a photograph, or a photograph that is one face crop.

    Args:
        rgb: (h, w, 3) RGB, 0..255; not changed.
        restore_face: The model.
        size: The model's side s, pixels.
        aligned: Take the whole picture as one face crop. One that is not square is
            mirrored out to a square for the model and cut back afterwards. The result
            keeps the picture's aspect; its longer side is the picture's own or
            ``size``, whichever is larger, so that nothing restored is thrown away.
        detector: From ``load_detector``; None means the built-in cascade. Not used
            with ``aligned``.

    Returns:
        The photograph with its faces restored: of the input's size unless ``aligned``,
        and unchanged to the bit away from faces.

    Raises:
        NoFaceError: No face was found.
        ValueError: ``restore_face`` returned another shape or dtype than it was given.
    """
    if aligned:
        return Restored(image=_restore_aligned(rgb, restore_face, size), faces=1, boxes=())
    boxes = tuple(detect_faces(rgb, detector))
    if not boxes:
        raise NoFaceError(
            "has no face that could be found, expected at least one: give --aligned if the "
            "picture is a face crop already, or --detector with a YuNet model to look harder"
        )
    image = rgb
    for box in boxes:
        crop = frame(box)
        image = paste(image, _checked(restore_face, cut(rgb, crop, size)), crop)
    return Restored(image=image, faces=len(boxes), boxes=boxes)


def _restore_aligned(
    rgb: NDArray[np.uint8], restore_face: RestoreFace, size: int
) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    longer = max(height, width)
    square = Crop(x=(width - longer) // 2, y=(height - longer) // 2, side=longer)
    restored = _checked(restore_face, cut(rgb, square, size))
    side = max(longer, size)
    whole = resize(restored, side, side)
    rows, columns = round(height * side / longer), round(width * side / longer)
    top, left = (side - rows + 1) // 2, (side - columns + 1) // 2
    return whole[top : top + rows, left : left + columns].copy()


def _checked(restore_face: RestoreFace, crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    restored = restore_face(crop)
    if restored.shape != crop.shape or restored.dtype != np.uint8:
        raise ValueError(
            f"restore_face returned {restored.shape} {restored.dtype}, expected {crop.shape} uint8"
        )
    return restored
