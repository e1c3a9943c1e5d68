"""The small bundles of the run time's tests."""

from tests.deploy.exported import idm_micro, latent_gen, latent_sr

__all__ = ["idm_micro", "latent_gen", "latent_sr"]
