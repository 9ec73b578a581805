"""What a repository of the hub, or a file in one, is: from its listing, its small configurations and file headers.

No weight is fetched: of a .safetensors file the first bytes, which are its header.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines import headers, hub, identify
from engines.errors import LoadError
from engines.events import Noted
from engines.headers import MAX_HEADER, shown
from engines.identify import Identified
from engines.wire import Asked, HubError, Lost, Tries, Wire

MAX_CONFIG = 1_000_000
"Bytes of a configuration that is read."
CONFIGS = ("model_index.json", "config.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")
"What a repository is told by."


def repository(repo: str, wire: Wire, revision: str = "main") -> Generator[Noted, None, Identified]:
    """What a whole repository is.

    Raises:
        HubError: it can't be had. LoadError: it holds nothing that can be used. Stopped: the wire was asked to stop.
    """
    files, commit = yield from listed(repo, wire, revision)
    configs: dict[str, dict[str, Any]] = {}
    wanted = [n for n in files if n in CONFIGS or n.endswith(".safetensors.index.json")]
    for name in wanted:
        asked = Asked(repo, revision, name)
        text = yield from _text(wire, repo, commit, asked, MAX_CONFIG)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise LoadError(f"{name} of {repo} can't be read", f"see {wire.page(repo)}") from None
        if isinstance(value, dict):
            configs[name] = value
    return identify.listing(files, configs, repo.rpartition("/")[2])


def file(repo: str, name: str, wire: Wire, revision: str = "main") -> Generator[Noted, None, Identified]:
    """What one .safetensors file of a repository is, from its header.

    Raises:
        HubError, LoadError, Stopped: as `repository`.
    """
    files, commit = yield from listed(repo, wire, revision)
    if name not in files:
        known = [n for n in files if n.endswith(".safetensors")]
        raise HubError(f"{repo} has no file {shown(name)}", f"it has {', '.join(known[:5]) or 'no .safetensors files'}")
    asked = Asked(repo, revision, name)
    start = yield from _text(wire, repo, commit, asked, 8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(MAX_HEADER, files[name] - 8):
        raise LoadError(f"{shown(name)} of {repo} is no safetensors file", f"see {wire.page(repo)}")
    text = yield from _text(wire, repo, commit, asked, 8 + length)
    header = headers.parse(Path(name), text[8:], files[name])
    return replace(identify.of_header(header, Path(name).stem), sha256=files.hashes.get(name, ""))


class Files(dict[str, int]):
    """Name → bytes of a repository's files; and their sha256 where the hub tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.hashes: dict[str, str] = {}


def listed(repo: str, wire: Wire, revision: str) -> Generator[Noted, None, tuple[Files, str]]:
    """The files of a repository, and the commit that the revision is now."""
    told = yield from wire.listing(repo, revision)
    files = Files()
    siblings = told.get("siblings")
    for each in siblings if isinstance(siblings, list) else ():
        if not isinstance(each, dict) or not isinstance(name := each.get("rfilename"), str) or not hub.is_inside(name):
            continue
        size = each.get("size")
        files[name] = size if type(size) is int and size >= 0 else 0
        lfs = each.get("lfs")
        digest = lfs.get("sha256") if isinstance(lfs, dict) else None
        if isinstance(digest, str) and hub.SHA256.fullmatch(digest):
            files.hashes[name] = digest
    commit = told.get("sha")
    return files, commit if isinstance(commit, str) and hub.COMMIT.fullmatch(commit) else revision


def _text(wire: Wire, repo: str, commit: str, asked: Asked, most: int) -> Generator[Noted, None, bytes]:
    """The first `most` bytes of a file, or all of a smaller one."""
    tries = Tries(wire)
    while True:
        body = bytearray()
        try:
            for piece in wire.get(wire.file_url(repo, commit, asked.file), asked):
                if isinstance(piece, bytes):
                    body += piece
                if len(body) >= most:
                    break
            return bytes(body[:most])
        except Lost as lost:
            yield from tries.again(lost, asked.words)
