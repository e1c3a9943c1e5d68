"""A bundle gains int8 graphs: calibrated on real trajectories, held against a budget, reported."""
