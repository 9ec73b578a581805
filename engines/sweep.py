"""Sweeps: grids of pictures that are written down before the first is made, so that a kill costs nothing but time.

A sweep's cells are rows of the store. The job of a cell carries its number in its group (`store.group_of`), and the
picture becomes the cell's in the transaction that ends the job: a cell is made once, whatever goes down in between.
"""

from __future__ import annotations

import contextlib
import json
import logging
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engines import files, metadata
from engines.errors import InvalidRequest, StorageError
from engines.history import Made
from engines.requests import Generate, Picture, from_json, to_json
from engines.store import Store

log = logging.getLogger(__name__)

MOST = 100_000
"Cells of one sweep."
BLOCK = ("prompt", "seed")
"Axes along which contenders are compared in pairs; all others make contenders."
PNG, END = b"\x89PNG\r\n\x1a\n", 4096
"What a PNG begins with, and bytes at its end in which its last chunk is: some programs write something behind it."
SLACK = 2.0
"Seconds that a file system's clock may be behind ours."


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture of a grid."""

    number: int
    "From 0, in the order in which cells are made."
    point: tuple[tuple[str, str], ...]
    "(axis, value as it was asked for) of all axes, in one order for all cells of a sweep."
    request: Generate
    "What is drawn."
    picture: Picture | None = None
    "What became of it."
    message: str = ""
    "Why there is no picture, if something went wrong."

    @property
    def block(self) -> tuple[tuple[str, str], ...]:
        """What all contenders are given alike."""
        return tuple(pair for pair in self.point if pair[0] in BLOCK)

    @property
    def prompt(self) -> str:
        """What was asked for, as it was typed; empty where there is no such axis."""
        return dict(self.point).get("prompt", "")

    @property
    def contender(self) -> tuple[tuple[str, str], ...]:
        """What is compared."""
        return tuple(pair for pair in self.point if pair[0] not in BLOCK)


@dataclass(frozen=True, slots=True)
class Sweep:
    """A grid as it is written down."""

    id: int
    "A number of the store's own."
    title: str
    "What people call it."
    command: str
    "The command that makes it again; empty if none does."
    scorers: tuple[str, ...]
    "The catalogue's ids; the first judges while pictures are made, the others when all are there. None for none."
    axes: tuple[str, ...]
    "In the order of the cells' points."
    created: float
    "Seconds since 1970."
    cells: tuple[Cell, ...]
    "All of them."
    left_out: tuple[tuple[str, str], ...] = ()
    "(who, why) of contenders that were asked for and could not be drawn at all, and of scorers that could not judge."

    @property
    def open(self) -> tuple[Cell, ...]:
        """Those that have no picture yet."""
        return tuple(cell for cell in self.cells if cell.picture is None)


def in_order(cells: Iterable[tuple[tuple[tuple[str, str], ...], Generate]]) -> list[Cell]:
    """Cells by model and what a model has to be loaded anew for, so that each is loaded once; within it as they came.

    Raises:
        InvalidRequest: there are none, or more than MOST.
    """
    found = list(cells)
    if not found:
        raise InvalidRequest("the sweep has no cells", "name a prompt and at least one model")
    if len(found) > MOST:
        raise InvalidRequest(f"the sweep has {len(found):,} cells; at most {MOST:,} are made", "take fewer values")
    first: dict[Any, int] = {}
    for _, request in found:
        first.setdefault(loaded(request), len(first))
    found.sort(key=lambda cell: first[loaded(cell[1])])  # stable
    return [Cell(number, point, request) for number, (point, request) in enumerate(found)]


def loaded(request: Generate) -> tuple[object, ...]:
    """What has to be in memory for a request: cells that share it load once, and fail together."""
    return request.model, request.mix, request.precision, request.vae, request.loras


def begin(
    store: Store,
    cells: Sequence[Cell],
    title: str,
    command: str = "",
    scorers: Sequence[str] = (),
    axes: Sequence[str] = (),
    left_out: Sequence[tuple[str, str]] = (),
) -> Sweep:
    """Writes a sweep down, whole or not at all."""
    facts = {
        "title": title, "command": command, "scorers": list(scorers), "axes": list(axes), "left_out": list(left_out),
    }  # fmt: skip
    told = json.dumps(facts, ensure_ascii=False)
    now = time.time()
    with store.transaction() as db:
        row = db.execute("INSERT INTO sweeps (told, created) VALUES (?, ?)", (told, now))
        assert row.lastrowid is not None
        db.executemany(
            "INSERT INTO cells (sweep_id, number, point, request) VALUES (?, ?, ?, ?)",
            [(row.lastrowid, cell.number, json.dumps(cell.point), to_json(cell.request)) for cell in cells],
        )
    return Sweep(row.lastrowid, title, command, tuple(scorers), tuple(axes), now, tuple(cells), tuple(left_out))


def numbers(store: Store) -> list[tuple[int, str, int, int, float]]:
    """(number, title, cells, cells that are made, seconds since 1970) of every sweep, the newest first."""
    rows = store.query(
        "SELECT s.id, s.told, s.created, count(c.number) AS cells, count(c.picture_id) AS made FROM sweeps s "
        "LEFT JOIN cells c ON c.sweep_id = s.id GROUP BY s.id ORDER BY s.id DESC"
    )
    return [(r["id"], str(_told(r["told"]).get("title", "")), r["cells"], r["made"], r["created"]) for r in rows]


def progress(store: Store, id: int) -> tuple[int, int]:
    """How many cells of a sweep have a picture, and of how many it is known why they have none."""
    (row,) = store.query(
        "SELECT count(picture_id) AS made, count(CASE WHEN picture_id IS NULL AND message != '' THEN 1 END) AS failed "
        "FROM cells WHERE sweep_id = ?",
        id,
    )
    return int(row["made"]), int(row["failed"])


def load(store: Store, id: int | None = None) -> Sweep:
    """A sweep with what has become of its cells; the newest for None.

    Raises:
        InvalidRequest: there is none of that number, or it can't be read.
    """
    where, values = ("id = ?", (id,)) if id is not None else ("1 ORDER BY id DESC LIMIT 1", ())
    rows = store.query(f"SELECT * FROM sweeps WHERE {where}", *values) if id is None or 0 <= id < 2**63 else []
    if not rows:
        which = f"no sweep {id}" if id is not None else "no sweep yet"
        raise InvalidRequest(which, "safelight sweep --list shows what there is", "sweep")
    id, told = int(rows[0]["id"]), _told(rows[0]["told"])
    made = _pictures(store, id)
    cells, unread = [], []
    for row in store.query("SELECT * FROM cells WHERE sweep_id = ? ORDER BY number", id):
        try:
            request = from_json(row["request"])
            point = tuple((str(axis), str(value)) for axis, value in json.loads(row["point"]))
        except (InvalidRequest, ValueError, TypeError):
            request, point = None, ()
        if isinstance(request, Generate):
            cells.append(Cell(row["number"], point, request, made.get(row["number"]), row["message"]))
        else:
            unread.append((f"cell {row['number']}", "it can't be read"))
    axes = tuple(str(axis) for axis in told.get("axes", ()))
    title, command = (str(told.get(name, "")) for name in ("title", "command"))
    scorers = tuple(str(scorer) for scorer in told.get("scorers", ()))
    left_out = (*((str(who), str(why)) for who, why in told.get("left_out", ())), *unread)
    return Sweep(id, title, command, scorers, axes, float(rows[0]["created"]), tuple(cells), left_out)


def fail(store: Store, sweep: int, numbers: Iterable[int], message: str) -> None:
    """Notes why cells have no picture; one that has it stays as it is."""
    with store.transaction() as db:
        db.executemany(
            "UPDATE cells SET message = ? WHERE sweep_id = ? AND number = ? AND picture_id IS NULL",
            [(message, sweep, number) for number in numbers],
        )


def note(store: Store, sweep: int, who: str, why: str) -> None:
    """Keeps with a sweep why something of it is missing: a scorer that can't be loaded, for instance. Once each."""
    with store.transaction() as db:
        row = db.execute("SELECT told FROM sweeps WHERE id = ?", (sweep,)).fetchone()
        if row is not None:
            told = _told(row["told"])
            left_out = told.get("left_out") or []
            if [who, why] not in left_out:
                told["left_out"] = [*left_out, [who, why]]
                db.execute("UPDATE sweeps SET told = ? WHERE id = ?", (json.dumps(told, ensure_ascii=False), sweep))


def mark(store: Store, id: int | None, starts: int = 0) -> None:
    """Notes which sweep a workbench is at, and how often one has begun with it without making a cell; None for none."""
    with store.transaction() as db:
        db.execute("DELETE FROM meta WHERE key = 'sweep'")
        if id is not None:
            db.execute("INSERT INTO meta VALUES ('sweep', ?)", (f"{id} {starts}",))


def settle(store: Store, id: int) -> None:
    """Forgets how often a workbench has begun with this sweep, if it is the marked one: it is left in order."""
    with store.transaction() as db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'sweep' AND value LIKE ?", (f"{id} 0", f"{id} %"))


def marked(store: Store) -> tuple[int, int] | None:
    """(sweep, starts) as `mark` wrote them; None where no sweep was left in the middle."""
    for row in store.query("SELECT value FROM meta WHERE key = 'sweep'"):
        id, _, starts = str(row["value"]).partition(" ")
        if id.isdecimal() and starts.isdecimal():
            return int(id), int(starts)
    return None


class AllGone(StorageError):
    """A folder has none of a sweep's pictures any more: its disk is away, or somebody deleted them all."""


def gone(sweep: Sweep) -> tuple[Cell, ...]:
    """Cells whose picture is not where it was, or no whole PNG any more; the disk is asked for both ends of each file.
    Raises StorageError if it doesn't answer."""
    return tuple(cell for cell in sweep.cells if cell.picture is not None and not there(Path(cell.picture.path)))


def deleted(sweep: Sweep, sure: bool = False) -> tuple[Cell, ...]:
    """Those of `gone` that somebody deleted or damaged.

    Args:
        sweep: as it is written down.
        sure: whether somebody said that all of a folder's pictures were deleted indeed.

    Raises:
        AllGone: all of a folder's pictures are gone, as if its disk were not mounted.
        StorageError: the disk doesn't answer.
    """
    lost = gone(sweep)
    if sure:
        return lost
    left = {cell.number for cell in lost}
    kept = {_folder(cell) for cell in sweep.cells if cell.picture is not None and cell.number not in left}
    for folder, count in Counter(map(_folder, lost)).items():
        if folder not in kept and (count > 1 or not _any(folder)):
            every = f"all {count} pictures" if count > 1 else "the picture"
            told = f"{every} of sweep {sweep.id} in {folder} {'are' if count > 1 else 'is'} gone"
            again, forget = f"safelight sweep --resume {sweep.id} --yes", f"--remove {sweep.id}"
            hint = f"is its disk there? If you deleted them: {again} makes them again, {forget} forgets the sweep"
            raise AllGone(told, hint)
    return lost


def _folder(cell: Cell) -> Path:
    assert cell.picture is not None
    return Path(cell.picture.path).parent


def there(path: Path) -> bool:
    """Whether a whole PNG is there, as far as both of its ends tell. Raises StorageError if the disk doesn't answer."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            if file.read(len(PNG)) != PNG:
                return False
            file.seek(-min(END, file.seek(0, 2)), 2)
            return b"IEND" in file.read()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as e:
        told = f"{path} can't be looked at: {getattr(e, 'strerror', None) or e}"
        raise StorageError(told, "see that its disk is there and may be read") from e


def _any(folder: Path) -> bool:
    """Whether a folder holds anything at all."""
    with contextlib.suppress(OSError):
        return next(folder.iterdir(), None) is not None
    return False


def reopen(store: Store, sweep: Sweep, sure: bool = False) -> tuple[Sweep, int]:
    """Opens the cells whose picture was deleted, so that they are made again; and how many these are. Takes and raises
    what `deleted` does."""
    lost = deleted(sweep, sure)
    if not lost:
        return sweep, 0
    with store.transaction() as db:
        db.executemany(
            "UPDATE cells SET picture_id = NULL, message = '' WHERE sweep_id = ? AND number = ?",
            [(sweep.id, cell.number) for cell in lost],
        )
    return load(store, sweep.id), len(lost)


def remove(store: Store, id: int) -> None:
    """Forgets a sweep; its pictures stay where they are, and in the history. Raises InvalidRequest if there is none."""
    with store.transaction() as db:
        db.execute("DELETE FROM cells WHERE sweep_id = ?", (id,))
        if db.execute("DELETE FROM sweeps WHERE id = ?", (id,)).rowcount == 0:
            raise InvalidRequest(f"no sweep {id}", "safelight sweep --list shows what there is", "sweep")
        db.execute("DELETE FROM meta WHERE key = 'sweep' AND value LIKE ?", (f"{id} %",))


def find_again(store: Store, sweep: Sweep, folder: Path, refuges: Sequence[Path] = ()) -> Sweep:
    """Enters pictures whose files are there and whose rows are not: between the two somebody pulled the plug, or the
    folder failed and the picture was kept in one of `refuges`; then it is brought into the folder, if that is possible
    now, and else entered where it is.

    Only files since the sweep was begun are looked at, and only those that no row knows.
    """
    wanted: dict[Generate, list[Cell]] = {}
    for cell in sweep.open:
        wanted.setdefault(_alone(cell.request), []).append(cell)
    known = {row["path"] for row in store.query("SELECT path FROM pictures WHERE created >= ?", sweep.created - SLACK)}
    count = 0
    places = dict.fromkeys((folder, *refuges))
    for path in (path for place in places for path in _since(place, sweep.created - SLACK)):
        if str(path) in known or not wanted:
            continue
        try:
            found = metadata.made(path)
        except Exception as e:  # Pillow's readers raise whatever a strange file leads them to
            log.info("%s was left out: %s", path, type(e).__name__)
            continue
        cells = wanted.get(_alone(found[0].request)) if found is not None else None
        if found is None or not cells:
            continue
        cell = cells.pop(0)
        if path.parent != folder:
            found = _brought(path, folder, found)
        with store.transaction() as db:
            picture = store.insert(db, 0, *found)
            db.execute(
                "UPDATE cells SET picture_id = ?, message = '' WHERE sweep_id = ? AND number = ?",
                (picture.id, sweep.id, cell.number),
            )
        count += 1
    return load(store, sweep.id) if count else sweep


def _brought(path: Path, folder: Path, found: tuple[Made, float]) -> tuple[Made, float]:
    """A picture from elsewhere, now in this folder; as it was where that has no room for it."""
    try:
        moved = files.save(folder, path.stem, path.read_bytes(), path.suffix)
    except (OSError, StorageError) as e:
        log.info("%s stays where it is: %s", path, e)
        return found
    with contextlib.suppress(OSError):  # then there are two of it, and none is lost
        path.unlink()
    return replace(found[0], path=str(moved)), found[1]


def _alone(request: Generate) -> Generate:
    """A request as its picture's file tells it: what is of the making, not of the picture, is not in it."""
    begun = None if request.init is None else Path(request.init).name
    return replace(request, score=None, preview_every=0, batch_size=1, folder=None, init=begun)


def _since(folder: Path, moment: float) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(OSError):
                if path.suffix.lower() == ".png" and path.stat().st_mtime >= moment:
                    yield path


def _pictures(store: Store, sweep: int) -> dict[int, Picture]:
    rows = store.query(
        "SELECT c.number, p.* FROM cells c JOIN pictures p ON p.id = c.picture_id WHERE c.sweep_id = ?", sweep
    )
    by_picture = {row["id"]: row["number"] for row in rows}
    return {by_picture[picture.id]: picture for picture in store.with_scores(rows)}


def _told(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
