"""From a noise schedule to the steps of a sampler: numpy only, no networks, no images.

`schedule` holds the training schedule, `placement` chooses few noise levels of it, `equations` turns them
into coefficient rows, `plan` is that table of rows and the loop that follows it, and `noise` makes the random
numbers it needs.
"""
