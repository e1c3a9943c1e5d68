"""The ground floor: run an ONNX graph on a backend. Knows nothing of timesteps, checkpoints or images.

`contract` is what every engine keeps, `backends` the table of those there are, `adapters` one module for each.
`plans` builds what GPU backends run ahead of time, `onnx_files` reads and edits graphs without the onnx package,
`machine` asks what this computer is, `cache` keeps built plans and measurements.
"""
