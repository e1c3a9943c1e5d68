"""A bundle, an engine and a plan make a picture: encode, loop, decode, in as much memory as is allowed.

`upscaler` is the object that people use, `run` one batch from its pixels to its pixels, `layout` how it fits memory,
`files` an input and its result as files, `schedule` the search for where few steps should lie.
"""
