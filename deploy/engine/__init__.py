"""Which engine runs a bundle on this machine, and its graphs opened on it."""
