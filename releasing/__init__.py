"""How this repository becomes something to install: packages, their bill of materials, locked dependencies.

Not in the wheel.
"""
