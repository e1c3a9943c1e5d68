"""The service on a Ray cluster: replicas that make pictures, and a gate before them that answers as `serve` does."""
