"""What a client is told when a request is refused or fails: problem details (RFC 9457) with a sentence for a person."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"

GONE = 499
"""The status of requests whose client hung up, in the log alone; as nginx has it."""


class Problem(Exception):  # noqa: N818  a state of the request, not of the program
    """A refusal: an HTTP status and a sentence that a person can act on."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})

    def as_json(self) -> dict[str, Any]:
        """The object that a client gets."""
        return problem_json(self.status, self.detail)

    def response(self) -> "JSONResponse":
        """The whole answer."""
        from fastapi.responses import JSONResponse  # workers have no use for it

        return JSONResponse(self.as_json(), self.status, self.headers, MEDIA_TYPE)


def problem_json(status: int, detail: str) -> dict[str, Any]:
    """The object of a refusal."""
    title = "Client Closed Request" if status == GONE else HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def sentence_for_clients(text: str, path: str = "") -> str:
    """An error of the tool without the places of this machine, and with fields for parameters."""
    if path:
        text = text.replace(f"reading {path}: ", "The picture cannot be read: ").replace(path, "the picture")
    text = re.sub(r" Allow more with `max_memory`[^.]*\.", " Ask for a smaller picture.", text)
    text = text.replace(", or raise the limit with `max_pixels`", "")
    text = re.sub(r" Raise the limit with `max_pixels`[^.]*\.", " Send a smaller picture.", text)
    return re.sub(r"`([a-z]+(?:_[a-z]+)*)`", r"\1", text).strip()
