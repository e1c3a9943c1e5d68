"""Post-training quantization: graphs, timestep ranges and statistics in, int8 graphs out."""
