"""The settings of a service, as `idm-deploy serve` is told them."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from deploy.errors import DeployError
from deploy.picture.memory import default_budget

LOOPBACK = "127.0.0.1"
PORT = 8080

MIB = 1 << 20


class ServeError(DeployError):
    """A service cannot be started as it was asked for."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """How a service listens, what it takes and how it works. Checked when it is made.

    bundles: folders by the names that requests call them, the first of them the default. tokens: that clients must
    show, None: none is asked for. hosts: names besides those of loopback by which clients may call it. max_pixels: of
    an input and of a result. max_upload, max_memory: bytes. keep_seconds: that a result can be fetched.
    deadline_seconds: from a request to its picture. batch: pictures made together; None: as many as pay.
    """

    bundles: dict[str, Path]
    host: str = LOOPBACK
    port: int = PORT
    hosts: tuple[str, ...] = ()
    tokens: tuple[str, ...] | None = None
    needs_no_token: bool = False
    max_queue: int = 64
    max_pixels: int = 64_000_000
    max_upload: int = 64 * MIB
    max_kept: int = 2048 * MIB
    workers: int = 1
    threads: int | None = None
    max_memory: int | None = None
    engine: str = "auto"
    precision: str = "auto"
    batch: int | None = None
    keep_seconds: float = 900.0
    deadline_seconds: float = 3600.0
    drain_seconds: float = 30.0
    idle_seconds: float = 20.0

    def __post_init__(self) -> None:
        problems = [*self._problems()]
        if problems:
            raise ServeError(" ".join(problems))

    def _problems(self) -> list[str]:
        problems = []
        if not self.bundles:
            problems.append("There is no bundle to serve; name one.")
        if not self.is_loopback and self.tokens is None and not self.needs_no_token:
            problems.append(
                f"The host {self.host} can be reached from other machines: name a file of tokens with --token-file, "
                "or say --no-auth if everybody there may use this service."
            )
        if self.tokens is not None and (not self.tokens or min(map(len, self.tokens)) < LEAST_TOKEN):
            problems.append(f"Each token has at least {LEAST_TOKEN} characters, one a line, and there is at least one.")
        counts = {"max-queue": self.max_queue, "workers": self.workers, "max-pixels": self.max_pixels}
        problems += [f"--{name} is a number from 1, found {count}." for name, count in counts.items() if count < 1]
        if not 0 <= self.port <= 65535:
            problems.append(f"The port is a number from 0 (any that is free) to 65535, found {self.port}.")
        seconds = {"keep": self.keep_seconds, "deadline": self.deadline_seconds, "drain": self.drain_seconds}
        problems += [
            f"--{name}-seconds is a number from 0, found {value}." for name, value in seconds.items() if value < 0
        ]
        return problems

    def worker_memory(self) -> int:
        """Bytes that one worker may have resident: its share of all."""
        return (self.max_memory or default_budget()) // self.workers

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach it."""
        return is_loopback(self.host)


LEAST_TOKEN = 16
"""Characters: of 16 random letters and digits, nobody guesses one over a network."""


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine alone."""
    name = host.strip("[]").lower()
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def tokens_in(path: Path) -> tuple[str, ...]:
    """The tokens of a file, one a line; empty lines and lines that begin with # are passed over."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ServeError(f"reading the tokens in {path}: {reason}. Name a file with one token a line.") from error
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def named_bundles(paths: list[Path]) -> dict[str, Path]:
    """Bundles by the names of their folders, without .bundle; no two may have the same."""
    named: dict[str, Path] = {}
    for path in paths:
        name = re.sub(r"[^\w.-]+", "-", path.resolve().name.removesuffix(".bundle")) or "model"
        if name in named:
            raise ServeError(f"{named[name]} and {path} would both be called {name!r}; rename one of the folders.")
        named[name] = path
    return named
