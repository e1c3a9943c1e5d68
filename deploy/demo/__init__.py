"""`idm-deploy demo`: the whole flow on the packaged model."""
