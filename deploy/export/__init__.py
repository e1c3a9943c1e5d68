"""A checkpoint becomes a bundle: its parts as ONNX graphs on one file of weights, held against the network."""
