"""The small bundles of the run time's tests."""

from tests.deploy.runtime.conftest import idm_micro

__all__ = ["idm_micro"]
