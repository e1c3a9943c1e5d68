"""Measurements that need a machine of a special kind; what any machine can measure is `idm-deploy bench`."""
