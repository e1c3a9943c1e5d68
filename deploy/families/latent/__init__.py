"""The latent family: latent diffusion with an implicit neural decoder (Kim and Kim, CVPR 2024)."""
