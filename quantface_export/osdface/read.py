"""Read tensors from files without copying them: they stay mapped from disk until used.

Keys and shapes come from a file's header alone. Pickles are opened with ``weights_only=True``
only.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from quantface_export.osdface.errors import CheckpointError

State = dict[str, Tensor]


def read_state(paths: Iterable[Path]) -> State:
    """The tensors of one file or of all shards, ``.safetensors`` or pickles.

    Raises:
        CheckpointError: A file can't be read, or is a pickle that needs code to run.
    """
    state: State = {}
    for path in paths:
        state |= _safetensors(path) if path.suffix == ".safetensors" else _pickle(path)
    return state


def read_metadata(path: Path) -> dict[str, str]:
    """The text that a safetensors file carries beside its tensors.

    Raises:
        CheckpointError: The file can't be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as e:
        raise _damaged(path, e) from e


def _safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as e:
        raise _damaged(path, e) from e


def _pickle(path: Path) -> State:
    try:
        loaded = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as e:
        raise _needs_more(path, e) from e
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as e:
        raise _damaged(path, e) from e
    inner = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(inner, dict):
        raise CheckpointError(
            f"{path} holds a {type(inner).__name__}, expected a dict of tensors; is it another "
            "model's file?"
        )
    return {k: v for k, v in inner.items() if isinstance(v, Tensor)}


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CheckpointError(
        f"{path} can't be read ({reason}): it is truncated or damaged; download it again"
    )


def _needs_more(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    """What is refused, by name if torch says it, and how to get at the tensors all the same."""
    named = re.search(r"GLOBAL (\S+)", str(error))
    what = f"holds more than tensors ({named[1]})" if named else "is damaged or no torch file"
    return CheckpointError(
        f"{path} {what} and is not opened, for safety; if you trust where it comes from, save "
        f"its tensors alone: python -c \"import torch; d = torch.load('{path}', "
        f"weights_only=False); torch.save({{'state_dict': d.get('state_dict', d)}}, '{path}')\""
    )
