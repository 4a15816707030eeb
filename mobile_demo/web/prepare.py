"""What the page is built with besides its sources: the face cascade and a sample photograph."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import cv2
import skimage.data

GENERATED = Path(__file__).parent / "src" / "generated"


def cascade() -> dict[str, Any]:
    """scikit-image's frontal-face cascade: window size, features (x, y, w, h) and stages.

    A stump is its feature, the leaf for a set and for an unset bit, and 256 bits in 8 words.
    """
    root = ET.parse(skimage.data.lbp_frontal_face_cascade_filename()).getroot()[0]
    return {
        "size": int(root.findtext("width", "")),
        "features": [numbers(f[0], int) for f in root.iterfind("features/_")],
        "stages": [
            {
                "threshold": float(stage.findtext("stageThreshold", "")),
                "stumps": [
                    [node[2], *numbers(stump.find("leafValues"), float), *node[3:]]
                    for stump in stage.iterfind("weakClassifiers/_")
                    for node in [numbers(stump.find("internalNodes"), int)]
                ],
            }
            for stage in root.iterfind("stages/_")
        ],
    }


def numbers(element: ET.Element | None, kind: type) -> list[Any]:
    """The numbers in an element's text."""
    return [] if element is None else [kind(word) for word in (element.text or "").split()]


def sample() -> bytes:
    """A public-domain portrait, 320 pixels wide with the detail of 112, as JPEG."""
    photo = skimage.data.astronaut()[..., ::-1]
    small = cv2.resize(photo, (112, 112), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(small, (320, 320), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", blurred, [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()


if __name__ == "__main__":
    GENERATED.mkdir(exist_ok=True)
    (GENERATED / "cascade.json").write_text(json.dumps(cascade(), separators=(",", ":")))
    (GENERATED / "sample.jpg").write_bytes(sample())
