"""What calibration is fed: pictures, the trajectories of real sampling runs, and what a killed run left behind."""
