"""ONNX Runtime's own check of a model for phones: which execution provider may help.

It optimizes the model as the converter to ``.ort`` does, looks every operator up in the lists of
NNAPI and CoreML, and counts into how many pieces the graph would be cut. It knows operators and
shapes, not speed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from onnxruntime.tools import onnx_model_utils
from onnxruntime.tools.mobile_helpers import usability_checker as checker

_CHECKS = {
    "NNAPI": checker.check_nnapi_partitions,
    "CoreML NeuralNetwork": lambda model, fixed: checker.check_coreml_partitions(
        model, fixed, "coreml_supported_neuralnetwork_ops.md"
    ),
    "CoreML MLProgram": lambda model, fixed: checker.check_coreml_partitions(
        model, fixed, "coreml_supported_mlprogram_ops.md"
    ),
}


def check_stage(model: Path) -> dict[str, Any]:
    """Check one stage.

    Returns:
        ``verdict``: ``CPU``, or the providers worth a try. ``providers``: for each, ``suitable``
        (``NO``, ``MAYBE`` or ``YES``), ``partitions`` the graph would be cut into, and ``share``
        of the nodes in them.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / model.name
        onnx_model_utils.optimize_model(model, optimized, use_external_initializers=True)
        proto = onnx_model_utils.ModelProtoWithShapeInfo(optimized).model_with_shape_info
        found = {name: check(proto, True) for name, check in _CHECKS.items()}
    providers = {
        name: {
            "suitable": info.suitability().name,
            "partitions": info.num_partitions,
            "share": info.num_supported_nodes / max(1, info.num_nodes),
        }
        for name, info in found.items()
    }
    tried = [name for name, provider in providers.items() if provider["suitable"] != "NO"]
    return {"verdict": ", ".join(tried) or "CPU", "providers": providers}
