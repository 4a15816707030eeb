"""The four ops of a kind of quantized layer: with a branch or without, weights whole or in planes.

Weights of up to 4 bits are INT4, of 7 and 8 bits int8. Of 5 and 6 bits they are two tensors of
4-bit numbers, 6 bits a weight: the high bits, and the low two of two filters in one number.

``weight[f] = 4 high[f] XOR low[f]`` for the first half of the filters, and
``weight[f] = 4 high[f] XOR (low[f - F / 2] >> 2)`` for the second, both with the sign of ``high``.
The XOR takes out of ``high`` what the first half should not see of ``low``, so that no op has to
mask it: each op of a function body is one more copy of all weights while a session starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray

Row = tuple[str, str, str]
"""Name, type and meaning of an input."""

WEIGHT: Final = "weight"
WEIGHT_LOW: Final = "weight_low"

_WHOLE_BODY: Final = "weight_int8 = Cast <to: int = 3> (weight)"
_PLANES_BODY: Final = """two = Constant <value: tensor = uint8 {2}> ()
  high = Cast <to: int = 2> (weight)
  high_bits = BitShift <direction: string = "LEFT"> (high, two)
  low_first = Cast <to: int = 2> (weight_low)
  low_second = BitShift <direction: string = "RIGHT"> (low_first, two)
  low_bits = Concat <axis: int = 0> (low_first, low_second)
  bits = BitwiseXor (high_bits, low_bits)
  weight_int8 = Cast <to: int = 3> (bits)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One of the four ops.

    Attributes:
        plain: Name of the op without a branch.
        common: Inputs of both.
        branch: Inputs of the branch; none without one.
        planes: Whether ``WEIGHT_LOW`` is among the inputs.
    """

    plain: str
    common: tuple[Row, ...]
    branch: tuple[Row, ...]
    planes: bool

    @property
    def name(self) -> str:
        """Name of the op."""
        return f"{self.plain}LowRank" if self.branch else self.plain

    @property
    def inputs(self) -> tuple[Row, ...]:
        """All inputs in their order."""
        return self.common + self.branch

    @property
    def input_names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(name for name, _, _ in self.inputs)

    @property
    def weight_types(self) -> tuple[str, ...]:
        """What ``WEIGHT`` may be."""
        return ("tensor(int4)",) if self.planes else ("tensor(int4)", "tensor(int8)")


def variants(kind: str, common: Sequence[Row], branch: Sequence[Row]) -> tuple[Variant, ...]:
    """The ops ``kind``, ``kindW6``, ``kindLowRank`` and ``kindW6LowRank``.

    Args:
        kind: Name of the op with whole weights and without a branch.
        common: Inputs of every op, ``WEIGHT`` among them.
        branch: Inputs of the ops with a branch, which follow.
    """
    low = (WEIGHT_LOW, "tensor(uint4)", "(F / 2, ...), bits 0 and 1 of two filters' weights")
    after = 1 + [name for name, _, _ in common].index(WEIGHT)
    with_low = (*common[:after], low, *common[after:])
    return tuple(
        Variant(
            plain=f"{kind}W6" if planes else kind,
            common=tuple(with_low if planes else common),
            branch=tuple(branch) if low_rank else (),
            planes=planes,
        )
        for low_rank in (False, True)
        for planes in (False, True)
    )


def with_inputs(ops: Sequence[Variant], count: int) -> Variant:
    """The one of ``ops`` that has ``count`` inputs.

    Raises:
        ValueError: None has.
    """
    by_count = {len(op.inputs): op for op in ops}
    if count not in by_count:
        *some, last = sorted(by_count)
        raise ValueError(f"need {', '.join(map(str, some))} or {last} inputs, got {count}")
    return by_count[count]


def bodies(
    ops: Sequence[Variant], template: str, plain_end: str, branch_end: str
) -> tuple[onnx.FunctionProto, ...]:
    """Function bodies of ``ops``, for ``ModelProto.functions``.

    Args:
        ops: The four variants.
        template: The body, with four places: name, inputs, the lines that make ``weight_int8``, and
            the end.
        plain_end: Last lines without a branch.
        branch_end: Last lines with a branch.
    """

    def body(op: Variant) -> onnx.FunctionProto:
        weight = _PLANES_BODY if op.planes else _WHOLE_BODY
        end = branch_end if op.branch else plain_end
        text = template % (op.name, ", ".join(op.input_names), weight, end)
        return onnx.parser.parse_function(text)

    return tuple(map(body, ops))


def dims(value: onnx.TypeProto | None) -> list[int | str | None]:
    """Sizes and symbols of a tensor; none at all if its shape is not known."""
    if value is None or not value.tensor_type.HasField("shape"):
        return []
    return [
        d.dim_value if d.HasField("dim_value") else d.dim_param or None
        for d in value.tensor_type.shape.dim
    ]


def weight_tensors(weight: NDArray[np.int8], bits: int) -> dict[str, NDArray[Any]]:
    """Weights as their ops take them, by name of the input.

    Args:
        weight: (F, ...) codes.
        bits: Their width. An odd number of filters of 5 or 6 bits has no planes, and stays int8.
    """
    if bits <= 4:
        return {WEIGHT: weight.astype(ml_dtypes.int4)}
    if bits > 6 or len(weight) % 2:
        return {WEIGHT: weight}
    high, low = split_planes(weight)
    return {WEIGHT: high.astype(ml_dtypes.int4), WEIGHT_LOW: low.astype(ml_dtypes.uint4)}


def split_planes(weight: NDArray[np.int8]) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """High planes, -8..7, and low planes, 0..15, of weights in -32..31.

    Args:
        weight: (F, ...) int8, F even.

    Returns:
        (F, ...) int8 and (F / 2, ...) uint8.

    Raises:
        ValueError: F is odd, or a weight has more than 6 bits.
    """
    if len(weight) % 2 or weight.min() < -32 or weight.max() > 31:
        raise ValueError(
            f"need an even number of filters and weights in -32..31, got {len(weight)} filters, "
            f"{weight.min()}..{weight.max()}"
        )
    high = (weight >> 2).astype(np.int8)
    first, second = np.split(weight & 3, 2)
    high[: len(first)] ^= second
    return high, (first | second << 2).astype(np.uint8)


def join_planes(high: NDArray[Any], low: NDArray[Any]) -> NDArray[np.int8]:
    """The weights that :func:`split_planes` took apart."""
    low = low.astype(np.int8)
    return (high.astype(np.int8) << 2) ^ np.concatenate([low, low >> 2])
