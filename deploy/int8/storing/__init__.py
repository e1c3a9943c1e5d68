"""Int8 graphs and their one file of weights, written into the bundle."""
