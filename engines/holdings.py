"""What of the catalogue's entries lies in the hub's cache: hashed again, or removed.

Only what an entry itself wants is touched. A file that another entry wants, or whose contents another snapshot links
to, stays, and so does whatever other programs have in the same repository's folder. A user's own files are never
removed, and no link is followed out of the cache.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines import fetching, hub
from engines.choosing import Want, choose
from engines.entries import HubFile
from engines.errors import Stopped, StorageError
from engines.fetching import digest_for
from engines.wire import HubError, Stop, never, size

_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that was hashed again."""

    path: Path
    "Where programs find it."
    name: str
    "REPOSITORY/FILE, or the path of a user's own file."
    state: Literal["ok", "wrong", "missing", "unknown"]
    "Unknown where nothing says what it should be."
    bytes: int
    "Its size."
    found: str = ""
    "Its hash."
    expected: str = ""
    "What that should be."


@dataclass(frozen=True, slots=True)
class Checking:
    """A file is hashed just now."""

    name: str
    "As in Checked."
    done: int
    "Bytes that are read."
    of: int
    "Bytes of the file."


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal came to."""

    bytes: int
    "Freed on disk."
    files: int
    "Names that are gone."
    kept: tuple[str, ...]
    "REPOSITORY/FILE of what stays, because another entry wants it."


def held(want: Want) -> dict[str, Path]:
    """Which of a Want's files are in the cache at its revision: name in the repository → path."""
    source = want.source
    folder = hub.snapshot(source.repo, source.revision)
    if isinstance(source, HubFile):
        path = folder / source.file
        return {source.file: path} if os.path.lexists(path) and hub.is_inside(source.file) else {}
    there: dict[str, Path] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            there[path.relative_to(folder).as_posix()] = path
    sizes = {name: _bytes(path) for name, path in there.items()}
    try:
        chosen = choose(want, sizes)
    except HubError:  # an unfinished pull: whatever of it could be the entry's
        chosen = tuple(name for name in sizes if _could_be(want, name))
    return {name: there[name] for name in chosen}


def _could_be(want: Want, name: str) -> bool:
    folders = ("scheduler/", "tokenizer/", "tokenizer_2/", "text_encoder/", "text_encoder_2/", "unet/", "vae/")
    if want.layout == "pipeline" and "/" in name:
        return name.startswith(folders) and name.endswith((".json", ".safetensors", ".txt"))
    return ("/" not in name and name.endswith((".json", ".txt", ".md"))) or name in (
        "model.safetensors",
        "diffusion_pytorch_model.safetensors",
    )


def verify(
    wanted: Iterable[Want],
    own: Iterable[Path] = (),
    recorded: Mapping[Path, str] | None = None,
    stop: Stop = never,
) -> Generator[Checking | Checked, None, None]:
    """Hashes files again: what the hub gave against the cache's names and the catalogue's sha256.

    Args:
        own: files of the user's.
        recorded: path → sha256 of those, where one is known.

    Raises:
        Stopped: `stop` said so.
    """
    for want in wanted:
        source = want.source
        there = held(want)
        if not there:
            name = f"{source.repo}/{source.file}" if isinstance(source, HubFile) else source.repo
            yield Checked(source.path, name, "missing", 0)
        for file, path in there.items():
            expected = source.sha256 if isinstance(source, HubFile) else ""
            yield from _checked(path, f"{source.repo}/{file}", _blob_name(path), expected, stop)
    for path in own:
        yield from _checked(path, str(path), "", (recorded or {}).get(path, ""), stop)


def _checked(path: Path, name: str, blob: str, listed: str, stop: Stop) -> Generator[Checking | Checked, None, None]:
    count = _bytes(path)
    wanted = listed or blob
    digest = digest_for(wanted, count) or digest_for("0" * 64, count)
    assert digest is not None
    done = 0
    try:
        with open(path, "rb") as f:
            while piece := f.read(_PIECE):
                if stop():
                    raise Stopped
                digest.update(piece)
                done += len(piece)
                yield Checking(name, done, count)
    except OSError:
        yield Checked(path, name, "missing", 0, "", wanted)
        return
    found = digest.hexdigest()
    # a blob by a sha256 that is not the catalogue's is wrong, though the hub may have meant it
    state: Literal["ok", "wrong", "unknown"] = "unknown" if not digest_for(wanted, 0) else "wrong"
    yield Checked(path, name, "ok" if found == wanted else state, done, found, wanted)


def discard(checked: Checked) -> None:
    """Removes a file of the cache that was found wrong, so that the next pull fetches it. Raises StorageError."""
    if hub.cache() not in checked.path.parents:
        raise StorageError(f"{checked.path} is your own file", "replace it yourself")
    _unlink(checked.path, _contents(checked.path))


def remove(wanted: Iterable[Want], keep: Iterable[Want]) -> Removed:
    """Removes what is wanted and nobody else wants.

    Args:
        keep: the Wants of every other entry of the catalogue.

    Raises:
        StorageError: another program fetches one of the files just now, or the cache can't be written.
    """
    wanted, keep = list(wanted), list(keep)
    others = {path for want in keep for path in held(want).values()}
    still = {want.source.repo for want in keep}
    freed = files = 0
    stays: list[str] = []
    for want in wanted:
        for name, path in held(want).items():
            if path in others:
                stays.append(f"{want.source.repo}/{name}")
                continue
            freed += _unlink(path, _contents(path))
            files += 1
        repo = want.source.repo
        known = want.source.sha256 if isinstance(want.source, HubFile) else ""
        for partial in (hub.storage(repo) / "blobs").glob(f"*{fetching.PARTIAL}"):
            if repo not in still or (known and partial.name.startswith(known)):
                freed += _unlink(partial, None)
        _tidy(repo)
    return Removed(freed, files, tuple(stays))


def _unlink(path: Path, blob: Path | None) -> int:
    """Removes a name, and the contents if no other name leads to them; how many bytes that frees."""
    try:
        if blob is None:
            count = _bytes(path) if not path.is_symlink() else 0
            path.unlink(missing_ok=True)
            return count
        with fetching.alone(blob) as held_alone:
            if not held_alone:
                raise StorageError(f"{path.name} is being fetched by another program", "try again when that is done")
            path.unlink(missing_ok=True)
            if _linked(blob):
                return 0
            count = 0 if blob.is_symlink() else _bytes(blob)
            shared = blob.resolve() if blob.is_symlink() else None
            blob.unlink(missing_ok=True)
            return count + (_sweep(shared) if shared is not None else 0)
    except OSError as e:
        raise fetching.told(e, path.parent) from e


def _contents(path: Path) -> Path | None:
    """The blob of its own repository that a name in a snapshot leads to; one step, because a blob may be a link too."""
    try:
        target = Path(os.path.normpath(path.parent / os.readlink(path)))
    except OSError:
        return None
    storage = next((p.parent for p in path.parents if p.name == "snapshots"), None)
    return target if storage is not None and target.parent == Path(os.path.normpath(storage / "blobs")) else None


def _blob_name(path: Path) -> str:
    blob = _contents(path)
    return blob.name if blob is not None else ""


def _linked(blob: Path) -> bool:
    """Whether a name in any snapshot of the repository leads to a blob."""
    for root, _, names in os.walk(blob.parent.parent / "snapshots"):
        for name in names:
            if _contents(Path(root, name)) == blob:
                return True
    return False


def _sweep(shared: Path) -> int:
    """Lets huggingface_hub free contents that lie in the store of all repositories, if none of them has them any more.

    Where its version has no such store, or another one, they stay: they are not ours.
    """
    count = _bytes(shared)
    try:
        from huggingface_hub.utils import _shared_blobs

        _shared_blobs.sweep_shared_blob(shared, cache_dir=hub.cache())
    except (ImportError, AttributeError, TypeError, OSError):
        return 0
    return count if not shared.exists() else 0


def _tidy(repo: str) -> None:
    """Removes folders that are empty, and the names of revisions that have no files left."""
    storage = hub.storage(repo)
    for top in ("snapshots", "blobs"):
        for root, _, _ in os.walk(storage / top, topdown=False):
            with suppress(OSError):
                os.rmdir(root)
    for root, _, names in os.walk(storage / "refs", topdown=False):
        for name in names:
            with suppress(OSError, ValueError):
                commit = Path(root, name).read_text(encoding="ascii").strip()
                if hub.COMMIT.fullmatch(commit) and not (storage / "snapshots" / commit).exists():
                    Path(root, name).unlink()
        with suppress(OSError):
            os.rmdir(root)
    with suppress(OSError):
        os.rmdir(storage)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def told(removed: Removed) -> str:
    """One line: how much is free now, and what stays."""
    files = f"{removed.files} file{'s' * (removed.files != 1)}"
    stays = f"; {len(removed.kept)} stay, because others want them" if removed.kept else ""
    return f"{files} removed, {size(removed.bytes)} freed{stays}"
