"""A bundle in ONNX Runtime's own format, for reduced builds of it that read nothing else.

With the op library registered while a stage is converted, its Hadamard ops stay nodes, and the app
registers the library too. Without it the function bodies are written into the graph for good.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.tools.convert_onnx_models_to_ort import (
    OptimizationStyle,
    convert_onnx_models_to_ort,
)
from onnxruntime.tools.ort_format_model import create_config_from_models

from calibration.progress import SILENT, Progress
from onnx_ops.function_body import DOMAIN
from onnx_ops.library import library_path, why_missing
from quantface_export.bundle import Bundle, sha256
from quantface_export.errors import QuantfaceError
from quantface_export.phone.download import download_plan
from quantface_export.phone.usability import check_stage
from quantface_export.stages import STAGES

CONFIG = "required_operators.config"
PLAN = "package.json"


def package(
    bundle: Bundle, out: Path, *, native: bool, progress: Progress = SILENT
) -> dict[str, Any]:
    """Convert every stage and write what an app and a reduced build need.

    Args:
        bundle: What is converted.
        out: A new or empty folder. Gets ``STAGE/model.ort``, ``required_operators.config`` for
            ONNX Runtime's ``build.py --include_ops_by_config``, and ``package.json``.
        native: Keep the Hadamard ops as nodes of the op library.
        progress: Told of each stage.

    Returns:
        What ``package.json`` holds: ``op_library``, whether it has to be registered; ``download``,
        see :func:`download_plan`; ``files`` with hash and bytes; ``usability`` by stage.

    Raises:
        QuantfaceError: ``out`` holds something, or there is no library and ``native`` is asked for.
    """
    library = library_path() if native else None
    if native and library is None:
        raise QuantfaceError(f"{why_missing()}, or give --function-bodies")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise QuantfaceError(f"{out} exists and is not empty; choose another --out")
    logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)
    models = {name: out / name / "model.ort" for name in STAGES}
    usability = {}
    for name, model in progress.track(list(models.items()), "converting"):
        model.parent.mkdir(parents=True)
        _convert(bundle.stage(name), model, library)
        usability[name] = check_stage(bundle.stage(name))
    create_config_from_models(models.values(), out / CONFIG, False)
    _without_own_ops(out / CONFIG)
    result = {
        "op_library": native,
        "download": download_plan(out),
        "files": {
            f"{name}/model.ort": {"sha256": sha256(model), "bytes": model.stat().st_size}
            for name, model in models.items()
        },
        "usability": usability,
    }
    (out / PLAN).write_text(json.dumps(result, indent=1) + "\n")
    return result


def _convert(model: Path, target: Path, library: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        copy = Path(folder) / "int8" / model.name
        copy.parent.mkdir()
        onnx.save(_with_int8_weights(onnx.load(model, load_external_data=False)), copy)
        data = model.with_name(model.name + ".data")
        if data.exists():
            shutil.copyfile(data, copy.with_name(data.name))
        convert_onnx_models_to_ort(
            copy,
            output_dir=Path(folder),
            optimization_styles=[OptimizationStyle.Fixed],
            custom_op_library_path=library,
            target_platform="arm",
        )
        shutil.move(Path(folder) / target.name, target)


def _with_int8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The format knows no INT4: layers read a Cast, which the converter folds."""
    graph, nodes = model.graph, []
    int4 = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.INT4}
    for node in graph.node:
        if node.domain == DOMAIN and (found := int4.intersection(node.input)):
            (weight,) = found
            cast = onnx.helper.make_node(
                "Cast", [weight], [f"{weight}_int8"], to=onnx.TensorProto.INT8
            )
            node.input[list(node.input).index(weight)] = cast.output[0]
            nodes.append(cast)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _without_own_ops(config: Path) -> None:
    """ONNX Runtime's build knows no kernel of ours; and no path of this machine belongs there."""
    kept = [
        line for line in config.read_text().splitlines() if not line.startswith(("#", f"{DOMAIN};"))
    ]
    config.write_text("\n".join(kept) + "\n")
