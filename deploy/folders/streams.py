"""A picture from standard input, or to standard output, which `-` stands for.

Pictures are read and written as files, whose sizes are known and whose ends can be looked at first. So what comes in is
kept in a temporary file, and what goes out is complete before its first byte is sent.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from deploy.errors import ImageError
from deploy.folders.request import Request
from deploy.picture.files import result_suffix

STREAM = Path("-")
STDIN, STDOUT = "standard input", "standard output"


def uses_streams(request: Request) -> bool:
    """Whether `-` is the input or the output."""
    return STREAM in request.images or request.output == STREAM


@contextmanager
def streamed(request: Request, stdin: BinaryIO, stdout: BinaryIO) -> Iterator[Request]:
    """The same request for files, while the block runs; then its result is sent, if there is one.

    A picture that comes from standard input goes to standard output, unless a file is named.
    """
    if len(request.images) > 1 or request.samples > 1 or request.images[0].is_dir():
        raise ImageError("`-` stands for one picture from standard input or to standard output; name it alone.")
    if request.all_frames and request.output in (None, STREAM):
        raise ImageError("Standard output takes one picture, and all frames are several; name a folder with -o.")
    with tempfile.TemporaryDirectory(prefix="idm-deploy-") as place:
        image, output = request.images[0], request.output
        if image == STREAM:
            image = Path(place) / STDIN
            with image.open("wb") as file:
                shutil.copyfileobj(stdin, file)
        result = Path(place) / f"{STDOUT}{result_suffix(image, request.saving)}"
        is_sent = output in (None, STREAM)
        yield replace(request, images=(image,), output=result if is_sent else output)
        if is_sent and result.exists():
            with result.open("rb") as made:
                shutil.copyfileobj(made, stdout)
            stdout.flush()


def without_places(text: str) -> str:
    """A message about the temporary files, in which they are called what they stand for."""
    begin = re.escape(str(Path(tempfile.gettempdir()) / "idm-deploy-"))
    return re.sub(rf"{begin}\w+[/\\]({STDIN}|{STDOUT})(\.\w+)?", r"\1", text)
