"""Post-training quantization: graphs, timestep ranges and statistics in, int8 graphs out.

`observe` sees what the values of each tensor look like at each step, `passes` collect that over recorded inputs,
`choose` makes scales, ranges and rounded weights of it, and `targets` write the graphs that each backend runs in int8.
"""
