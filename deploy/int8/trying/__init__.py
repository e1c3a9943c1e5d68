"""Int8 graphs tried on whole pictures before they are kept: which layers stay in float, what is corrected."""
