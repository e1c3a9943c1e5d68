"""Post-training quantization: graphs, timestep ranges and statistics in, int8 graphs out.

statistics, step_statistics   what the values of each tensor looked like at each step
density, quantizer, clipping  from a histogram to a scale, and what the scale costs
movement, partition, ranges   where one timestep range ends and the next begins
covariance, rounding          weights to int8 by what rounding does to the layer's output
correction                    what is left after rounding and can be taken back for nothing
"""
