"""Queue and history: what survives, and whose job is whose."""

from __future__ import annotations

import io
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

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
    import engines.store as stores

    store = Store(path)
    engine = store.register("command")
    real, calls = stores.to_json, []

    def fails_at_the_second(request: object) -> str:
        calls.append(request)
        if len(calls) == 2:
            raise RuntimeError
        return real(request)  # type: ignore[arg-type]

    monkeypatch.setattr(stores, "to_json", fails_at_the_second)
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


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(StorageError, match="newer safelight"):
        Store(path)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS) + 1


def test_a_migration_that_fails_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import engines.store as stores

    Store(path).close()
    monkeypatch.setattr(stores, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE new (x); CREATE TABLE jobs (y)"))
    with pytest.raises(StorageError):
        Store(path)
    monkeypatch.undo()
    store = Store(path)
    assert store.count() == 0
    assert not sqlite3.connect(path).execute("SELECT 1 FROM sqlite_master WHERE name = 'new'").fetchone()


def test_only_the_owner_can_read_it(path: Path) -> None:
    old = os.umask(0)
    try:
        Store(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
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
