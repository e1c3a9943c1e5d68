"""Everything that engines refuses, as exceptions with a sentence for the user.

EngineError           a backend that is unknown or not installed, a graph that cannot be opened, inputs that
                      do not fit it, or a run that failed

The message says what was being done with which graph or tensor, what was expected and found, and what to do
next. Words of a backend are quoted shortened; the whole text is the exception's __cause__.
"""


class EngineError(Exception):
    """Base of every error that engines raises on purpose."""
