"""A family that the product does not know: what one folder and one line have to hold."""
