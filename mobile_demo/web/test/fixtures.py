"""What Python computes on photographs and a bundle's goldens, for the page's tests to equal."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from quantface_export.bundle import GOLDEN, load_bundle
from quantface_export.photo.crop import cut, frame, paste
from quantface_export.photo.detect import detect_faces
from quantface_export.pixels import to_pictures
from quantface_export.verify import needed_db

Image = NDArray[np.uint8]
SIZE = 128


def crowd(head: Image) -> Image:
    """Four faces of several sizes on gray, one of them cut by the edge of its crop."""
    photo = np.full((900, 1400, 3), (120, 130, 140), np.uint8)
    for x, y, factor in [(40, 60, 1.0), (420, 30, 1.6), (980, 300, 1.2), (150, 520, 1.3)]:
        face = cv2.resize(head, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        photo[y : y + face.shape[0], x : x + face.shape[1]] = face
    return photo


def photographs() -> dict[str, Image]:
    """A portrait, the same small and in gray, several faces, and none."""
    portrait = skimage.data.astronaut()
    gray = cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)
    return {
        "portrait": portrait,
        "large": cv2.resize(portrait, (1536, 1536), interpolation=cv2.INTER_CUBIC),
        "gray": cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB),
        "crowd": crowd(portrait[10:210, 120:330]),
        "nobody": skimage.data.coffee(),
    }


def write(folder: Path, name: str, image: Image) -> None:
    """A PNG for the browser and the bare pixels for Node."""
    cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1])
    (folder / f"{name}.rgb").write_bytes(image.tobytes())


def main(bundle_path: Path, folder: Path) -> None:
    """Write everything to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle = load_bundle(bundle_path)
    golden = np.load(bundle_path / GOLDEN)
    photos = []
    for name, photo in photographs().items():
        write(folder, name, photo)
        boxes = detect_faces(photo)
        entry = {"name": name, "height": photo.shape[0], "width": photo.shape[1]}
        photos.append(entry | {"boxes": [[b.x, b.y, b.side, b.score] for b in boxes]})
        if boxes:
            crop = frame(boxes[0])
            face = cut(photo, crop, SIZE)
            write(folder, f"{name}-cut", face)
            write(folder, f"{name}-pasted", paste(photo, 255 - face, crop))
    huge = cv2.resize(photographs()["portrait"], (7100, 7100), interpolation=cv2.INTER_LINEAR)
    cv2.imwrite(str(folder / "huge.jpg"), huge[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])
    # Goldens are whole levels, so a PNG carries them; ties of the grid decide the rest.
    faces = np.rint((golden["image"] + 1) * 127.5).astype(np.uint8)
    for i, face in enumerate(np.moveaxis(faces, 1, -1)):
        write(folder, f"golden-{i}", np.ascontiguousarray(face))
    for i, face in enumerate(to_pictures(golden["restored"])):
        write(folder, f"golden-{i}-restored", face)
    needed = needed_db(float(bundle.manifest["noise_floor_psnr_db"]))
    about = {"size": bundle.side(), "needed": needed}
    (folder / "fixtures.json").write_text(json.dumps(about | {"photos": photos}, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    main(arguments.bundle, arguments.folder)
