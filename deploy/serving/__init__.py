"""A process that enlarges pictures over HTTP, and the page that it shows."""
