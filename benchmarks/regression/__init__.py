"""The figures of docs/speed.md as data, and a command that measures them again and compares ratios."""
