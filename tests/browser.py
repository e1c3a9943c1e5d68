"""A headless Chromium, driven over its DevTools protocol through a pipe: no port, no package."""

import json
import os
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import select
from time import monotonic, sleep
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless=new",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--no-sandbox",  # containers often forbid what it needs; it only ever opens pages that a test made
)
PATIENCE_S = 60.0

BECOME_BROWSER = """
import os, sys
# Copies above 4 first: one of the pipes may be what 3 or 4 is now.
taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
commands, answers = (os.dup(int(one)) for one in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from descriptor 3 and writes answers to 4."""

KEYS = {
    **{"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35},
    **{"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32, "+": 187, "-": 189},
}


def find_browser() -> str | None:
    """The path of a Chromium or Chrome."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One tab. `problems` collects what went to the console as an error, every exception, and every request."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._read = b""
        self._number = 0
        self._session: str | None = None
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def open(self, page: Path | str) -> Self:
        """The file or the address is loaded."""
        self._events.clear()
        self.call("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._note(self._next())
        return self

    def tell(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, expression: str, patience_s: float = PATIENCE_S) -> None:
        """The JavaScript expression is true."""
        end = monotonic() + patience_s
        while not self.tell(expression):
            if monotonic() > end:
                raise TimeoutError(f"after {patience_s:.0f} s it is still not so: {expression}")
            sleep(0.03)

    def press(self, key: str, *, shift: bool = False) -> None:
        """A key goes down and up."""
        typed = {"Enter": "\r", "Space": " "}.get(key, key if len(key) == 1 else "")
        about = {"key": typed if key == "Space" else key, "code": key, "modifiers": 8 if shift else 0}
        code = KEYS[key] if key in KEYS else ord(key.upper())
        for kind in ("keyDown" if typed else "rawKeyDown", "keyUp"):
            text = typed if kind == "keyDown" else ""
            self.call("Input.dispatchKeyEvent", type=kind, text=text, windowsVirtualKeyCode=code, **about)

    def give(self, selector: str, paths: Sequence[Path]) -> None:
        """The files are chosen in an input for files."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def drop(self, paths: Sequence[Path], x: float, y: float) -> None:
        """Files and folders are dragged to a place of the window and let go."""
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """mousePressed, mouseMoved or mouseReleased at a place of the window."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def resize(self, width: int, height: int, *, density: float = 1, dark: bool = False) -> None:
        """The window has this size, and the reader's taste."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=density, mobile=False
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        end = monotonic() + 10  # the window follows a little after the answer, and the page is told of it by a frame
        while self.tell("innerWidth") != width and monotonic() < end:
            sleep(0.02)
        self.tell("drawn = false, requestAnimationFrame(() => requestAnimationFrame(() => { drawn = true; }))")
        while not self.tell("drawn") and monotonic() < end:
            sleep(0.02)

    def screenshot(self, path: Path) -> None:
        """`path` holds the window as PNG."""
        path.write_bytes(b64decode(self.call("Page.captureScreenshot")["data"]))

    def pdf(self, path: Path) -> None:
        """`path` holds the page as it would be printed."""
        path.write_bytes(b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))

    def _next(self) -> dict[str, Any]:
        end = monotonic() + PATIENCE_S
        while b"\0" not in self._read:
            if not select([self._from], [], [], max(end - monotonic(), 0))[0]:
                raise TimeoutError(f"the browser said nothing for {PATIENCE_S:.0f} s")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise ConnectionError("the browser has ended")
            self._read += part
        message, _, self._read = self._read.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        if "method" not in event:
            return
        self._events.append(event)
        method, params = event["method"], event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(str(params["args"]))
        elif method == "Log.entryAdded":
            self.problems.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"][:200])


@contextmanager
def opened_browser(executable: str, profile: Path) -> Iterator[Page]:
    """A browser with an empty profile and one tab; it ends with the block."""
    (child_in, to_browser), (from_browser, child_out) = os.pipe(), os.pipe()
    arguments = [executable, *OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
    process = subprocess.Popen(
        [sys.executable, "-c", BECOME_BROWSER, str(child_in), str(child_out), *arguments],
        pass_fds=(child_in, child_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(child_in)
    os.close(child_out)
    try:
        yield Page(to_browser, from_browser)
    finally:
        os.close(to_browser)
        os.close(from_browser)
        process.terminate()
        process.wait(timeout=30)
