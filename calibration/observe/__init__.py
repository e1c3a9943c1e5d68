"""What the tensors of a graph look like while it runs: histograms, covariances, movement over the steps."""
