"""Measurements beside `bench` and `evaluate`: on GPUs, of int8 variants, and of the README's figures again."""
