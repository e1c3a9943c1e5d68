"""Networks made cheaper without changing what they compute.

A rewritten network is described once, as functions over the dozen operations of `ops.Ops`. `torch_ops` runs
such a description (to hold it against the published network) and `deploy.export.onnx_ops` writes it down as
an ONNX graph. `ops.Part` says what a description consists of; families hold their identities.
"""
