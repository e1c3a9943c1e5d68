"""What programs write of the docs: the page of the commands, and the picture of the README."""
