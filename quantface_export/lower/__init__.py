"""PyTorch to ONNX: export with one marker per quantized layer, then expand the markers."""
