"""What a user would pick instead: the float32 stages, and ONNX Runtime's own static int8."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import (
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from quantface_export.lower.export import OPSET
from quantface_export.session import open_session, run
from quantface_export.stages import STAGE_INPUTS, STAGE_OUTPUT

Values = dict[str, NDArray[np.float32]]
"""Tensors between the stages, by name."""

PREPARED = "preprocessed.onnx"


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill beside ``folder``, which takes its name once everything in it is written."""
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    yield new
    new.rename(folder)


@torch.no_grad()
def export_float(name: str, stage: nn.Module, values: Values, folder: Path) -> None:
    """``model.onnx`` of a float stage as ``torch.onnx.export`` writes it.

    Args:
        name: The stage's.
        stage: It, in evaluation mode.
        values: Its inputs, for their shapes.
        folder: Where to.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            stage,
            tuple(torch.from_numpy(values[key]) for key in STAGE_INPUTS[name]),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(STAGE_INPUTS[name]),
            output_names=[STAGE_OUTPUT[name]],
            verbose=False,
        )
    assert program is not None
    program.save(folder / "model.onnx", external_data=True)


def float_output(name: str, model: Path, values: Values) -> NDArray[np.float32]:
    """What the float stage gives for ``values``."""
    output = run(open_session(model), *(values[key] for key in STAGE_INPUTS[name]))[0]
    return output.copy()  # the result itself would keep its session's arena


class _Samples:
    """The part of ``CalibrationDataReader`` that is called."""

    def __init__(self, name: str, values: Sequence[Values]) -> None:
        self.rows = iter([{key: v[key] for key in STAGE_INPUTS[name]} for v in values])

    def get_next(self) -> Values | None:
        return next(self.rows, None)

    def __iter__(self) -> Iterator[Values]:
        return self.rows


class _LeanOptions(ort.SessionOptions):  # type: ignore[misc]
    """What lets a full-size stage be calibrated in memory that people have.

    Its ranges are computed where their tensors are, not at the end, which would keep every tensor;
    the weights have no second copy in the order of the kernels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enable_cpu_mem_arena = False
        self.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        self.add_session_config_entry("session.disable_prepacking", "1")


def prepare_for_ort(model: Path, folder: Path) -> None:
    """What ``onnxruntime.quantization`` does to a float stage before it quantizes it.

    Args:
        model: The float stage.
        folder: Where ``quantize_by_ort`` looks for it.
    """
    plain = folder / PREPARED
    quant_pre_process(
        str(model),
        str(plain),
        skip_symbolic_shape=True,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        external_data_location=f"{plain.name}.data",
    )


def quantize_by_ort(name: str, values: Sequence[Values], folder: Path) -> None:
    """``onnxruntime.quantization.quantize_static`` with its defaults for CPUs.

    uint8 activations and int8 weights, per channel, min-max ranges, QDQ, every op kind that it
    quantizes by default; 7-bit weights, as it advises for CPUs without VNNI.

    Args:
        name: The stage's.
        values: Inputs to calibrate on.
        folder: Of the stage that ``prepare_for_ort`` wrote, and of the result.
    """
    logging.getLogger().setLevel(logging.ERROR)  # it warns through the root logger
    plain = folder / PREPARED
    with patch("onnxruntime.SessionOptions", _LeanOptions):
        quantize_static(
            str(plain),
            str(folder / "model.onnx"),
            _Samples(name, values),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            calibration_providers=["CPUExecutionProvider"],
        )
    for file in folder.glob(f"{plain.name}*"):
        file.unlink()
