"""Passes over recorded inputs: each runs the graph on all of them and keeps what was observed."""
