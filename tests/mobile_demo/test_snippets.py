"""The README's Python, run as it stands there, without torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data

from quantface_export.bundle import load_bundle
from quantface_export.photo.crop import resize
from quantface_export.runner import Runner

README = Path(__file__).resolve().parents[2] / "mobile_demo" / "README.md"
NO_TORCH = "import sys\nsys.modules['torch'] = sys.modules['quantface_export'] = None\n"


def test_python(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    face = resize(skimage.data.astronaut()[:256, 96:352], 128, 128)
    cv2.imwrite(str(tmp_path / "face.png"), face[..., ::-1])
    (tmp_path / "bundle").symlink_to(built[0])
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH + "".join(blocks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = Runner(load_bundle(built[0])).restore_face(face)
    for name in ("restored.png", "restored-bytes.png"):
        result = cv2.imread(str(tmp_path / name))[..., ::-1]
        assert np.abs(result.astype(int) - expected).max() <= 1, name
