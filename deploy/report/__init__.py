"""One HTML page about one bundle: what it is, how it was made, what that costs and gains, and pictures to compare."""
