"""A store on loopback that speaks as much of S3 as pyarrow asks for, keeps objects in memory and checks no signature.

`refused` are operations ("GET", "PUT", "LIST") that are answered with AccessDenied. `vanishing` are keys that a listing
shows and that are gone when they are read.
"""

import hashlib
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

XML = '<?xml version="1.0" encoding="UTF-8"?>'


@dataclass
class Store:
    port: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    vanishing: set[str] = field(default_factory=set)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def address(self, key: str) -> str:
        """Of a key with its bucket first, for pyarrow."""
        return f"s3://{key}?scheme=http&endpoint_override=127.0.0.1:{self.port}&region=eu"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, *_: object) -> None:
        pass

    def _begin(self) -> None:
        parts = urlsplit(self.path)
        self.key = unquote(parts.path).removeprefix("/")
        self.query = parse_qs(parts.query, keep_blank_values=True)
        self.body = self._body()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            raw = b""
            while size := int(self.rfile.readline(), 16):
                raw += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return raw
        content, begin = [], 0
        while begin < len(raw):
            end = raw.index(b"\r\n", begin)
            size = int(raw[begin:end].split(b";")[0], 16)
            if size == 0:
                break
            content.append(raw[end + 2 : end + 2 + size])
            begin = end + 2 + size + 2
        return b"".join(content)

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items() - {("Length", headers.get("Length"))}:
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("Length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _xml(self, status: int, inner: str) -> None:
        self._send(status, f"{XML}{inner}".encode(), Content_Type="application/xml")

    def _refuse(self, operation: str) -> bool:
        if operation not in self.store.refused and "Authorization" in self.headers:
            return False
        self._xml(403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
        return True

    def do_HEAD(self) -> None:
        self._begin()
        if "/" not in self.key.strip("/"):
            self._send(200)
        elif self.key in self.store.objects:
            self._send(200, **self._about(self.store.objects[self.key], length=True))
        else:
            self._send(404)

    def _about(self, content: bytes, *, length: bool = False) -> dict[str, str]:
        modified = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(1_700_000_000))
        about = {"ETag": f'"{hashlib.md5(content).hexdigest()}"', "Last_Modified": modified}
        return about | ({"Length": str(len(content))} if length else {})

    def do_GET(self) -> None:
        self._begin()
        if "list-type" in self.query:
            if not self._refuse("LIST"):
                self._list()
            return
        if self._refuse("GET"):
            return
        content = self.store.objects.get(self.key)
        if content is None or self.key in self.store.vanishing:
            self._xml(404, "<Error><Code>NoSuchKey</Code><Message>The key does not exist.</Message></Error>")
            return
        if (wanted := self.headers.get("Range")) is None:
            self._send(200, content, **self._about(content))
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        end = min(int(last or len(content) - 1), len(content) - 1)
        place = f"bytes {first}-{end}/{len(content)}"
        self._send(206, content[int(first) : end + 1], Content_Range=place, **self._about(content))

    def _list(self) -> None:
        prefix, delimiter = (self.query.get(name, [""])[0] for name in ("prefix", "delimiter"))
        bucket = self.key.strip("/")
        rows, folders = [], set()
        for key, content in sorted(self.store.objects.items()):
            owner, _, name = key.partition("/")
            if owner != bucket or not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
                continue
            rows.append(
                f"<Contents><Key>{escape(name)}</Key><Size>{len(content)}</Size>"
                "<LastModified>2023-11-14T22:13:20.000Z</LastModified></Contents>"
            )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in folders)
        most = int(self.query.get("max-keys", ["1000000"])[0])
        self._xml(
            200,
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
            f"<KeyCount>{len(rows[:most])}</KeyCount>{''.join(rows[:most])}{common}</ListBucketResult>",
        )

    def do_PUT(self) -> None:
        self._begin()
        if self._refuse("PUT"):
            return
        if "uploadId" in self.query:
            self.store.uploads[self.query["uploadId"][0]][int(self.query["partNumber"][0])] = self.body
        else:
            self.store.objects[self.key] = self.body
        self._send(200, **self._about(self.body))

    def do_POST(self) -> None:
        self._begin()
        if self._refuse("PUT"):
            return
        bucket, _, name = self.key.partition("/")
        if "uploads" in self.query:
            number = str(next(self.store.numbers))
            self.store.uploads[number] = {}
            inner = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><UploadId>{number}</UploadId>"
            self._xml(200, f"<InitiateMultipartUploadResult>{inner}</InitiateMultipartUploadResult>")
            return
        parts = self.store.uploads.pop(self.query["uploadId"][0])
        self.store.objects[self.key] = b"".join(parts[number] for number in sorted(parts))
        inner = f'<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><ETag>"x"</ETag>'
        self._xml(200, f"<CompleteMultipartUploadResult>{inner}</CompleteMultipartUploadResult>")

    def do_DELETE(self) -> None:
        self._begin()
        if not self._refuse("PUT"):
            self.store.objects.pop(self.key, None)
            self._send(204)


@contextmanager
def running_store() -> Iterator[Store]:
    """The store, which answers while the block runs."""
    store = Store()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Answer,), {"store": store}))
    store.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
