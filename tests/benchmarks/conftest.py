"""The small bundles of the run time's tests."""

from tests.deploy.conftest import idm_micro

__all__ = ["idm_micro"]
