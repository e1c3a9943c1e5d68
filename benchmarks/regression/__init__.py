"""The README's figures of speed as data, and a command that measures them again and compares ratios."""
