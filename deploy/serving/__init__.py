"""A service over HTTP, and a page, on one machine: the pictures of `infer` for whoever asks for them."""
