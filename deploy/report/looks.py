"""How pages look and behave: the style sheet and the script that the report and the service's page share."""

from importlib.resources import files


def look(*own: str) -> str:
    """The style sheet of a page: what all pages share, then the files `own` of this room."""
    return _joined("look.css", "slider.css", *own)


def behaviour(*own: str) -> str:
    """The script of a page: the slider over two pictures, then the files `own` of this room."""
    return _joined("slider.js", *own)


def _joined(*names: str) -> str:
    return "".join(files("deploy.report").joinpath(name).read_text("utf-8") for name in names)
