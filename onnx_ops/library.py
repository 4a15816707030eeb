"""The shared library with the native kernels of the ops, where it was built.

Without it, and without a C++ compiler at installation, models run on their function bodies.
``QUANTFACE_OPS_LIBRARY`` names another build of the library. Every session made while
``QUANTFACE_ISA`` is set to one of ``instruction_sets()`` computes with that instruction set.
"""

from __future__ import annotations

import ctypes
import os
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import onnx_ops

PATH_VARIABLE: Final = "QUANTFACE_OPS_LIBRARY"
ISA_VARIABLE: Final = "QUANTFACE_ISA"

_NAMES: Final = ("libquantface_ops.so", "libquantface_ops.dylib", "quantface_ops.dll")


def library_path() -> Path | None:
    """The library, or None where it was not built.

    Raises:
        FileNotFoundError: ``QUANTFACE_OPS_LIBRARY`` names a file that does not exist.
    """
    if named := os.environ.get(PATH_VARIABLE):
        if not Path(named).is_file():
            raise FileNotFoundError(f"{PATH_VARIABLE} is {named}, which is not a file")
        return Path(named)
    return next((path for path in _candidates() if path.is_file()), None)


def why_missing() -> str:
    """One line for people: why sessions compute the function bodies."""
    searched = ", ".join(dict.fromkeys(str(path.parent) for path in _candidates()))
    return (
        f"no native kernels in {searched}: the function bodies are used. Install again with a "
        "C++ compiler (GCC or Clang)"
    )


def register(options: Any) -> None:
    """Add the native ops to ``onnxruntime.SessionOptions``; they precede the function bodies.

    Raises:
        RuntimeError: the library was not built.
    """
    path = library_path()
    if path is None:
        raise RuntimeError(why_missing())
    options.register_custom_ops_library(str(path))


def instruction_sets() -> tuple[str, ...]:
    """What the library can use on this CPU, fastest first; empty without the library."""
    path = library_path()
    return () if path is None else _instruction_sets(str(path))


@cache
def _instruction_sets(path: str) -> tuple[str, ...]:
    name_of = ctypes.CDLL(path).QuantfaceInstructionSet
    name_of.argtypes, name_of.restype = [ctypes.c_int], ctypes.c_char_p
    names: list[str] = []
    while name := name_of(len(names)):
        names.append(name.decode())
    return tuple(names)


def _candidates() -> Iterator[Path]:
    # An editable install keeps the library where the package would have been installed.
    folders = [*onnx_ops.__path__, str(Path(sysconfig.get_path("platlib"), "onnx_ops"))]
    for folder in folders:
        for name in _NAMES:
            yield Path(folder, name)
