"""The Attention ops: ``y = softmax(q k^T / sqrt(d)) v`` of several heads, of floats or integers.

``QuantizedAttention`` rounds its inputs first, by their own scales, so that nothing is calibrated:

* q to ``s rint(q / s)``, ``s = max |q| / 63`` for each token and head: 7 bits;
* ``k - mean(k)`` the same with 127: 8 bits. The mean over the tokens moves all scores of a query
  alike, which softmax does not see;
* v the same with 127, for each channel.

The definitions in NumPy, the ONNX function bodies, the node and the schemas. The bodies are ONNX
Runtime's own ``com.microsoft.MultiHeadAttention``, which computes in tiles as the native kernels
do; standard operators would hold every score, 340 MB for 5 heads and 4096 tokens. The kernel of
``QuantizedAttention`` multiplies the codes, and rounds the shares ``exp(score - largest)`` to 14
bits of the largest.
"""

from typing import Final

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.parser
from numpy.typing import NDArray

from onnx_ops.function_body import DOMAIN, VERSION, infer_like_x

PLAIN: Final = "Attention"
QUANTIZED: Final = "QuantizedAttention"
QUERY_TOP: Final = 63
"""Largest code of a query."""
KEY_TOP: Final = 127
"""Largest code of a key, and of a value."""
LEAST_STEP: Final = 1e-30
"""Added to every scale, so that zeros have one."""

_BODY: Final = f"""
<domain: "quantface", opset_import: ["" : 21, "com.microsoft" : 1]>
{PLAIN} <num_heads: int> (query, key, value) => (y)
{{
  y = com.microsoft.MultiHeadAttention <num_heads: int = @num_heads> (query, key, value)
}}
"""

_ROUND: Final = """
  {x}_size = Abs ({x})
  {x}_most = ReduceMax <keepdims: int = 1> ({x}_size, {axis})
  {x}_exact = Div ({x}_most, {top})
  {x}_step = Add ({x}_exact, least)
  {x}_steps = Div ({x}, {x}_step)
  {x}_codes = Round ({x}_steps)
  {x}_rounded = Mul ({x}_codes, {x}_step)"""

_QUANTIZED_BODY: Final = f"""
<domain: "quantface", opset_import: ["" : 21, "com.microsoft" : 1]>
{QUANTIZED} <num_heads: int> (query, key, value) => (y)
{{
  heads = Constant <value_int: int = @num_heads> ()
  tokens = Constant <value_ints: ints = [1]> ()
  last = Constant <value_ints: ints = [-1]> ()
  kept = Constant <value_ints: ints = [0, 0]> ()
  query_top = Constant <value_float: float = {QUERY_TOP}.0> ()
  key_top = Constant <value_float: float = {KEY_TOP}.0> ()
  least = Constant <value_float: float = {LEAST_STEP}> ()
  heads_1d = Reshape (heads, tokens)
  by_head = Concat <axis: int = 0> (kept, heads_1d, last)
  joined = Concat <axis: int = 0> (kept, last)
  mean = ReduceMean <keepdims: int = 1> (key, tokens)
  centred = Sub (key, mean)
  q = Reshape (query, by_head)
  k = Reshape (centred, by_head)
  {_ROUND.format(x="q", axis="last", top="query_top")}
  {_ROUND.format(x="k", axis="last", top="key_top")}
  {_ROUND.format(x="value", axis="tokens", top="key_top")}
  query_rounded = Reshape (q_rounded, joined)
  key_rounded = Reshape (k_rounded, joined)
  y = com.microsoft.MultiHeadAttention <num_heads: int = @num_heads>
    (query_rounded, key_rounded, value_rounded)
}}
"""


def attention(
    query: NDArray[np.float64],
    key: NDArray[np.float64],
    value: NDArray[np.float64],
    *,
    num_heads: int,
    quantized: bool = False,
) -> NDArray[np.float64]:
    """The definition, in float64.

    Args:
        query: (N, T, C), heads side by side: C = num_heads * d.
        key: (N, S, C).
        value: (N, S, C).
        num_heads: Heads, each with weights of its own.
        quantized: Whether they are rounded first.

    Returns:
        (N, T, C).

    Raises:
        ValueError: C is not a multiple of num_heads.
    """
    if query.shape[2] % num_heads:
        raise ValueError(f"{query.shape[2]} channels are no {num_heads} heads")
    if quantized:
        key = key - key.mean(1, keepdims=True)
        value = _rounded(value, 1, KEY_TOP)
    q, k, v = (x.reshape(*x.shape[:2], num_heads, -1) for x in (query, key, value))
    if quantized:
        q, k = _rounded(q, 3, QUERY_TOP), _rounded(k, 3, KEY_TOP)
    scores = np.einsum("nthd,nshd->nhts", q, k) / np.sqrt(q.shape[3])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    y: NDArray[np.float64] = np.einsum("nhts,nshd->nthd", weights, v)
    return y.reshape(query.shape)


def _rounded(x: NDArray[np.float64], axis: int, top: int) -> NDArray[np.float64]:
    """``s rint(x / s)`` with ``s = max |x| / top + LEAST_STEP`` along ``axis``."""
    step = np.abs(x).max(axis, keepdims=True) / top + LEAST_STEP
    return np.asarray(step * np.rint(x / step))


def attention_functions() -> tuple[onnx.FunctionProto, onnx.FunctionProto]:
    """The function bodies of both ops, for ``ModelProto.functions``."""
    return onnx.parser.parse_function(_BODY), onnx.parser.parse_function(_QUANTIZED_BODY)


def attention_node(
    inputs: tuple[str, str, str], y: str, *, num_heads: int, quantized: bool, name: str
) -> onnx.NodeProto:
    """The node ``y = Attention(query, key, value)`` or ``QuantizedAttention``.

    Args:
        inputs: Names of query (N, T, C), key (N, S, C) and value (N, S, C), all float32.
        y: Name of the output, (N, T, C).
        num_heads: Heads; C is a multiple of it.
        quantized: Whether the inputs are rounded first.
        name: Name of the node.
    """
    return onnx.helper.make_node(
        QUANTIZED if quantized else PLAIN,
        list(inputs),
        [y],
        name=name,
        domain=DOMAIN,
        num_heads=num_heads,
    )


def attention_schemas() -> tuple[onnx.defs.OpSchema, onnx.defs.OpSchema]:
    """The schemas of both ops: y has the shape of query."""
    return _schema(PLAIN, ""), _schema(QUANTIZED, ", of rounded query, key - mean and value")


def _schema(name: str, end: str) -> onnx.defs.OpSchema:
    schema = onnx.defs.OpSchema
    parameter = schema.FormalParameter
    result = schema(
        name,
        DOMAIN,
        VERSION,
        "y = softmax(query key^T / sqrt(C / num_heads)) value for each head" + end + ".",
        inputs=[
            parameter("query", "tensor(float)", "(N, T, C), heads side by side"),
            parameter("key", "tensor(float)", "(N, S, C)"),
            parameter("value", "tensor(float)", "(N, S, C)"),
        ],
        outputs=[parameter("y", "tensor(float)", "(N, T, C)")],
        attributes=[schema.Attribute("num_heads", schema.AttrType.INT, "C is a multiple of it")],
    )
    result.set_type_and_shape_inference_function(infer_like_x)
    return result
