"""JSON files that a person wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quantface_export.errors import QuantfaceError


def read_json(path: Path, what: str) -> Any:
    """What a file holds.

    Args:
        path: The file.
        what: What it should be, for the message.

    Raises:
        QuantfaceError: It can't be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as e:
        raise QuantfaceError(f"{what} {path} can't be read ({e.strerror})") from e
    except ValueError as e:
        raise QuantfaceError(f"{what} {path} is not JSON: {e}") from e
