"""The Hadamard op as a Python kernel, through onnxruntime-extensions: a testing variant.

It runs ``rotate`` itself inside ONNX Runtime, so a model is computed with the op's definition
in place of its function body. Importing this module registers the kernel; sessions made with
``python_session_options`` use it.
"""

from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from onnx_ops.extensions import onnxruntime_extensions
from onnx_ops.function_body import DOMAIN
from onnx_ops.hadamard import factor, rotate

_FLOAT: Final = onnxruntime_extensions.PyCustomOpDef.dt_float
_INT: Final = onnxruntime_extensions.PyCustomOpDef.dt_int64


def _hadamard(
    x: NDArray[np.float32], d: NDArray[np.float32], **attributes: int
) -> NDArray[np.float32]:
    # An exception raised in here ends the process: attributes that do not fit give NaN instead.
    if factor(d.size) != (attributes["seed"], 2 ** attributes["log2"]):
        return np.full_like(x, np.nan)
    return rotate(x, d, attributes["axis"])


# "domain::name" is how the library takes an op into a domain other than its own.
hadamard_kernel: Final[Any] = onnxruntime_extensions.onnx_op(
    op_type=f"{DOMAIN}::Hadamard",
    inputs=[_FLOAT, _FLOAT],
    outputs=[_FLOAT],
    attrs={"axis": _INT, "seed": _INT, "log2": _INT},
)(_hadamard)
"""The registered kernel; its ``body`` attribute is the function that runs."""


def python_session_options() -> onnxruntime.SessionOptions:
    """Session options under which ``Hadamard`` runs as Python.

    A registered kernel has precedence over a function body of the same name, so the model is
    used unchanged. Slow: outputs cross the boundary as Python lists.
    """
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    return options
