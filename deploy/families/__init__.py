"""The families of networks that can be deployed: each is one folder and one line of `table`.

`contract` says what a family owes the rest, `detection` how configurations are read from weights, `rewriting` how exact
rewrites are written down once for PyTorch and for ONNX.
"""
