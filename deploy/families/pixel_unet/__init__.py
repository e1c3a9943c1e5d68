"""The U-Net of pixel-space networks that are conditioned on the noise level itself, as SR3 introduced it.

Several families have it, with the same names in their checkpoints. What differs is theirs: how the condition is made,
what leads from one level of the way up to the next, and what else is told to the network.
"""
