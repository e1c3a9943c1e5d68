"""IDM: pixel-space implicit diffusion (Gao et al., CVPR 2023; IJCV 2025)."""
