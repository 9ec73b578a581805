"""Where the hub's cache is, and what of a repository lies in it.

It is looked up by the cache's layout, without a network or an import of huggingface_hub (0.3 s), because a list of a
thousand models asks a thousand times.

The layout is the one that huggingface_hub documents ("Understand caching"): models--ORG--NAME/ with refs/REVISION (a
commit in a text file), snapshots/COMMIT/FILE (links) and blobs/ETAG (the contents, named by their sha256 where they are
large). Other programs use the same cache: what they have fetched is here, and what we fetch is there for them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,95})/[A-Za-z0-9](?:[A-Za-z0-9._-]{0,95})")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


def cache() -> Path:
    """The folder that huggingface_hub keeps its repositories in, by the environment as it stands."""
    env = os.environ
    if named := env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expandvars(named)).expanduser()
    home = env.get("HF_HOME") or os.path.join(env.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def is_repo(text: str) -> bool:
    """Whether a text is written as the hub writes a repository: ORG/NAME."""
    return _REPO.fullmatch(text) is not None and ".." not in text and "--" not in text


def is_revision(text: str) -> bool:
    """Whether a text can be a branch, a tag or a commit, and nothing that leads out of a folder."""
    return _REVISION.fullmatch(text) is not None and ".." not in text and "//" not in text


def is_inside(name: str) -> bool:
    """Whether a file's name in a repository stays within it."""
    return bool(name) and not name.startswith("/") and all(p not in ("", ".", "..") for p in name.split("/"))


def storage(repo: str) -> Path:
    """The cache's folder of a repository, which need not be there."""
    return cache() / f"models--{repo.replace('/', '--')}"


def commit(repo: str, revision: str = "main") -> str:
    """The commit that a branch or tag was when something of it was last fetched; empty if nothing ever was."""
    if COMMIT.fullmatch(revision):
        return revision
    try:
        found = (storage(repo) / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return found if COMMIT.fullmatch(found) else ""


def snapshot(repo: str, revision: str = "main") -> Path:
    """The folder with a repository's files as they were at the last fetch; not there if nothing was fetched."""
    return storage(repo) / "snapshots" / (commit(repo, revision) or revision.replace("/", "--"))


def sha256_of(path: Path) -> str:
    """The sha256 that the cache itself knows of a file, whose blob is named by it; empty for any other file."""
    try:
        blob = path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError):
        return ""
    return blob.name if blob.parent.name == "blobs" and SHA256.fullmatch(blob.name) else ""
