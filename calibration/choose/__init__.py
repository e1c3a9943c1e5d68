"""From what was observed to numbers: scales, timestep ranges, rounded weights and corrections."""
