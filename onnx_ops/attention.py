"""The Attention op: ``y = softmax(q k^T / sqrt(d)) v`` of several heads.

The definition in NumPy, the ONNX function body, the node and the schema. The body is ONNX Runtime's
own ``com.microsoft.MultiHeadAttention``, which computes in tiles too; standard operators would hold
every score, 340 MB for 5 heads and 4096 tokens.
"""

from typing import Final

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.parser
from numpy.typing import NDArray

from onnx_ops.function_body import DOMAIN, VERSION, infer_like_x

NAME: Final = "Attention"

_BODY: Final = """
<domain: "quantface", opset_import: ["" : 21, "com.microsoft" : 1]>
Attention <num_heads: int> (query, key, value) => (y)
{
  y = com.microsoft.MultiHeadAttention <num_heads: int = @num_heads> (query, key, value)
}
"""


def attention(
    query: NDArray[np.float64],
    key: NDArray[np.float64],
    value: NDArray[np.float64],
    *,
    num_heads: int,
) -> NDArray[np.float64]:
    """The definition, in float64.

    Args:
        query: (N, T, C), heads side by side: C = num_heads * d.
        key: (N, S, C).
        value: (N, S, C).
        num_heads: Heads, each with weights of its own.

    Returns:
        (N, T, C).

    Raises:
        ValueError: C is not a multiple of num_heads.
    """
    if query.shape[2] % num_heads:
        raise ValueError(f"{query.shape[2]} channels are no {num_heads} heads")
    q, k, v = (x.reshape(*x.shape[:2], num_heads, -1) for x in (query, key, value))
    scores = np.einsum("nthd,nshd->nhts", q, k) / np.sqrt(q.shape[3])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    y: NDArray[np.float64] = np.einsum("nhts,nshd->nthd", weights, v)
    return y.reshape(query.shape)


def attention_function() -> onnx.FunctionProto:
    """The function body of ``Attention``, for ``ModelProto.functions``."""
    return onnx.parser.parse_function(_BODY)


def attention_node(
    inputs: tuple[str, str, str], y: str, *, num_heads: int, name: str
) -> onnx.NodeProto:
    """The node ``y = Attention(query, key, value)``.

    Args:
        inputs: Names of query (N, T, C), key (N, S, C) and value (N, S, C), all float32.
        y: Name of the output, (N, T, C).
        num_heads: Heads; C is a multiple of it.
        name: Name of the node.
    """
    return onnx.helper.make_node(
        NAME, list(inputs), [y], name=name, domain=DOMAIN, num_heads=num_heads
    )


def attention_schema() -> onnx.defs.OpSchema:
    """The schema of ``Attention``: y has the shape of query."""
    schema = onnx.defs.OpSchema
    parameter = schema.FormalParameter
    result = schema(
        NAME,
        DOMAIN,
        VERSION,
        "y = softmax(query key^T / sqrt(C / num_heads)) value for each head.",
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
