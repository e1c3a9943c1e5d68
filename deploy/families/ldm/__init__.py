"""LDM-SR (Rombach et al., CVPR 2022): latent diffusion with a vector quantizer, which enlarges photographs 4x."""
