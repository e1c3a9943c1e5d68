"""A bundle as a model repository of Triton Inference Server: what is written, and what runs inside of Triton."""
