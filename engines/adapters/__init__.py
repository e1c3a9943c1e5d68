"""One module per backend: how it opens a graph, runs it and says what it cannot do."""
