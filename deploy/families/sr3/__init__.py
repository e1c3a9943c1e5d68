"""SR3 (Saharia et al., arXiv 2104.07636), as the implementation by Janspiry trains and saves it."""
