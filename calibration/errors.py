"""Everything that calibration refuses.

CalibrationError
"""


class CalibrationError(Exception):
    """Base of every error that calibration raises on purpose."""
