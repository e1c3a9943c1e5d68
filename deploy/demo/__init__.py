"""The sample checkpoints and pictures that come with the tool, and the code that made them."""
