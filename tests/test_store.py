"""Queue and history: what survives, and whose job is whose."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.errors import InvalidRequest, StorageError
from engines.requests import Generate, Score, Seconds, Warm, from_json, to_json
from engines.store import MAX_ATTEMPTS, MIGRATIONS, Made, Store

APPLE = Generate("a red apple", "mini", 2**63 - 1, 128, 128, 25, 4.5)


def jpeg() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (48, 30), (200, 10, 10)).save(buffer, "JPEG")
    return buffer.getvalue()


def made(prompt: str = "a red apple", seed: int = 1, **scores: float) -> Made:
    request = Generate(prompt, "mini", seed, 128, 128, 25, 4.5)
    return Made(f"/pictures/{seed}.png", request, 128, 128, Seconds(total=1.5), {"torch": "2"}, jpeg(), scores)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "safelight.db"


def died(path: Path, kind: str, claim: bool = False) -> list[int]:
    """Queues two jobs in a process that ends without a word, the first perhaps running; returns their ids."""
    script = (
        "import os, sys; from pathlib import Path; from engines.store import Store; "
        "from engines.requests import Generate\n"
        f"s = Store(Path({str(path)!r})); e = s.register({kind!r}); "
        "jobs = s.add([Generate('a', 'mini', i, 128, 128, 2, 0.0) for i in (1, 2)], None, e); "
        + ("assert s.claim(jobs[0].id, e); " if claim else "")
        + "print(jobs[0].id, jobs[1].id, flush=True); os._exit(9)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return [int(x) for x in out.stdout.split()]


def test_requests_come_back_as_they_were() -> None:
    for request in (APPLE, Warm("mini"), Score(("/a b.png",), "ä “apple”", "mini-clip")):
        assert from_json(to_json(request)) == request
    for bad in (
        "",
        "[]",
        "{}",
        '{"kind": "x"}',
        '{"kind": "generate"}',
        "[" * 5000,
        '{"kind": "warm", "model": 3, "x": 1}'[:-1],
    ):
        with pytest.raises(InvalidRequest):
            from_json(bad)


def test_a_finished_job_is_in_the_history_with_all_that_was_said(path: Path) -> None:
    store = Store(path)
    engine = store.register("command")
    (job,) = store.add([APPLE], "group", engine)
    assert store.state(job.id) == "queued"
    assert store.claim(job.id, engine) and not store.claim(job.id, engine)
    (picture,) = store.finish(job.id, [made(seed=2**63 - 1, clip=31.5)])
    assert store.state(job.id) == "done"
    store.close()
    again = Store(path)
    assert again.pictures() == [picture] == [again.last()] == [again.picture(picture.id)]
    assert picture.scores == {"clip": 31.5} and picture.request.seed == 2**63 - 1
    small = again.thumbnail(picture.id)
    assert small is not None and (small.width, small.height) == (48, 30) and len(small.data) == 48 * 30 * 3
    again.rate(picture.id, 4)
    assert again.picture(picture.id).rating == 4
    again.add_scores(picture.path, {"clip": 30.0, "other": 1.0})
    assert again.picture(picture.id).scores == {"clip": 30.0, "other": 1.0}


def test_history_is_paged_and_searched(path: Path) -> None:
    store = Store(path)
    engine = store.register("command")
    for i in range(7):
        (job,) = store.add([APPLE], None, engine)
        store.finish(job.id, [made(f"picture {i} 100% a_b", seed=i)])
    first = store.pictures(limit=3)
    assert [p.request.seed for p in first] == [6, 5, 4]
    assert [p.request.seed for p in store.pictures(before=first[-1].id, limit=3)] == [3, 2, 1]
    assert store.count() == 7
    assert [p.request.seed for p in store.pictures(search="PICTURE 3")] == [3]
    assert len(store.pictures(search="100%")) == 7 and not store.pictures(search="1000%")
    assert len(store.pictures(search="a_b")) == 7 and not store.pictures(search="a_c b")


def test_unknown_pictures_are_refused(path: Path) -> None:
    store = Store(path)
    for work in (lambda: store.picture(1), lambda: store.picture(2**70), lambda: store.rate(1, 3), store.last):
        with pytest.raises(InvalidRequest):
            work()
    with pytest.raises(InvalidRequest):
        store.rate(1, 6)
    assert store.thumbnail(1) is None


def test_a_dead_workbenchs_queue_goes_on_in_the_next(path: Path) -> None:
    ids = died(path, "workbench", claim=True)
    store = Store(path)
    assert [j.id for j in store.queued()] == ids
    command = store.register("command")
    assert store.adopt(command, "command").jobs == ()
    store.close()
    store = Store(path)
    engine = store.register("workbench")
    adopted = store.adopt(engine, "workbench")
    assert [j.id for j in adopted.jobs] == ids
    assert adopted.jobs[0].attempts == 1 and adopted.jobs[1].attempts == 0
    assert store.claim(ids[0], engine)


def test_a_job_that_brings_its_engine_down_too_often_is_set_aside(path: Path) -> None:
    first, second = died(path, "workbench", claim=True)
    for _ in range(MAX_ATTEMPTS - 1):
        script = (
            "import os; from pathlib import Path; from engines.store import Store\n"
            f"s = Store(Path({str(path)!r})); e = s.register('workbench'); a = s.adopt(e, 'workbench'); "
            f"assert s.claim({first}, e); os._exit(9)"
        )
        subprocess.run([sys.executable, "-c", script], check=False)
    store = Store(path)
    adopted = store.adopt(store.register("workbench"), "workbench")
    assert [j.id for j in adopted.set_aside] == [first]
    assert [j.id for j in adopted.jobs] == [second]
    assert store.state(first) == "failed"


def test_a_dead_commands_jobs_are_marked_and_not_made_by_another(path: Path) -> None:
    ids = died(path, "command", claim=True)
    store = Store(path)
    assert store.adopt(store.register("command"), "command").jobs == ()
    assert [store.state(i) for i in ids] == ["interrupted", "interrupted"]


def test_a_living_engines_jobs_are_left_alone(path: Path) -> None:
    one, two = Store(path), Store(path)
    first = one.register("workbench")
    (job,) = one.add([APPLE], None, first)
    second = two.register("workbench")
    assert two.adopt(second, "workbench").jobs == ()
    assert not two.claim(job.id, second)
    assert one.claim(job.id, first)


def test_leaving_in_order_keeps_a_workbenchs_queue_without_counting_an_attempt(path: Path) -> None:
    store = Store(path)
    engine = store.register("workbench")
    jobs = store.add([APPLE, APPLE], None, engine)
    store.claim(jobs[0].id, engine)
    store.leave(engine, keep=True)
    store.close()
    store = Store(path)
    adopted = store.adopt(store.register("workbench"), "workbench").jobs
    assert [j.id for j in adopted] == [j.id for j in jobs]
    assert [j.attempts for j in adopted] == [0, 0]


def test_leaving_a_command_cancels_what_is_left(path: Path) -> None:
    store = Store(path)
    engine = store.register("command")
    (job,) = store.add([APPLE], None, engine)
    store.leave(engine, keep=False)
    assert store.state(job.id) == "cancelled"
    assert not (path.parent / "engines" / engine).exists()


def test_all_requests_are_queued_or_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines import jobs

    store = Store(path)
    engine = store.register("command")
    real, calls = jobs.to_json, []

    def fails_at_the_second(request: object) -> str:
        calls.append(request)
        if len(calls) == 2:
            raise RuntimeError
        return real(request)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "to_json", fails_at_the_second)
    with pytest.raises(RuntimeError):
        store.add([APPLE, APPLE], None, engine)
    assert store.queued() == []


def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database, it never was one" * 100)
    store = Store(path)
    assert store.count() == 0
    assert "kept as" in store.note
    (aside,) = path.parent.glob("safelight.db.corrupt-*")
    assert aside.read_bytes().startswith(b"this is no database")


def broken(path: Path, first: int = 2, last: int = 8, pictures: int = 30) -> None:
    """A history whose pages from `first` to `last` are overwritten, as a failing disk does it."""
    store = Store(path)
    engine = store.register("command")
    for i in range(pictures):
        (job,) = store.add([APPLE], None, engine)
        store.finish(job.id, [made(seed=i)])
    store.close()
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    data[(first - 1) * size : last * size] = b"\xa5" * ((last - first + 1) * size)
    path.write_bytes(data)


def test_that_pictures_are_to_be_asked_is_remembered_until_it_is_done(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database, it never was one" * 100)
    for _ in range(2):
        store = Store(path)
        assert store.begun_anew and "kept as" in store.note
        store.close()
    store = Store(path)
    assert store.restore([(made(seed=1), 5.0)]) == 1
    assert not store.begun_anew and not store.note
    store.close()
    store = Store(path)
    assert not store.begun_anew and not store.note and store.count() == 1


def test_a_crash_between_keeping_aside_and_beginning_anew_forgets_nothing(path: Path) -> None:
    broken(path)
    path.rename(path.with_name(f"{path.name}.corrupt-1"))
    store = Store(path)
    assert store.begun_anew and f"{path.name}.corrupt-1" in store.note


def test_two_damaged_files_are_both_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines import database

    monkeypatch.setattr(database.time, "time", lambda: 1e9)
    path.parent.mkdir()
    for n in range(3):
        path.write_bytes(b"no database %d" % n * 100)
        Store(path).close()
    assert len(list(path.parent.glob("safelight.db.corrupt-*"))) == 3


def test_one_picture_that_cannot_be_entered_does_not_keep_the_others_out(path: Path) -> None:
    store = Store(path)
    strange = [
        made(seed=2**70),
        replace(made(seed=2), path="/a\udcff.png"),
        replace(made(seed=3), width=None),  # type: ignore[arg-type]
        replace(made(seed=4), thumbnail=object()),  # type: ignore[arg-type]
        replace(made(seed=5), scores={3j: 1.0}),  # type: ignore[dict-item]
    ]
    kept = [made(seed=7), made(seed=8, a=float("nan"), b=1.0)]
    assert store.restore([(m, 5.0) for m in (kept[0], *strange, kept[1])]) == 2
    assert [(p.request.seed, p.scores) for p in store.pictures()] == [(8, {"b": 1.0}), (7, {})]


def test_a_score_that_is_no_number_does_not_keep_a_picture_out(path: Path) -> None:
    store = Store(path)
    (job,) = store.add([APPLE], None, store.register("command"))
    (picture,) = store.finish(job.id, [made(seed=1, clip=float("nan"), other=2.0)])
    assert store.pictures() == [picture] and picture.scores == {"other": 2.0}
    store.add_scores(picture.path, {"clip": float("nan"), "third": 3.0})
    assert store.picture(picture.id).scores == {"other": 2.0, "third": 3.0}


def test_damage_behind_the_first_page_is_met_when_the_file_is_opened(path: Path) -> None:
    broken(path)
    store = Store(path)
    assert store.begun_anew and "kept as" in store.note and store.count() == 0
    (job,) = store.add([APPLE], None, store.register("command"))
    store.finish(job.id, [made()])
    assert store.count() == 1


@pytest.mark.parametrize("cut", [100, 4096, 20_000])
def test_a_file_that_was_cut_short_is_kept_aside(path: Path, cut: int) -> None:
    broken(path, 1, 0)
    os.truncate(path, cut)
    store = Store(path)
    assert store.begun_anew and store.pictures() == []


def test_damage_in_a_large_file_is_met_in_use_and_mended_at_the_next_opening(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines import database

    monkeypatch.setattr(database, "CHECKED_WHOLE", 0)
    pages = 40
    broken(path, pages, pages + 4, pictures=100)
    store = Store(path)
    assert not store.begun_anew
    with pytest.raises(StorageError, match="damaged") as told:
        store.pictures(limit=100)
    assert "start safelight again" in told.value.hint
    store.close()
    store = Store(path)
    assert store.begun_anew and store.pictures() == []
    store.restore([])
    store.close()
    assert not Store(path).begun_anew


def test_damage_in_the_roots_of_a_large_file_is_met_when_it_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines import database

    monkeypatch.setattr(database, "CHECKED_WHOLE", 0)
    broken(path)
    assert Store(path).begun_anew


def test_of_two_programs_that_meet_damage_one_keeps_it_aside(path: Path) -> None:
    broken(path)
    opened: list[Store] = []
    threads = [threading.Thread(target=lambda: opened.append(Store(path))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(opened) == 4 and all(s.begun_anew for s in opened)
    assert len([p for p in path.parent.glob("*.corrupt-*") if not p.name.endswith(("-wal", "-shm"))]) == 1
    (job,) = opened[0].add([APPLE], None, "x")
    assert opened[3].state(job.id) == "queued"


def test_a_history_of_the_first_version_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.executescript(MIGRATIONS[0])
    db.execute("INSERT INTO engines VALUES ('c', 'command', 1, 1.0), ('w', 'workbench', 1, 1.0)")
    for engine in ("c", "w"):
        db.execute(
            "INSERT INTO jobs (request, engine, state, created) VALUES (?, ?, 'queued', 1.0)", (to_json(APPLE), engine)
        )
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    store = Store(path)
    assert not store.begun_anew
    adopted = store.adopt(store.register("workbench"), "workbench")
    assert [j.id for j in adopted.jobs] == [2] and store.state(1) == "interrupted"


def test_a_row_that_cannot_be_read_does_not_fail_the_page(path: Path) -> None:
    store = Store(path)
    (job,) = store.add([APPLE], None, store.register("command"))
    store.finish(job.id, [made(seed=i, clip=1.0) for i in range(1, 11)])
    for id, change in {
        2: "request = 'no json'",
        3: """request = '{"kind": "warm", "model": "x"}'""",
        4: "seconds = '{\"what\": 1}'",
        5: "made_with = '[1]'",
        6: "request = CAST(x'ff22fe' AS TEXT)",
        7: "seconds = '[[['",
        8: "created = 'soon'",
        10: "request = x'00ff', width = 'wide'",
    }.items():
        store._db.execute(f"UPDATE pictures SET {change} WHERE id = ?", (id,))
    store._db.execute("UPDATE pictures SET thumbnail = x'ffd8ff00' WHERE id = 9")
    assert [p.id for p in store.pictures()] == [9, 1]
    assert [p.id for p in store.pictures(limit=2)] == [9, 1], "a page is full while there are pictures"
    assert [p.id for p in store.pictures(before=9, limit=1)] == [1]
    assert store.last().id == 9 and store.thumbnail(9) is None
    with pytest.raises(InvalidRequest):
        store.picture(4)


def test_jobs_of_an_engine_that_nobody_knows_go_on_or_are_marked(path: Path) -> None:
    ids = died(path, "workbench", claim=True)
    typed = died(path, "command")
    store = Store(path)
    store._db.execute("DELETE FROM engines")
    command = store.register("command")
    assert store.adopt(command, "command").jobs == ()
    assert [store.state(i) for i in typed] == ["interrupted", "interrupted"]
    adopted = store.adopt(store.register("workbench"), "workbench")
    assert [j.id for j in adopted.jobs] == ids


def test_an_engine_that_cannot_be_asked_counts_as_alive(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines import jobs

    died(path, "workbench")
    store = Store(path)
    engine = store.register("workbench")
    real = os.open

    def no_descriptors(name: Any, *args: Any, **kwargs: Any) -> int:
        if Path(name).parent.name == "engines":
            raise OSError(errno.EMFILE, "Too many open files")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(jobs.os, "open", no_descriptors)
    assert store.adopt(engine, "workbench").jobs == ()
    monkeypatch.undo()
    assert len(store.adopt(engine, "workbench").jobs) == 2


def test_an_engine_that_cannot_hold_a_lock_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines import jobs

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    store = Store(path)
    monkeypatch.setattr(jobs.fcntl, "flock", unsupported)
    with pytest.raises(StorageError, match="locked") as told:
        store.register("workbench")
    assert "SAFELIGHT_HOME" in told.value.hint
    monkeypatch.undo()
    assert list((path.parent / "engines").iterdir()) == [] == store.query("SELECT * FROM engines")
    (path.parent / "engines").rmdir()
    (path.parent / "engines").write_text("")
    with pytest.raises(StorageError):
        store.register("workbench")


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(StorageError, match="newer safelight"):
        Store(path)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS) + 1


def test_a_migration_that_fails_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines import database

    Store(path).close()
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE new (x); CREATE TABLE jobs (y)"))
    with pytest.raises(StorageError):
        Store(path)
    monkeypatch.undo()
    store = Store(path)
    assert store.count() == 0
    assert not sqlite3.connect(path).execute("SELECT 1 FROM sqlite_master WHERE name = 'new'").fetchone()


def test_only_the_owner_can_read_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = os.umask(0)
    try:
        # the mask belongs to all threads: another one may be writing a picture just now
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the mask was set"))
        store = Store(path)
        store.register("command")
        monkeypatch.undo()
    finally:
        os.umask(old)
    files = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_programs_and_many_threads_write_without_losing_anything(path: Path) -> None:
    stores = [Store(path), Store(path)]
    engines = [s.register("command") for s in stores]

    def work(which: int) -> None:
        for i in range(20):
            (job,) = stores[which].add([APPLE], None, engines[which])
            stores[which].finish(job.id, [made(seed=i)])

    threads = [threading.Thread(target=work, args=(n % 2,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert stores[0].count() == 80


def test_an_opening_waits_for_another_programs_lock(path: Path) -> None:
    Store(path).close()
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("PRAGMA journal_mode = DELETE")
    holder.execute("BEGIN EXCLUSIVE")
    threading.Timer(0.3, lambda: holder.execute("COMMIT")).start()
    store = Store(path)
    assert store.count() == 0
    holder.close()
