"""The Hadamard op and the integer layers around it.

``hadamard`` is the one definition of the rotation's maths; ``function_body`` writes it into an
ONNX model, ``python_op`` runs it inside ONNX Runtime for tests, and ``integer`` is the NumPy
reference of the quantized layers. The package depends on numpy and onnx alone (``python_op``
also on onnxruntime and onnxruntime-extensions).
"""
