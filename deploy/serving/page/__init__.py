"""The page of the server: what a browser fetches, from memory.

It is three files and an icon. The style sheet and the script begin with those of the report's slider, so that both
pages show pictures alike.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from deploy.report.looks import behaviour, look

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the page: its own files run, nothing in its text or from elsewhere."""

SCRIPTS = (
    *("words.js", "zip.js", "server.js", "gathering.js", "headers.js", "zoom.js", "crop.js"),
    *("state.js", "settings.js", "making.js", "list.js", "viewer.js", "page.js"),
)
"""In this order one script: first what stands alone, then the page itself."""


@dataclass(frozen=True, kw_only=True)
class PageFile:
    """A file as it is sent."""

    content: bytes
    media_type: str


@cache
def page_files() -> dict[str, PageFile]:
    """Every file of the page by its path on the server. None of them needs a token or says anything of this server."""
    return {
        "/": PageFile(content=_own("index.html").encode(), media_type="text/html; charset=utf-8"),
        "/page.css": PageFile(content=(look() + _own("page.css")).encode(), media_type="text/css; charset=utf-8"),
        "/page.js": PageFile(
            content=(behaviour() + "".join(map(_own, SCRIPTS))).encode(), media_type="text/javascript; charset=utf-8"
        ),
        "/icon.svg": PageFile(content=_own("icon.svg").encode(), media_type="image/svg+xml"),
    }


def _own(name: str) -> str:
    return files("deploy.serving.page").joinpath(name).read_text("utf-8")
