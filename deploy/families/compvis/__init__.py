"""What latent diffusion models that descend from CompVis' code share: the U-Net, and blocks of the auto-encoder.

No family: families build their networks and graphs of it, each under the names of its own checkpoints.
"""
