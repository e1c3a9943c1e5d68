"""Everything that calibration refuses, as exceptions with a sentence for the user.

CalibrationError
 |- ChoiceError      a parameter of a method that cannot be honoured: a percentile of 120, more ranges than steps
 |- GraphError       a graph and a recipe that do not fit together, or a graph that cannot be observed
 |- RangeError       timestep ranges that overlap, leave a gap or are not sorted, or a noise level outside them
 |- StatisticsError  activations that are not finite, no activations at all, or recordings that do not fit together
 `- WeightError      weights, covariances and means whose shapes or values do not fit together

The message says what was being done with which tensor, what was expected and found, and what to do next.
"""


class CalibrationError(Exception):
    """Base of every error that calibration raises on purpose."""


class ChoiceError(CalibrationError):
    """A parameter of a method that cannot be honoured."""


class GraphError(CalibrationError):
    """A graph and a recipe that do not fit together, or a graph that cannot be observed."""


class RangeError(CalibrationError):
    """Timestep ranges that overlap, leave a gap or are not sorted, or a noise level outside them."""


class StatisticsError(CalibrationError):
    """Activations that are not finite, no activations at all, or recordings that do not fit together."""


class WeightError(CalibrationError):
    """Weights, covariances and means whose shapes or values do not fit together."""
