"""What is asked of a hub, through the package huggingface_hub: addresses, tokens, proxies and caches are its own rules.

A hub may be a mirror that HF_ENDPOINT names, so nothing that it answers is believed: names, commits and etags are
looked at before they become paths, a body may not be longer than was said, and hashes are computed here.
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from deploy.errors import HubError, MissingPackage
from deploy.hub.address import MAIN, Address, is_plain_path

LIBRARY = "idm-deploy"
MOST_LISTING_BYTES = 64 << 20
MOST_UNSAID_BYTES = 1 << 30
"""Of a file whose size the hub does not say."""
SMALL_FILE_BYTES = 64 << 20
"""Of what is read to choose files: a bundle's or a pipeline's list."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{5,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Counted = Callable[[int], None]
"""Called with the number of bytes that have come since the last call; fewer than none where some come again."""


class UnreachableHub(HubError):  # noqa: N818  a state of the network rather than an error of the user
    """The hub cannot be asked, now or from here; what was fetched before may do."""


class _Lfs(msgspec.Struct):
    sha256: str | None = None
    size: int | None = None


class _Sibling(msgspec.Struct):
    rfilename: str
    size: int | None = None
    blobId: str | None = None  # noqa: N815  the hub's name
    lfs: _Lfs | None = None


class _Answer(msgspec.Struct):
    sha: str
    siblings: list[_Sibling] = []


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """What the hub says of a file; None where it does not say."""

    size: int | None
    sha256: str | None
    git_sha1: str | None
    """Of small files, as git names them: the SHA-1 of `blob`, the length, a zero byte and the content."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A repository at one commit."""

    commit: str
    files: Mapping[str, RemoteFile]


def hub_package() -> Any:
    """The package huggingface_hub, its telemetry off."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read at its import
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingPackage("Models on a hub need huggingface_hub: pip install 'idm-deploy[hub]'.") from error
    return huggingface_hub


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, else https://huggingface.co."""
    hub_package()
    from huggingface_hub import constants

    if not re.match(r"https?://[^/\s]", constants.ENDPOINT):
        raise HubError(
            f"HF_ENDPOINT is {constants.ENDPOINT[:80]!r}, which is no address; write one such as https://huggingface.co."
        )
    return constants.ENDPOINT


def assets_folder() -> Path:
    """Where tools keep what they make of downloads: HF_ASSETS_CACHE, else $HF_HOME/assets."""
    hub_package()
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE) / LIBRARY


def list_files(address: Address) -> Listing:
    """The commit that the address means now, and the files there."""
    hub_package()
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    from deploy import __version__

    revision = (address.revision or MAIN).replace("/", "%2F")
    url = f"{endpoint()}/api/models/{address.repository}/revision/{revision}"
    headers = build_hf_headers(library_name=LIBRARY, library_version=__version__)
    seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with (
        refusals(address),
        get_session().stream("GET", url, headers=headers, params={"blobs": "true"}, timeout=seconds) as response,
    ):
        hf_raise_for_status(response)
        content = bytearray()
        for piece in response.iter_bytes():
            content += piece
            if len(content) > MOST_LISTING_BYTES:
                raise HubError(f"{address}: the hub's list of files does not end; it is no hub, or another is meant.")
    try:
        answer = msgspec.json.decode(bytes(content), type=_Answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise HubError(
            f"{address}: {endpoint()} does not answer as a hub does ({str(error)[:100]}). Check HF_ENDPOINT."
        ) from error
    if not _SAFE_NAME.fullmatch(answer.sha):
        raise HubError(f"{address}: the hub calls its commit {answer.sha[:60]!r}, which is none; nothing was fetched.")
    odd = [sibling.rfilename for sibling in answer.siblings if not is_plain_path(sibling.rfilename)]
    if any(name.split("/")[0] == ".." or name.startswith("/") or "/../" in name or "\\" in name for name in odd):
        raise HubError(
            f"{address}: the hub lists a file {odd[0][:60]!r}, which would lie outside its folder; nothing was fetched."
        )
    files = {s.rfilename: _remote(s) for s in answer.siblings if s.rfilename not in odd}
    return Listing(commit=answer.sha, files=files)


def _remote(sibling: _Sibling) -> RemoteFile:
    """A file of git itself has its blob's SHA-1; of one in LFS that is the pointer's."""
    if sibling.lfs is not None:
        size = sibling.lfs.size if sibling.size is None else sibling.size
        return RemoteFile(size=size, sha256=sibling.lfs.sha256, git_sha1=None)
    return RemoteFile(size=sibling.size, sha256=None, git_sha1=sibling.blobId)


def fetch(address: Address, commit: str, name: str, remote: RemoteFile, counted: Counted) -> Path:
    """The path of a file in the library's own cache, fetched if it is not there, its hash as the hub said."""
    huggingface_hub = hub_package()
    known = huggingface_hub.try_to_load_from_cache(address.repository, name, revision=commit)
    if isinstance(known, str) and _difference(Path(known), remote) is None:
        counted(Path(known).stat().st_size)
        return Path(known)
    if isinstance(known, str):
        _forget(Path(known))
    bar = _bar_class(address, name, remote.size, counted)
    with refusals(address):
        _look_at_metadata(address, commit, name, remote)
        path = _downloaded(address, commit, name, bar)
        if not bar.came and (problem := _difference(path, remote)):
            _forget(path)  # another commit had it already, and it has been damaged since
            path = _downloaded(address, commit, name, bar)
    problem = _difference(path, remote)
    if problem:
        _forget(path)
        raise HubError(f"{address}: {name} arrived otherwise than the hub said: {problem}. Try again later.")
    if not bar.came:
        counted(path.stat().st_size)
    return path


def _downloaded(address: Address, commit: str, name: str, bar: Any) -> Path:
    from deploy import __version__

    return Path(
        hub_package().hf_hub_download(
            address.repository,
            name,
            revision=commit,
            library_name=LIBRARY,
            library_version=__version__,
            tqdm_class=bar,
        )
    )


def _look_at_metadata(address: Address, commit: str, name: str, remote: RemoteFile) -> None:
    """The etag and commit of which the library makes names of files are harmless, and as the hub said before."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    found = get_hf_file_metadata(hf_hub_url(address.repository, name, revision=commit), library_name=LIBRARY)
    said = remote.sha256 or remote.git_sha1
    if found.commit_hash is not None and found.commit_hash != commit:
        raise HubError(f"{address}: of {name} the hub has commit {found.commit_hash[:60]!r}, expected {commit}.")
    if found.etag is not None and (not _SAFE_NAME.fullmatch(found.etag) or found.etag != (said or found.etag)):
        raise HubError(f"{address}: of {name} the hub says the hash {found.etag[:80]!r}, expected {said or 'one'}.")
    if found.size is not None and remote.size is not None and found.size != remote.size:
        raise HubError(f"{address}: of {name} the hub says {found.size} bytes, and {remote.size} before.")
    if found.etag is not None:
        _remove_leftovers(address, found.etag)


def _remove_leftovers(address: Address, etag: str) -> None:
    """Half a file that a killed process left in the library's cache goes, unless somebody is fetching it now."""
    from filelock import FileLock, Timeout
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=address.repository, repo_type="model")
    cache = Path(constants.HF_HUB_CACHE)
    halves = list((cache / folder / "blobs").glob(f"{etag}*.incomplete"))
    lock = cache / ".locks" / folder / f"{etag}.lock"
    if not halves:
        return
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            for half in halves:
                half.unlink(missing_ok=True)
    except Timeout:  # somebody is
        pass


def _bar_class(address: Address, name: str, size: int | None, counted: Counted) -> Any:
    """What the library takes for a progress bar: it counts, and ends what is longer than was said."""

    class Bar:
        came = False

        def __init__(self, *_: object, total: float | None = None, initial: float = 0, **__: object) -> None:
            self.n, self.total = initial, total
            most = [limit for limit in (size, total) if limit is not None]
            self.most = min(most) if most else MOST_UNSAID_BYTES

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def update(self, count: float | None = 1) -> None:
            type(self).came = True
            self.n += count or 0
            if self.n > self.most:
                raise HubError(
                    f"{address}: {name} is longer than the {self.most:.0f} bytes that the hub said; it was not kept."
                )
            counted(int(count or 0))

        def close(self) -> None:
            return None

        refresh = close

        def set_description(self, *_: object, **__: object) -> None:
            return None

        set_description_str = set_postfix_str = set_description

    return Bar


def _difference(path: Path, remote: RemoteFile) -> str | None:
    """What of a file in the cache is not as the hub said; None if all is, or nothing was said."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"{size} bytes instead of {remote.size}"
    # The library calls what it keeps by its etag, which is the SHA-256 of what lies in LFS.
    blob = path.resolve().name
    expected = remote.sha256 or (blob if _SHA256.fullmatch(blob) else None)
    if expected is not None:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        return None if found == expected else f"SHA-256 {found[:16]}... instead of {expected[:16]}..."
    if remote.git_sha1 is not None:
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        with path.open("rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
        if digest.hexdigest() != remote.git_sha1:
            return f"git's SHA-1 {digest.hexdigest()[:16]}... instead of {remote.git_sha1[:16]}..."
    return None


def _forget(path: Path) -> None:
    """A file that is not what it should be leaves the library's cache, with what its name points to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def refuse_small_disk(needed: int) -> None:
    """A HubError where what is still to come does not fit beside what is there."""
    hub_package()
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise HubError(
            f"{needed / 1e6:.0f} MB are to be fetched, and {free / 1e6:.0f} MB are free at {constants.HF_HUB_CACHE}. "
            "Make room, or have HF_HOME name a folder on a larger disk."
        )


@contextmanager
def refusals(address: Address, doing: str = "fetching") -> Iterator[None]:
    """What hub, network and disk refuse inside is a HubError that says what to do."""
    from huggingface_hub import errors

    # httpx, httpx2 or requests, by the library's version.
    kinds = (kind for kind in errors.HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    transport = tuple(kind for kind in kinds if issubclass(kind, Exception))
    page = f"{endpoint()}/{address.repository}"
    try:
        yield
    except errors.LocalEntryNotFoundError as error:
        raise UnreachableHub(_unreachable(address, error)) from error
    except errors.GatedRepoError as error:
        raise HubError(_gated(address, page)) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"{address}: there is no repository {address.repository} at {endpoint()}, or it is private. Check the "
            "name; for a private one, log in with `hf auth login` or set HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"{address}: the repository has no revision {address.revision or MAIN!r}. {page}/refs lists those it has."
        ) from error
    except errors.EntryNotFoundError as error:
        raise HubError(
            f"{address}: a file of it is not there any more; try again. {page}/tree/main lists them."
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise HubError(_gated(address, page) if doing == "fetching" else _forbidden(address, page)) from error
        if status >= 500 or status == 429:
            why = "asks to wait (status 429)" if status == 429 else f"fails (status {status})"
            raise UnreachableHub(f"{doing} {address}: {endpoint()} {why}. Try again later.") from error
        raise HubError(f"{doing} {address}: {endpoint()} answers with status {status}; it is refused.") from error
    except errors.OfflineModeIsEnabled as error:
        raise UnreachableHub(
            f"{address} is not on this machine, and HF_HUB_OFFLINE forbids asking for it. Unset it, or pull it "
            "elsewhere."
        ) from error
    except transport as error:
        raise UnreachableHub(_unreachable(address, error)) from error
    except OSError as error:
        raise HubError(_refused_by_disk(address, doing, error)) from error


def _unreachable(address: Address, error: BaseException) -> str:
    words = " ".join(str(error).split())[:120] or type(error).__name__
    return (
        f"{address} is not on this machine, and {endpoint()} cannot be reached ({words}). "
        "Check the network, or HF_ENDPOINT and the proxy."
    )


def _gated(address: Address, page: str) -> str:
    return (
        f"{address} is gated: its owner has terms to accept. Open {page}, accept them, then log in with `hf auth "
        "login` or set HF_TOKEN."
    )


def _forbidden(address: Address, page: str) -> str:
    return (
        f"{address}: you may not write to {page}. Log in with `hf auth login`, or set HF_TOKEN to a token that may "
        "write."
    )


def _refused_by_disk(address: Address, doing: str, error: OSError) -> str:
    from huggingface_hub import constants

    if error.errno in _FULL:
        return (
            f"{doing} {address}: no room is left at {constants.HF_HUB_CACHE} ({error.strerror}); nothing half was "
            "kept. Make room, or have HF_HOME name a folder on a larger disk."
        )
    words = error.strerror or " ".join(str(error).split())[:160] or type(error).__name__
    return f"{doing} {address} failed: {words}. Try again; what has come is kept at {constants.HF_HUB_CACHE}."
