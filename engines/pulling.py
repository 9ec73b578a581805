"""Getting what is wanted from the hub: how much it is, whether there is room, and then fetching it.

Nothing here knows the catalogue: what an entry needs is a list of Wants. A plan is made from the repositories' own
listings, so that sizes, hashes and gates are known before a byte of weights is asked for.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines import fetching, hub
from engines.choosing import Want, choose
from engines.entries import HubFile
from engines.errors import DiskFull
from engines.events import Noted, Pulling
from engines.fetching import Remote, digest_for
from engines.wire import HubError, Wire, size

MARGIN = 256 * 1024 * 1024
"Bytes that a disk must have left after a pull."
EVERY = 0.2
"Seconds between two Pulling events."
RATE_OVER = 5.0
"Seconds that a rate is taken over."


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be fetched."""

    files: tuple[Remote, ...]
    "All files, those that are here included."
    bytes: int
    "Of all files."
    here_bytes: int
    "Of those, what is here: whole files of any program, and what an earlier pull left."
    gated: tuple[str, ...]
    "Repositories whose makers ask for agreement first."
    licences: tuple[str, ...]
    "REPOSITORY: LICENCE, as their cards say."
    also: tuple[Remote, ...] = ()
    "Files of the same repositories that other entries have here and that are the same at the new commit."

    @property
    def to_fetch(self) -> int:
        """Bytes."""
        return self.bytes - self.here_bytes


def plan(wanted: Iterable[Want], wire: Wire) -> Generator[Noted, None, Plan]:
    """Asks the hub what is to be fetched.

    Raises:
        HubError: refused, not there, or not what the catalogue says.
        Stopped: the wire was asked to stop.
    """
    files: dict[tuple[str, str, str], Remote] = {}
    listings: dict[tuple[str, str], dict[str, Remote]] = {}
    gated: dict[str, None] = {}
    licences: dict[str, None] = {}
    for want in wanted:
        source = want.source
        key = (source.repo, source.revision)
        if key not in listings:
            told = yield from wire.listing(source.repo, source.revision)
            listings[key] = _read(told, source.repo, source.revision)
            if told.get("gated"):
                gated[source.repo] = None
            if licence := _licence(told):
                licences[f"{source.repo}: {licence}"] = None
        listed = listings[key]
        for name in choose(want, {n: r.bytes for n, r in listed.items()}):
            remote = listed[name]
            if isinstance(source, HubFile) and source.sha256 and remote.blob != source.sha256:
                raise HubError(
                    f"{source.repo} has another {source.file} than the catalogue knows: sha256 {remote.blob[:12]}… "
                    f"instead of {source.sha256[:12]}…",
                    f"it was changed since; see {wire.page(source.repo)}",
                )
            files[(*key, name)] = remote
    also = [r for listed in listings.values() for r in _kept(listed) if (r.repo, r.revision, r.file) not in files]
    _drop_outdated(listings)
    chosen = tuple(files.values())
    here = {r.stored: r.came() for r in chosen}
    whole = {r.stored: r.bytes for r in chosen}
    return Plan(chosen, sum(whole.values()), sum(here.values()), tuple(gated), tuple(licences), tuple(also))


def _read(told: dict[str, Any], repo: str, revision: str) -> dict[str, Remote]:
    """The files of a listing by name. Raises HubError for one that can't be trusted to stay within the cache."""
    commit, siblings = told.get("sha"), told.get("siblings")
    if not isinstance(commit, str) or not hub.COMMIT.fullmatch(commit) or not isinstance(siblings, list):
        raise HubError(f"what the hub says of {repo} can't be read", "see whether HF_ENDPOINT names a hub")
    listed: dict[str, Remote] = {}
    for one in siblings:
        if not isinstance(one, dict):
            continue
        kept = one.get("lfs")
        lfs: dict[str, Any] = kept if isinstance(kept, dict) else {}
        name, count = one.get("rfilename"), lfs.get("size", one.get("size"))
        blob = lfs.get("sha256") or lfs.get("oid") or one.get("blobId")
        if not (isinstance(name, str) and isinstance(blob, str) and isinstance(count, int)) or count < 0:
            continue
        if hub.is_inside(name) and digest_for(blob, count) is not None and "\0" not in name and "\\" not in name:
            listed[name] = Remote(repo, revision, commit, name, blob, count)
    return listed


def _licence(told: dict[str, Any]) -> str:
    card = told.get("cardData")
    if not isinstance(card, dict):
        return ""
    name = card.get("license_name") or card.get("license")
    return " ".join(name.split())[:80] if isinstance(name, str) else ""


def _kept(listed: dict[str, Remote]) -> list[Remote]:
    """Files that are here at the commit before, and that are the same at this one."""
    if not listed:
        return []
    one = next(iter(listed.values()))
    before = hub.commit(one.repo, one.revision)
    if not before or before == one.commit:
        return []
    old = hub.storage(one.repo) / "snapshots" / before
    return [r for r in listed.values() if r.has_contents() and os.path.lexists(old / r.file)]


def _drop_outdated(listings: dict[tuple[str, str], dict[str, Remote]]) -> None:
    """Removes what came of contents that a repository no longer has, unless another program is at it."""
    for repo in {repo for repo, _ in listings}:
        known = {r.blob for (name, _), listed in listings.items() if name == repo for r in listed.values()}
        try:
            left = list((hub.storage(repo) / "blobs").glob(f"*{fetching.PARTIAL}"))
            for partial in left:
                blob = partial.with_name(partial.name.removesuffix(fetching.PARTIAL))
                if blob.name not in known:
                    with fetching.alone(blob) as held:
                        if held:
                            partial.unlink(missing_ok=True)
        except OSError:
            continue  # a cache that can't be written is told where it is written


def check_room(plan: Plan) -> None:
    """Raises DiskFull unless every disk has room for what is to be fetched, and MARGIN more."""
    lacking: dict[int, int] = {}
    places: dict[int, Path] = {}
    for remote in {r.stored: r for r in plan.files}.values():
        place = remote.stored.parent
        while not place.exists() and place != place.parent:
            place = place.parent
        disk = place.stat().st_dev
        lacking[disk] = lacking.get(disk, 0) + remote.bytes - remote.came()
        places.setdefault(disk, place)
    for disk, count in lacking.items():
        free = shutil.disk_usage(places[disk]).free
        if count and count + MARGIN > free:
            raise DiskFull(
                f"{size(count)} are to be fetched, and the disk of {places[disk]} has {size(free)} free",
                f"free {size(count + MARGIN - free)}, or set HF_HOME to a folder on a larger disk",
            )


def pull(wanted: Iterable[Want], wire: Wire) -> Generator[Pulling | Noted, None, Plan]:
    """Fetches what is wanted and isn't here.

    The name of the revision is set last: until everything is here, other programs and we find what was there before.

    Raises:
        HubError, DiskFull, StorageError, Stopped: as in `plan`, `check_room` and `fetching.fetch`.
    """
    made = yield from plan(wanted, wire)
    check_room(made)
    todo = tuple(r for r in made.files if not r.is_here())
    meter = _Meter(wire, made, len(todo))
    for number, remote in enumerate(todo, 1):
        meter.begin(remote, number)
        for told in fetching.fetch(remote, wire):
            if isinstance(told, Noted):
                yield told
            elif event := meter.at(told):
                yield event
    if event := meter.last():
        yield event
    for remote in made.also:
        fetching.link(remote)
    for repo, revision, commit in {(r.repo, r.revision, r.commit): None for r in made.files}:
        _set_revision(repo, revision, commit)
    return made


def _set_revision(repo: str, revision: str, commit: str) -> None:
    if revision == commit or hub.commit(repo, revision) == commit:
        return
    path = hub.storage(repo) / "refs" / revision
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(commit, encoding="ascii")
        os.replace(partial, path)
        fetching.sync_folder(path.parent)
    except OSError as e:
        raise fetching.told(e, path.parent) from e
    finally:
        partial.unlink(missing_ok=True)


class _Meter:
    """Bytes and their rate, told at most every EVERY seconds."""

    def __init__(self, wire: Wire, plan: Plan, files: int) -> None:
        self._wire = wire
        self._files = files
        self._of = plan.bytes
        self._done = plan.here_bytes
        self._seen: deque[tuple[float, int]] = deque()
        self._received = 0
        self._told = float("-inf")
        self._event: Pulling | None = None

    def begin(self, remote: Remote, number: int) -> None:
        self._remote, self._number = remote, number
        self._file = remote.came()

    def at(self, here: int) -> Pulling | None:
        now = self._wire.clock()
        self._done += here - self._file
        self._received += max(0, here - self._file)
        self._file = here
        self._seen.append((now, self._received))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_OVER:
            self._seen.popleft()
        began, before = self._seen[0]
        rate = (self._received - before) / (now - began) if now > began else 0.0
        remote = self._remote
        self._event = Pulling(
            self._wire.job_id or 0,
            remote.file,
            self._number,
            self._files,
            here,
            remote.bytes,
            self._done,
            self._of,
            rate,
        )
        if now - self._told < EVERY:
            return None
        return self._tell(now)

    def last(self) -> Pulling | None:
        return self._tell(self._wire.clock())

    def _tell(self, now: float) -> Pulling | None:
        event, self._event = self._event, None
        if event is not None:
            self._told = now
        return event
