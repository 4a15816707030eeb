"""Replace each marker by the subgraph that ONNX Runtime fuses to integer kernels.

convolution   HadamardQuantize -> QuantizedConv or a variant of it
linear        HadamardQuantize -> QuantizedLinear or a variant of it

Each is one op of the native kernels; function bodies become QLinearConv and MatMulIntegerToFloat.
A GroupNormSilu before a rotation joins it; zeros around an image become the convolution's own, and
so does upsampling before it. Where nothing is rotated, [Mul] -> [Clip] -> QuantizeLinear stand for
HadamardQuantize; they join a LayerNorm or a GEGLU before them or, for the CPU, each other.
Layers of one site share its codes. Branches read the site's input as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from calibration.layers import QuantLayer
from onnx_ops import quantized_conv, quantized_linear
from onnx_ops.function_body import DOMAIN, body_matrices
from onnx_ops.hadamard import factor
from onnx_ops.variants import with_inputs
from quantface_export.lower.builder import BALANCED, CLIPPED, Builder
from quantface_export.lower.functions import carry_functions
from quantface_export.lower.linear_prologue import join_linear_prologue
from quantface_export.lower.marker import MARKER_DOMAIN
from quantface_export.lower.packing import packed_codes
from quantface_export.lower.pads import without_pads
from quantface_export.lower.prologue import join_prologue
from quantface_export.lower.scaling import join_scaling
from quantface_export.lower.upsampling import without_upsampling
from quantface_export.settings import Profile


@dataclass(frozen=True, slots=True)
class _Codes:
    """What the layers of one site share in the graph."""

    codes: ir.Value
    scale: ir.Value
    zero_point: ir.Value


class _Expansion(Builder):
    """Builds the layers' subgraphs."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile = profile
        self.sites: dict[tuple[str, str], _Codes] = {}

    def codes(self, layer: QuantLayer, x: ir.Value) -> _Codes:
        """The site's activation, transformed and rounded to codes."""
        assert x.name is not None
        key = (layer.site, x.name)
        if key not in self.sites:
            site, grid = layer.site, layer.grid
            scale = self.constant(f"{site}/scale", np.float32(grid.scale))
            zero_point = self.constant(f"{site}/zero_point", np.uint8(grid.zero_point))
            rounded = self.rotated if layer.balance and layer.balance.block > 1 else self.scaled
            self.sites[key] = _Codes(rounded(layer, x, scale, zero_point), scale, zero_point)
        return self.sites[key]

    def rotated(
        self, layer: QuantLayer, x: ir.Value, scale: ir.Value, zero_point: ir.Value
    ) -> ir.Value:
        """Codes of ``R D x``."""
        assert layer.balance is not None
        n = layer.balance.block
        m, p = factor(n)
        d = self.constant(f"{layer.site}/d", layer.balance.d.numpy().astype(np.float32))
        return self.op(
            "HadamardQuantize",
            [x, d, scale, zero_point],
            f"{layer.site}/codes",
            DOMAIN,
            axis=layer.channel_dim,
            seed=m,
            log2=p.bit_length() - 1,
            qmin=0,
            qmax=layer.grid.top,
            **{key: ir.Tensor(matrix) for key, matrix in body_matrices(n).items()},
        )

    def scaled(
        self, layer: QuantLayer, x: ir.Value, scale: ir.Value, zero_point: ir.Value
    ) -> ir.Value:
        """Codes of ``D x``, or of ``x`` where nothing is balanced here."""
        site, grid = layer.site, layer.grid
        if layer.balance is not None:
            d = layer.balance.d.numpy().astype(np.float32)
            shaped = d[:, None, None] if layer.kind == "conv" else d
            x = self.op("Mul", [x, self.constant(f"{site}/d", shaped)], f"{site}{BALANCED}")
        if grid.bits < 8:
            step = np.float32(grid.scale)
            bounds = [
                self.constant(f"{site}/clip_{end}", step * np.float32(code - grid.zero_point))
                for end, code in (("low", 0), ("high", grid.top))
            ]
            x = self.op("Clip", [x, *bounds], f"{site}{CLIPPED}")
        return self.op("QuantizeLinear", [x, scale, zero_point], f"{site}/codes")

    def conv(self, layer: QuantLayer, x: ir.Value) -> ir.Value:
        """The convolution's subgraph; returns its float output."""
        assert layer.y_grid is not None
        x, pads = without_pads(x, layer.padding)
        upsamples = False
        if self.profile == "cpu":  # others know a Resize of floats, and maybe none of codes
            x, upsamples = without_upsampling(x)
        ops = quantized_conv.UPSAMPLE_VARIANTS if upsamples else quantized_conv.VARIANTS
        name, site, stored = layer.name, self.codes(layer, x), layer.weight
        scale = stored.scale.numpy().astype(np.float32)
        inputs = [
            site.codes,
            site.scale,
            site.zero_point,
            *packed_codes(self, layer),
            self.constant(f"{name}/weight_scale", scale),
            self.constant(f"{name}/bias", layer.integer_bias(stored).numpy().astype(np.int32)),
            self.constant(f"{name}/out_scale", np.float32(layer.y_grid.scale)),
            self.constant(f"{name}/out_zero_point", np.uint8(layer.y_grid.zero_point)),
        ]
        if stored.down is not None and stored.up is not None:
            down = self.half(f"{name}/down", layer.down(stored).numpy())
            up = self.half(f"{name}/up", stored.up.numpy()[:, :, None, None])
            inputs += [x, down, up]
        return self.op(
            with_inputs(ops, len(inputs)).name,
            inputs,
            f"{name}/y",
            DOMAIN,
            kernel_shape=list(layer.shape[2:]),
            strides=list(layer.stride),
            pads=pads,
            top=layer.grid.top,
        )

    def linear(self, layer: QuantLayer, x: ir.Value) -> ir.Value:
        """The linear layer's subgraph; returns its float output."""
        name, site, stored = layer.name, self.codes(layer, x), layer.weight
        inputs = [
            site.codes,
            site.scale,
            site.zero_point,
            *packed_codes(self, layer),
            self.constant(f"{name}/weight_scale", stored.scale.numpy().astype(np.float32)),
            self.constant(f"{name}/bias", layer.bias.numpy()),
        ]
        if stored.down is not None and stored.up is not None:
            down = self.half(f"{name}/down", layer.down(stored).numpy())
            inputs += [x, down, self.half(f"{name}/up", stored.up.numpy())]
        op = with_inputs(quantized_linear.VARIANTS, len(inputs)).name
        return self.op(op, inputs, f"{name}/y", DOMAIN, top=layer.grid.top)


def expand(model: ir.Model, layers: dict[str, QuantLayer], profile: Profile = "cpu") -> None:
    """Expand every marker of ``model`` in place.

    Args:
        model: An exported stage with markers.
        layers: The stage's fake-quantized layers by path.
        profile: What the graph is written for.

    Raises:
        ValueError: A marker names a layer that the stage does not have, or a layer has no
            marker (the exporter dropped it).
    """
    expansion, seen = _Expansion(profile), set()
    for node in list(model.graph):
        if node.domain != MARKER_DOMAIN:
            continue
        path = node.attributes["layer"].as_string()
        if path not in layers:
            raise ValueError(f"marker names layer {path}, which the stage does not have")
        layer, x = layers[path], node.inputs[0]
        assert x is not None
        y = expansion.conv(layer, x) if layer.kind == "conv" else expansion.linear(layer, x)
        y.shape, y.type = node.outputs[0].shape, node.outputs[0].type
        model.graph.insert_before(node, expansion.nodes)
        expansion.nodes = []
        node.outputs[0].replace_all_uses_with(y, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        seen.add(path)
    if missing := sorted(set(layers) - seen):
        raise ValueError(f"{len(missing)} layers vanished in the export, first {missing[0]}")
    for value in expansion.initializers.values():
        model.graph.register_initializer(value)
    model.opset_imports.pop(MARKER_DOMAIN, None)
    join_prologue(model)
    join_linear_prologue(model)
    if profile == "cpu":
        join_scaling(model)
    RemoveUnusedNodesPass()(model)  # what convolutions took in, and the bounds of joined Clips
    carry_functions(model, profile)
