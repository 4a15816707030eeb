"""What the tests of all ops share."""

import onnx
import pytest

from onnx_ops.function_body import DOMAIN, VERSION


def infer(proto, schemas):
    """The model with the shapes that the schemas of its ops infer."""
    for schema in schemas:
        onnx.defs.register_schema(schema)
    try:
        return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    finally:
        for schema in schemas:
            onnx.defs.deregister_schema(schema.name, VERSION, DOMAIN)


@pytest.fixture
def inferred():
    return infer
