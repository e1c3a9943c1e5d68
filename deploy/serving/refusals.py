"""What went wrong with a picture, as an HTTP status and a sentence for whoever asked for it."""

import traceback

from calibration.errors import CalibrationError
from deploy.errors import DeployError, MissingPackage
from deploy.serving.models import Unfit
from deploy.serving.problems import Problem, sentence_for_clients
from engines.errors import EngineError, OutOfMemory


def problem_of_error(error: Exception, picture: str = "") -> Problem:
    """The refusal that a client is told; a bug's traceback goes to stderr. picture: the path of what was sent."""
    match error:
        case Problem():
            return error
        case Unfit():
            status, detail = 413, str(error)
        case MissingPackage():
            status, detail = 501, str(error)
        case MemoryError() | OutOfMemory():
            status, detail = 507, "There was not enough memory for this picture. Ask for a smaller one, or later."
        case DeployError() | CalibrationError():
            status, detail = 422, str(error)
        case EngineError():
            status, detail = 500, str(error)
        case _:  # a bug: this picture fails, the next one may not
            traceback.print_exception(error)
            status, detail = 500, f"The picture could not be made ({type(error).__name__}); the log has more."
    return Problem(status, sentence_for_clients(detail, picture))
