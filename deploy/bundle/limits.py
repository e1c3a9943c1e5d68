"""How much bundle.json may say: far more than any bundle of ours, and little enough to be read and checked at once.

What a family of networks allows of its own configuration stands in the family's record.
"""

LARGEST_MANIFEST_BYTES = 64 << 20
"""Of the file bundle.json."""

LONGEST_NAME = 200
"""Letters of a name: of a graph, a tensor, a preset, a file."""
LONGEST_TEXT = 1000
"""Letters of what is there for people to read."""

DEEPEST = 64
"""Objects and lists within each other, below a key."""

MOST_FILES = 10_000
MOST_GRAPHS = 64
MOST_TENSORS = 512
"""Inputs, or outputs, of one graph."""
MOST_AXES = 8
MOST_CHANNELS = 1 << 16
"""Of a network, or constants of a graph that differ between ranges."""
LARGEST_AXIS = 1 << 31
MOST_BYTES = 1 << 48
"""Of a file."""
MOST_ENTRIES = 1000
"""Of presets, placements, rewrites, values of a configuration, samples, libraries."""
MOST_PICTURES = 1_000_000
"""That calibrated a bundle."""

MOST_TIMESTEPS = 100_000
"""Of a training schedule, which is a table of so many numbers; published ones have 1000 to 4000."""
MOST_STEPS = 100_000
"""Of a preset: as many as a schedule may have timesteps."""
LARGEST_NUMBER = 1e12
"""That a value of a configuration or a measured one may have."""
MOST_IN_LIST = 64
"""Numbers or names in one value of a configuration."""
