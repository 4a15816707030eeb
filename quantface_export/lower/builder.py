"""Nodes, initializers and constants of a graph under construction."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

BALANCED: Final = "/balanced"
CLIPPED: Final = "/clipped"
"""How names of a site's input end once it is scaled, and within its grid."""


class Builder:
    """Builds nodes in order and owns the new initializers."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}

    def constant(self, name: str, array: NDArray[Any] | np.generic) -> ir.Value:
        """An initializer; asked for twice under one name it is the same one."""
        if name not in self.initializers:
            tensor = ir.Tensor(np.array(array, order="C"), name=name)
            value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype))
            value.const_value = tensor
            self.initializers[name] = value
        return self.initializers[name]

    def op(
        self,
        kind: str,
        inputs: list[ir.Value],
        name: str,
        domain: str = "",
        **attributes: int | str | list[int] | ir.TensorProtocol,
    ) -> ir.Value:
        """Append a node; its output carries its name."""
        attrs = [ir.convenience.convert_attribute(k, v) for k, v in attributes.items()]
        node = ir.Node(domain, kind, inputs, attributes=attrs, name=name)
        node.outputs[0].name = name
        self.nodes.append(node)
        return node.outputs[0]

    def half(self, name: str, array: NDArray[np.float32]) -> ir.Value:
        """A float32 constant stored as float16; the runtime folds the Cast at load."""
        stored = self.constant(name, array.astype(np.float16))
        return self.op("Cast", [stored], f"{name}_float", to=ir.DataType.FLOAT.value)


def take_place(new: ir.Value, old: ir.Value) -> None:
    """Give ``new`` the name, shape, type and readers of ``old``, which is about to be removed."""
    new.name, new.shape, new.type = old.name, old.shape, old.type
    old.name = None
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def constant_of(value: ir.Value | None) -> list[float] | None:
    """The values of a constant, flat; None of anything else."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy().reshape(-1).tolist()


def producer(value: ir.Value | None, kind: str) -> ir.Node | None:
    """The standard node that gives ``value``, if it is of this kind."""
    node = None if value is None else value.producer()
    return node if node is not None and not node.domain and node.op_type == kind else None


def clip_before(rounding: ir.Node) -> ir.Node | None:
    """The Clip to the grid before a QuantizeLinear; codes of 8 bits have none."""
    x = rounding.inputs[0]
    return producer(x, "Clip") if x is not None and str(x.name).endswith(CLIPPED) else None


def top_of(rounding: ir.Node, clip: ir.Node | None) -> int:
    """Largest code of the grid that a QuantizeLinear rounds to, after this Clip."""
    if clip is None:
        return 255
    (scale,), (zero_point,), (high,) = (
        constant_of(x) or [] for x in (*rounding.inputs[1:3], clip.inputs[2])
    )
    return int(np.rint(high / scale) + zero_point)
