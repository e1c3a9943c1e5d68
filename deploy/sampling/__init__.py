"""From a noise schedule to the steps of a sampler: numpy only, no networks, no images.

`schedule` holds the training schedule (by the rules of `beta_rules`), `placement` chooses few noise levels of it,
`equations` gives the coefficients of one step, `plan` is the table of all steps, `loop` follows it, and `noise`
makes the random numbers it needs.
"""
