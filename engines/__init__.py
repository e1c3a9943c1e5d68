"""The ground floor: run an ONNX graph on a backend. Knows nothing of timesteps, checkpoints or images."""
