"""The log of a service: a line for each request, as text or as JSON, never with what is in a picture."""

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from starlette.types import Scope

ACCESS = logging.getLogger("deploy.serving.access")

LogFormat = Literal["text", "json"]


def log_access(scope: "Scope", *, request_id: str, status: int, seconds: float) -> None:
    """A request was answered."""
    client = scope.get("client")
    fields = {
        "request": request_id,
        "client": scope.get("idm_client") or (client[0] if client else "unknown"),
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "seconds": round(seconds, 4),
        "job": scope.get("idm_job"),
    }
    ACCESS.info("request", extra={"fields": fields})


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        words = [f"{name}={_quoted(value)}" for name, value in _fields(record).items() if value is not None]
        line = " ".join([self.formatTime(record, "%H:%M:%S"), record.levelname.lower(), record.getMessage(), *words])
        return line if record.exc_info is None else f"{line}\n{self.formatException(record.exc_info)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        body = {"time": round(record.created, 3), "level": record.levelname.lower(), "logger": record.name}
        body |= {"message": record.getMessage(), **_fields(record)}
        if record.exc_info is not None:
            body["trace"] = self.formatException(record.exc_info)
        return json.dumps(body)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def _quoted(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)


def log_to_stderr(form: LogFormat, *, quiet: bool) -> None:
    """What a service logs goes to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    for name, level in (("deploy.serving", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR if quiet else level)
        logger.handlers = [handler]
        logger.propagate = False
