"""Measurements beside `bench` and `evaluate`: on GPUs, of int8 variants, of recorded figures; and generated docs."""
