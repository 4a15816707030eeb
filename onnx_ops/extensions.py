"""onnxruntime-extensions without its converters of tokenizers.

Those import transformers and torch, which takes 8 to 14 seconds. Where one of the two is not
installed the package does without, so neither is to be found while it is imported.
"""

import importlib
import sys
from typing import Any, Final


def _imported() -> Any:
    hidden = [name for name in ("transformers", "torch") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        return importlib.import_module("onnxruntime_extensions")
    finally:
        for name in hidden:
            del sys.modules[name]


onnxruntime_extensions: Final = _imported()
"""The package."""
