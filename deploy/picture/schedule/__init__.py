"""Where few steps should lie for one bundle: the search, and the presets that are made of it."""
