"""Building blocks of the page: escaped markup, drawings, words and numbers."""
