"""What pictures are worth and what they cost: metrics, `evaluation` of quality, `benchmark` of time and memory."""
