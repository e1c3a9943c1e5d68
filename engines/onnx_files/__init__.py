"""ONNX files read and edited as bytes, without the onnx package."""
