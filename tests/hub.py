"""A hub on this machine: what our code and huggingface_hub ask of the real one, and its bad days.

    with Hub({"org/name": {"config.json": b"{}", "model.safetensors": weights}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)

Files that end as one of LARGE are stored as the real hub stores large files: their etag is the sha256,
and they come by a redirect to another host (localhost instead of 127.0.0.1, on another port). The others come from the
hub itself and are named by git's sha1. A repository may also be a folder on disk.

Bad days are switched on in `hub.faults` (see Faults); everything that was asked is in `hub.asked`.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".ckpt", ".pth", ".onnx")
COMMIT = "c0ffee" + "0" * 34


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    cdn: bool
    "Whether it came to the other host."


@dataclass
class Faults:
    """What goes wrong. Those with a list happen once for each item, in order, to requests for contents."""

    cut_after: list[int] = field(default_factory=list)
    "The connection ends after so many bytes of a body."
    cut_always: int | None = None
    "The same, every time."
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    "These answers, with these headers, instead of contents."
    listing: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    "The same, instead of a listing."
    gated: set[str] = field(default_factory=set)
    "Repositories that need the token `good`."
    ignore_range: bool = False
    "Everything is sent from its beginning."
    flip: bool = False
    "One byte of every large file is another."
    etag: str = ""
    "The etag that is told with contents, instead of the true one."
    slow: float = 0.0
    "Seconds between two pieces of 64 KiB."
    hold: threading.Event | None = None
    "The body stops after its first piece until this is set."
    to: str = ""
    "Where contents are redirected to, instead of the other host."


class Hub:
    """Serves `repos` (name → files, or a folder) until it is closed."""

    def __init__(self, repos: Mapping[str, Mapping[str, bytes] | Path]) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        for name, files in repos.items():
            if isinstance(files, Path):
                found = (p for p in sorted(files.rglob("*")) if p.is_file())
                self.repos[name] = {p.relative_to(files).as_posix(): p.read_bytes() for p in found}
            else:
                self.repos[name] = dict(files)
        self.commit = COMMIT
        self.revisions: dict[str, str] = {}
        "Repositories whose contents here are not main's but those of this revision."
        self.cards: dict[str, dict[str, Any]] = {}
        self.faults = Faults()
        self.asked: list[Asked] = []
        self._servers = [_serve(self, "127.0.0.1", False), _serve(self, "localhost", True)]
        self.url, self.cdn = (f"http://{s.name}:{s.server_address[1]}" for s in self._servers)

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self.faults.hold is not None:
            self.faults.hold.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def fetched(self, file: str = "") -> list[Asked]:
        """The requests for contents, at whichever host they ended."""
        got = [a for a in self.asked if a.method == "GET" and "/api/" not in a.path and a.path.endswith(file)]
        return [a for a in got if a.cdn or not a.path.endswith(LARGE)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    hub: Hub
    cdn: bool
    name: str

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what many tests do."""


def _serve(hub: Hub, name: str, cdn: bool) -> _Server:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub, server.cdn, server.name = hub, cdn, name
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


def blob_name(file: str, data: bytes) -> str:
    """What the hub calls contents."""
    if file.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        headers = {k.lower(): v for k, v in self.headers.items()}
        hub.asked.append(Asked(self.command, path, headers, self.server.cdn))
        if path.startswith("/api/models/"):
            self._listing(path.removeprefix("/api/models/"))
        elif "/resolve/" in path:
            repo, _, rest = path.strip("/").partition("/resolve/")
            self._contents(repo, *rest.partition("/")[::2])
        else:
            self._say(404)

    def _listing(self, path: str) -> None:
        hub = self.server.hub
        if hub.faults.listing:
            self._say(*hub.faults.listing.pop(0))
            return
        repo, _, revision = path.partition("/revision/")
        revision = revision or "main"
        if repo not in hub.repos:
            self._say(401, {"X-Error-Code": "RepoNotFound"})
            return
        if revision not in (hub.revisions.get(repo, "main"), hub.commit):
            self._say(404, {"X-Error-Code": "RevisionNotFound"})
            return
        siblings = []
        for file, data in hub.repos[repo].items():
            name = blob_name(file, data)
            one: dict[str, Any] = {"rfilename": file, "size": len(data), "blobId": name}
            if file.endswith(LARGE):
                one["blobId"] = hashlib.sha1(name.encode()).hexdigest()
                one["lfs"] = {"sha256": name, "size": len(data), "pointerSize": 134}
            siblings.append(one)
        gated = "auto" if repo in hub.faults.gated else False
        told = {"id": repo, "sha": hub.commit, "siblings": siblings, "gated": gated, "cardData": hub.cards.get(repo)}
        self._say(200, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def _contents(self, repo: str, revision: str, file: str) -> None:
        hub, faults, get = self.server.hub, self.server.hub.faults, self.command == "GET"
        if not self.server.cdn:
            if repo in faults.gated and self.headers.get("authorization") != "Bearer good":
                self._say(401 if "authorization" not in self.headers else 403, {"X-Error-Code": "GatedRepo"})
                return
            if repo not in hub.repos:
                self._say(401, {"X-Error-Code": "RepoNotFound"})
                return
            if file not in hub.repos[repo]:
                self._say(404, {"X-Error-Code": "EntryNotFound"})
                return
        if faults.statuses and get:
            self._say(*faults.statuses.pop(0))
            return
        data = hub.repos[repo][file]
        name = faults.etag or blob_name(file, data)
        said = {"X-Repo-Commit": hub.commit, "ETag": f'"{name}"', "Accept-Ranges": "bytes"}
        if file.endswith(LARGE) and not self.server.cdn:
            said |= {"X-Linked-Etag": f'"{name}"', "X-Linked-Size": str(len(data))}
            self._say(302, said | {"Location": faults.to or f"{hub.cdn}{self.path}"})
            return
        if self.server.cdn:
            said = {"ETag": '"the-other-hosts-own-3"', "Accept-Ranges": "bytes"}
            if faults.flip:
                data = data[:-1] + bytes([data[-1] ^ 1])
        start, status = 0, 200
        wanted = self.headers.get("range", "")
        if wanted and not faults.ignore_range:
            start, status = int(wanted.removeprefix("bytes=").rstrip("-").split("-")[0]), 206
            if start >= len(data):
                self._say(416)
                return
            said["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._say(status, said, data[start:], True)

    def _say(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"", bad: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        faults = self.server.hub.faults
        cut = faults.cut_always
        if bad and faults.cut_after:
            cut = faults.cut_after.pop(0)
        if bad and cut is not None and cut < len(body):
            body, self.close_connection = body[:cut], True
        for at in range(0, len(body), 65536):
            self.wfile.write(body[at : at + 65536])
            if bad and faults.slow:
                time.sleep(faults.slow)
            if bad and faults.hold is not None:
                self.wfile.flush()
                faults.hold.wait(20)
