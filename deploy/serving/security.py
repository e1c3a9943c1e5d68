"""What stands before the application: who may ask, from where, how much, and how slowly.

A page on the internet must not reach a service on a person's own machine: the name by which it is called is checked
(DNS rebinding), and so is where a request that changes something comes from. Other origins are never allowed to read.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.serving.logs import log_access
from deploy.serving.metrics import Metrics
from deploy.serving.options import ServeOptions, is_loopback
from deploy.serving.page import POLICY, page_files
from deploy.serving.problems import Problem

OPEN = frozenset(
    {*page_files(), "/docs", "/docs.css", "/healthz", "/readyz", "/favicon.ico", "/v2/health/live", "/v2/health/ready"}
)
"""What needs no token: the page, which asks for one, and what looks whether the service lives."""

FORM = "multipart/form-data"

LEAST_RATE = 8192
"""Bytes a second that an upload must bring on average, once it has had a while."""

UPLOADS_AT_ONCE = 4
"""Times the largest upload that requests may bring together while they come, and as long as they lie in memory."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Middleware: refuses what may not pass, bounds what does, and keeps the log and the figures of both."""

    def __init__(self, app: ASGIApp, options: ServeOptions, metrics: Metrics) -> None:
        self._app = app
        self._options = options
        self._metrics = metrics
        self._held = _Held(UPLOADS_AT_ONCE * options.max_upload)
        self._tokens = None if options.tokens is None else [_digest(token.encode()) for token in options.tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":  # the server sends no body to it
            scope = {**scope, "method": "GET"}
        began = time.perf_counter()
        status = 0
        has_started = False
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        scope["idm_request"] = request_id = secrets.token_hex(8)

        async def answer(message: Message) -> None:
            nonlocal status, has_started
            if message["type"] == "http.response.start":
                has_started = True
                status = message["status"]
                own = {**HEADERS, "X-Request-Id": request_id}
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.lower().encode(), value.encode()) for name, value in own.items()),
                ]
            await send(message)

        body = _Body(receive, self._held, self._options, is_form=headers.get("content-type", "").startswith(FORM))
        try:
            self._check(scope, headers)
            await self._app(scope, body.receive, answer)
        except Problem as problem:
            if has_started:
                raise
            await _refuse(problem, answer)
        finally:
            body.let_go()
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requested(route, method, status)
            log_access(
                {**scope, "method": method}, request_id=request_id, status=status, seconds=time.perf_counter() - began
            )

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        self._check_host(headers.get("host", ""))
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            _check_origin(headers)
        if self._tokens is not None and scope["path"] not in OPEN:
            scope["idm_client"] = self._client(headers.get("authorization", ""))
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._options.max_upload:
            raise _too_large(self._options.max_upload)

    def _check_host(self, host: str) -> None:
        name = _host_name(host)
        if name in {known.lower() for known in self._options.hosts}:
            return
        if not self._options.is_loopback and not self._options.hosts:
            return
        if not (is_loopback(name) or name == self._options.host.lower()):
            raise Problem(
                421,
                f"This service does not answer to the name {name[:80]!r}. Call it by its own address, or start it "
                "with --allow-host for that name.",
            )

    def _client(self, authorization: str) -> str:
        kind, _, token = authorization.partition(" ")
        if kind.lower() == "basic":  # as clients of other services send it: name:token
            with suppress(ValueError):
                token = base64.b64decode(token, validate=True).decode("latin-1").partition(":")[2]
        shown = _digest(token.strip().encode("latin-1"))
        known = [hmac.compare_digest(shown, digest) for digest in self._tokens or ()]  # all, in the same time
        if kind.lower() not in ("bearer", "basic") or not any(known):
            raise Problem(
                401,
                "This service asks for a token: send it as `Authorization: Bearer TOKEN`.",
                {"WWW-Authenticate": "Bearer"},
            )
        return f"token {known.index(True) + 1}"


class _Held:
    """The bytes of all requests that are coming or lie in memory, of which there are so many at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0

    def take(self, count: int) -> None:
        """So many more. Problem where that would be too many."""
        if self._bytes + count > self._most:
            raise Problem(
                429,
                "So much is being sent to this service by all its clients that there is no room for this request. Try "
                "again in a few seconds.",
                {"Retry-After": "5", "Connection": "close"},
            )
        self._bytes += count

    def give_back(self, count: int) -> None:
        """So many less."""
        self._bytes -= count


class _Body:
    """What a client sends, as long as it is not too much or too slow.

    is_form: its pictures go to disk as they come; other requests lie in memory until they are answered.
    """

    def __init__(self, receive: Receive, held: _Held, options: ServeOptions, *, is_form: bool) -> None:
        self._receive = receive
        self._held = held
        self._most = options.max_upload
        self._idle_seconds = options.idle_seconds
        self._is_form = is_form
        self._bytes = self._taken = 0
        self._began = time.monotonic()
        self._is_complete = False

    async def receive(self) -> Message:
        if self._is_complete:  # now it only waits for the client to hang up
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._idle_seconds)
        except TimeoutError:
            raise self._too_slow() from None
        if message["type"] == "http.request":
            count = len(message.get("body", b""))
            self._bytes += count
            self._is_complete = not message.get("more_body", False)
            if self._bytes > self._most:
                raise _too_large(self._most)
            if time.monotonic() - self._began > self._idle_seconds + self._bytes / LEAST_RATE:
                raise self._too_slow()
            self._held.take(count)
            self._taken += count
            if self._is_complete and self._is_form:
                self.let_go()
        return message

    def let_go(self) -> None:
        """Nothing of it is held any more."""
        self._held.give_back(self._taken)
        self._taken = 0

    def _too_slow(self) -> Problem:
        return Problem(408, "The request came too slowly, and was not waited for any longer.", {"Connection": "close"})


async def _refuse(problem: Problem, send: Send) -> None:
    body = json.dumps(problem.as_json()).encode()
    headers = {"content-type": "application/problem+json", "content-length": str(len(body)), **problem.headers}
    listed = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": listed})
    await send({"type": "http.response.body", "body": body})


def _check_origin(headers: dict[str, str]) -> None:
    """A request that changes something comes from this service's own page, or from no page at all."""
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    own = origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""
    if not own or site not in (None, "same-origin", "none"):
        raise Problem(403, "Requests from pages of other sites are refused.")


def _host_name(host: str) -> str:
    name = host.rsplit("@", 1)[-1]
    return (name[: name.find("]") + 1] if name.startswith("[") else name.split(":", 1)[0]).lower()


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _too_large(most: int) -> Problem:
    return Problem(
        413, f"The request is larger than {most} bytes, which is all that this service takes.", {"Connection": "close"}
    )
