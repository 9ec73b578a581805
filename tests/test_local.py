"""The engine in this process: order of events, cancelling, failing, closing. The darkroom is a stand-in."""

from __future__ import annotations

import dataclasses
import pickle
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub import Hub

from engines import catalogue, folders
from engines.entries import Adapter, HubFile
from engines.errors import DiskFull, InvalidRequest, SafelightError, Stopped
from engines.events import (
    FINAL,
    Cancelled,
    Closed,
    Done,
    Event,
    Failed,
    Finishing,
    Gauged,
    Kept,
    Loading,
    Noted,
    Pixels,
    Previewed,
    Pulling,
    Queued,
    Saved,
    Scored,
    Sketched,
    Started,
    Stepped,
    Vitals,
)
from engines.local import LocalEngine
from engines.options import Options
from engines.requests import Generate, Job, Picture, Pull, Score, Seconds, Warm
from engines.store import Made, Store, group_of

APPLE = Generate("a red apple", "mini", 7, 128, 128, 5, 0.0)


class StandIn:
    """A darkroom that takes steps when it is let to."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.free = True
        self.fault: dict[str, BaseException] = {}
        self.made: list[int] = []
        self.at_step: Callable[[int], None] = lambda step: None

    def develop(self, job: Job, stop: Callable[[], bool], began: float) -> Generator[Event, None, tuple[Made, ...]]:
        request = job.request
        if isinstance(request, Warm):
            yield Loading(job.id, "text encoders", 0.5)
            return ()
        assert isinstance(request, Generate)
        if request.prompt in self.fault:
            raise self.fault[request.prompt]
        for step in range(1, request.num_inference_steps + 1):
            if not self.free:
                self.gate.acquire()
            if stop():
                raise Stopped
            self.at_step(step)
            yield Stepped(job.id, step, request.num_inference_steps, 0.01)
        yield Finishing(job.id, "saving")
        self.made.append(job.id)
        return (Made(f"/x/{job.id}.png", request, 128, 128, Seconds(), {}, b""),)


@pytest.fixture
def engines(home: Path) -> Iterator[Callable[..., tuple[LocalEngine, StandIn]]]:
    made: list[LocalEngine] = []

    def make(kind: Any = "command") -> tuple[LocalEngine, StandIn]:
        where = folders.find()
        stand_in = StandIn()
        engine = LocalEngine(
            catalogue.load(),
            where,
            Options(where.pictures),
            Store(where.store),
            kind,
            lambda: stand_in,  # type: ignore[arg-type, return-value]
        )
        made.append(engine)
        return engine, stand_in

    yield make
    for engine in made:
        engine.close()
        engine.store.close()


def until(engine: LocalEngine, *jobs: int) -> list[Event]:
    """Events up to the last event of all these jobs."""
    seen: list[Event] = []
    left = set(jobs)
    for event in engine.events():
        seen.append(event)
        if isinstance(event, FINAL):
            left.discard(event.job_id)
        if not left:
            return seen
    raise AssertionError("closed too early")


def of(job: int, events: list[Event]) -> list[str]:
    names = []
    for e in events:
        if isinstance(e, Queued):
            owner: int | None = e.job.id
        else:
            owner = getattr(e, "job_id", None)
        if owner == job:
            names.append(type(e).__name__)
    return names


def test_every_event_pickles() -> None:
    picture = Picture(1, "/x.png", APPLE, 128, 128, Seconds(), 1.0, {"clip": 3.0}, {"torch": "2"}, 4)
    some: list[Event] = [
        Queued(Job(1, APPLE, "g", 2.0, 1)),
        Started(1),
        Loading(1, "VAE", 0.5),
        Stepped(1, 2, 3, 0.5),
        Previewed(1, 2, Pixels(1, 1, b"abc")),
        Sketched(1, Pixels(1, 1, b"abc")),
        Finishing(1, "saving"),
        Scored(1, "/x", "clip", 1.0),
        Pulling(1, "unet/model.safetensors", 1, 2, 3, 4, 5, 6, 7.0),
        Saved(1, "/x.safetensors", 9),
        Kept(1, picture),
        Done(1, (picture,)),
        Failed(1, "m", "h", 2, "t"),
        Cancelled(1),
        Vitals("cpu", "fp32", 1, 2, ("mini",)),
        Gauged(61, 95, 310, 10**9, 2 * 10**9, None),
        Noted("info", "x", None),
        Closed(),
    ]
    import typing

    from engines import events

    assert {type(e) for e in some} == set(typing.get_args(events.Event))
    for event in some:
        assert pickle.loads(pickle.dumps(event)) == event


def test_a_job_is_told_in_order_and_done_means_stored(engines: Any) -> None:
    engine, _ = engines()
    job = engine.submit(APPLE)
    events = until(engine, job)
    assert of(job, events) == ["Queued", "Started", "Loading", *["Stepped"] * 5, "Finishing", "Done"]
    done = events[-1]
    assert isinstance(done, Done)
    assert engine.store.pictures() == list(done.pictures)
    assert engine.store.state(job) == "done"


def test_a_sweep_lets_everything_else_pass_between_its_pictures(engines: Any) -> None:
    engine, room = engines("workbench")
    room.free = False
    cells = [engine.submit(APPLE, group_of(1, number)) for number in range(3)]
    while engine._computing.running is None:
        time.sleep(0.01)
    mine = [engine.submit(APPLE) for _ in range(2)]
    room.free = True
    room.gate.release(100)
    until(engine, *cells, *mine)
    assert room.made == [cells[0], *mine, *cells[1:]]


def test_cells_do_not_outlive_their_workbench(engines: Any) -> None:
    engine, room = engines("workbench")
    room.free = False
    running, waiting = (engine.submit(APPLE, group_of(1, number)) for number in range(2))
    own = engine.submit(APPLE)
    threading.Timer(0.2, room.gate.release, (100,)).start()
    engine.close()
    assert [engine.store.state(job) for job in (running, waiting, own)] == ["cancelled", "cancelled", "queued"]
    engine.store.close()
    again, room = engines("workbench")
    assert [e.job.id for e in until(again, own) if isinstance(e, Queued)] == [own]


def test_what_cannot_be_run_is_not_queued(engines: Any) -> None:
    from dataclasses import replace

    engine, _ = engines()
    for bad in (
        {"seed": -1},
        {"seed": 2**63},
        {"width": 513},
        {"num_inference_steps": 0},
        {"guidance_scale": float("nan")},
    ):
        with pytest.raises(InvalidRequest):
            engine.submit(replace(APPLE, **bad))
    with pytest.raises(InvalidRequest):
        engine.submit(Score((), "x", "mini-clip"))
    assert engine.store.queued() == []


def test_cancelling_a_running_and_a_queued_job(engines: Any) -> None:
    engine, room = engines()
    room.free = False
    running, queued, kept = (engine.submit(APPLE) for _ in range(3))
    for event in engine.events():
        if isinstance(event, Started):
            break
    engine.cancel(queued)
    engine.cancel(running)
    room.free = True
    room.gate.release(100)
    events = until(engine, running, queued, kept)
    assert of(queued, events) == ["Queued", "Cancelled"] or of(queued, events) == ["Cancelled"]
    assert of(running, events)[-1] == "Cancelled"
    assert of(kept, events)[-1] == "Done"
    assert [engine.store.state(j) for j in (running, queued, kept)] == ["cancelled", "cancelled", "done"]
    engine.cancel(kept)
    engine.cancel(999_999)


def test_a_storm_of_cancels_leaves_every_job_one_end(engines: Any) -> None:
    engine, room = engines()
    room.at_step = lambda step: time.sleep(0.0005)
    jobs = [engine.submit(APPLE) for _ in range(60)]
    stop = threading.Event()

    def storm() -> None:
        dice = random.Random(1)
        while not stop.is_set():
            engine.cancel(dice.choice(jobs))
            time.sleep(0.001)

    threads = [threading.Thread(target=storm) for _ in range(3)]
    for t in threads:
        t.start()
    events = until(engine, *jobs)
    stop.set()
    for t in threads:
        t.join()
    ends = [e.job_id for e in events if isinstance(e, FINAL)]
    assert sorted(ends) == sorted(jobs)
    for e in events:
        if isinstance(e, Done):
            assert engine.store.state(e.job_id) == "done"
        if isinstance(e, Cancelled):
            assert engine.store.state(e.job_id) == "cancelled"


@pytest.mark.parametrize(
    ("fault", "message", "code"),
    [
        (SafelightError("the lamp is out", "change it"), "the lamp is out", 1),
        (InvalidRequest("no such thing", "another"), "no such thing", 2),
        (ZeroDivisionError("division by zero"), "unexpected: ZeroDivisionError: division by zero", 1),
        (SystemExit(3), "unexpected: SystemExit: 3", 1),
        (MemoryError(), "unexpected: MemoryError", 1),
    ],
)
def test_a_job_that_fails_is_told_and_the_next_one_works(
    engines: Any, fault: BaseException, message: str, code: int
) -> None:
    from dataclasses import replace

    engine, room = engines()
    room.fault["bad"] = fault
    bad = engine.submit(replace(APPLE, prompt="bad"))
    good = engine.submit(APPLE)
    events = until(engine, bad, good)
    (failed,) = [e for e in events if isinstance(e, Failed)]
    assert (failed.job_id, failed.message, failed.exit_code) == (bad, message, code)
    assert failed.hint and "Traceback" in failed.trace and "\n" not in failed.message
    assert engine.store.state(bad) == "failed" and engine.store.state(good) == "done"


def test_closing_a_command_cancels_everything_and_ends_the_events(engines: Any) -> None:
    engine, room = engines()
    room.free = False
    jobs = [engine.submit(APPLE) for _ in range(3)]
    room.gate.release(2)
    closer = threading.Timer(0.2, engine.close)
    closer.start()
    threading.Timer(0.3, lambda: room.gate.release(100)).start()
    events = list(engine.events())
    assert isinstance(events[-1], Closed)
    assert {engine.store.state(j) for j in jobs} == {"cancelled"}
    assert not any(lane.thread.is_alive() for lane in engine._lanes)


def test_closing_a_workbench_keeps_its_queue_for_the_next(engines: Any) -> None:
    engine, room = engines("workbench")
    room.free = False
    jobs = [engine.submit(APPLE) for _ in range(3)]
    for event in engine.events():
        if isinstance(event, Started):
            break
    threading.Timer(0.1, lambda: room.gate.release(100)).start()
    engine.close()
    engine.store.close()
    again, _ = engines("workbench")
    events = until(again, *jobs)
    assert any(isinstance(e, Noted) and "3 jobs" in e.text for e in events)
    assert [of(j, events)[-1] for j in jobs] == ["Done"] * 3
    assert again.store.count() == 3


def test_a_sketch_of_a_workbench_that_is_gone_does_not_come_back(engines: Any) -> None:
    from dataclasses import replace

    engine, room = engines("workbench")
    room.free = False
    running, kept, sketch = (engine.submit(r) for r in (APPLE, APPLE, replace(APPLE, sketch=True)))
    for event in engine.events():
        if isinstance(event, Started):
            break
    threading.Timer(0.1, lambda: room.gate.release(100)).start()
    engine.close()
    engine.store.close()
    again, _ = engines("workbench")
    events = until(again, running, kept)
    assert any(isinstance(e, Noted) and "2 jobs" in e.text for e in events)
    assert again.store.state(sketch) == "cancelled" and again.store.state(kept) == "done"


def test_a_worker_that_hangs_does_not_hold_up_closing(engines: Any) -> None:
    engine, room = engines("workbench")
    hold = threading.Event()
    room.at_step = lambda step: hold.wait(20) and None
    job = engine.submit(APPLE)
    for event in engine.events():
        if isinstance(event, Started):
            break
    engine.close()
    assert isinstance(list(engine.events())[-1], Closed)
    assert engine.store.state(job) == "queued"
    hold.set()


def test_a_full_disk_makes_a_workbenchs_queue_wait(engines: Any) -> None:
    from dataclasses import replace

    engine, room = engines("workbench")
    room.fault["full"] = DiskFull("the disk is full", "free some space")
    room.free = False
    first = engine.submit(APPLE)
    full = engine.submit(replace(APPLE, prompt="full"))
    waits = engine.submit(APPLE)
    room.gate.release(5)
    events = until(engine, first, full)
    while not any(isinstance(e, Noted) for e in events):
        events.append(next(engine.events()))
    assert engine.store.state(waits) == "queued"
    room.free = True
    room.gate.release(100)
    passing = [engine.submit(r) for r in (Warm("mini"), replace(APPLE, sketch=True))]
    events = until(engine, *passing)
    assert [of(j, events)[-1] for j in passing] == ["Done", "Done"], "they write no file"
    assert engine.store.state(waits) == "queued" and waits not in room.made
    again = engine.submit(replace(APPLE, prompt="full", sketch=True))
    assert not [e for e in until(engine, again) if isinstance(e, Noted)], "that the queue waits is told once"
    after = engine.submit(APPLE)
    events = until(engine, waits, after)
    assert [of(j, events)[-1] for j in (waits, after)] == ["Done", "Done"]


def test_two_engines_share_a_store_without_taking_each_others_jobs(engines: Any) -> None:
    (one, room_one), (two, room_two) = engines("workbench"), engines()
    mine = [one.submit(APPLE) for _ in range(10)]
    yours = [two.submit(APPLE) for _ in range(10)]
    until(one, *mine)
    until(two, *yours)
    assert sorted(room_one.made) == mine and sorted(room_two.made) == yours
    assert one.store.count() == 20


def test_a_history_that_cannot_be_read_is_found_again_in_the_pictures(engines: Any, home: Path) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from engines import metadata

    where = folders.find()
    where.pictures.mkdir(parents=True)
    for i in range(3):
        info = PngInfo()
        texts = metadata.texts(Generate(f"apple {i}", "mini", i, 64, 64, 2, 0.0), {"torch": "2"}, {"clip": 30.0 + i})
        for keyword, text in texts.items():
            info.add_itxt(keyword, text)
        Image.new("RGB", (64, 64), (i, 0, 0)).save(where.pictures / f"{i}.png", pnginfo=info)
    Image.new("RGB", (8, 8)).save(where.pictures / "stranger.png")
    (where.pictures / "broken.png").write_bytes(b"\x89PNG")
    where.data.mkdir()
    where.store.write_bytes(b"no database " * 400)
    engine, _ = engines("workbench")
    until(engine, engine.submit(APPLE))
    prompts = {p.request.prompt: p.scores for p in engine.store.pictures()}
    assert prompts == {
        "apple 0": {"clip": 30.0},
        "apple 1": {"clip": 31.0},
        "apple 2": {"clip": 32.0},
        "a red apple": {},
    }
    assert engine.store.thumbnail(1) is not None


def test_a_history_that_cannot_be_written_at_the_end_says_where_the_picture_is(
    engines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = engines()

    def full(*_: Any) -> None:
        raise DiskFull("the disk is full", "free some space")

    monkeypatch.setattr(engine.store, "finish", full)
    job = engine.submit(APPLE)
    failed = until(engine, job)[-1]
    assert isinstance(failed, Failed) and f"saved: /x/{job}.png" in failed.hint and failed.lasting


def test_a_full_disk_for_the_store_too_is_told_once_and_stops_the_queue(
    engines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    engine, room = engines("workbench")
    room.free = False
    room.fault["full"] = DiskFull("the disk is full", "free some space")
    first = engine.submit(APPLE)
    full = [engine.submit(replace(APPLE, prompt="full")) for _ in range(3)]

    def cannot(*_: Any) -> None:
        raise DiskFull("the disk is full", "free some space")

    monkeypatch.setattr(engine.store, "end", cannot)
    room.gate.release(100)
    events = until(engine, first, full[0])
    threading.Timer(0.3, engine.close).start()
    events += list(engine.events())
    assert [e.job_id for e in events if isinstance(e, Failed)] == [full[0]]


def test_a_second_close_waits_for_the_first(engines: Any) -> None:
    engine, room = engines("workbench")
    room.at_step = lambda step: time.sleep(0.4)
    job = engine.submit(APPLE)
    for event in engine.events():
        if isinstance(event, Stepped):
            break
    threads = [threading.Thread(target=engine.close) for _ in range(2)]
    for t in threads:
        t.start()
    engine.close()
    assert engine.store.state(job) == "queued"
    row = engine.store.query("SELECT attempts FROM jobs WHERE id = ?", job)[0]
    assert row["attempts"] == 0
    for t in threads:
        t.join()


def test_a_job_that_was_cancelled_does_not_come_back_after_a_quit(engines: Any) -> None:
    engine, room = engines("workbench")
    room.at_step = lambda step: time.sleep(0.3)
    job = engine.submit(APPLE)
    for event in engine.events():
        if isinstance(event, Stepped):
            break
    engine.cancel(job)
    engine.close()
    assert engine.store.state(job) == "cancelled"


def test_nothing_is_queued_after_closing(engines: Any) -> None:
    engine, _ = engines("workbench")
    engine.close()
    with pytest.raises(SafelightError, match="closing"):
        engine.submit(APPLE)
    assert engine.store.queued() == []


# ── the lane of downloads ───────────────────────────────────────────────────────────────────────────────────────────

WEIGHTS = bytes(range(256)) * 4096


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Hub({"org/lora": {"a.safetensors": WEIGHTS}}) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        yield served


def with_lora(engine: LocalEngine) -> HubFile:
    file = HubFile("org/lora", "a.safetensors")
    added = {**engine.catalogue.adapters, "a": Adapter("a", "A", "mini", file, "MIT")}
    engine.catalogue = dataclasses.replace(engine.catalogue, adapters=added)
    return file


def first(engine: LocalEngine, kind: type[Event]) -> Event:
    return next(event for event in engine.events() if isinstance(event, kind))


def test_a_pull_goes_on_beside_the_pictures(engines: Any, hub: Hub) -> None:
    engine, room = engines()
    file = with_lora(engine)
    hub.faults.hold = threading.Event()
    pull = engine.submit(Pull("a"))
    first(engine, Started)
    picture = engine.submit(APPLE)
    assert of(pull, until(engine, picture))[-1:] != ["Done"]
    assert room.made == [picture] and not file.path.exists()
    hub.faults.hold.set()
    told = until(engine, pull)
    assert of(pull, told)[-2:] == ["Pulling", "Done"] and file.path.read_bytes() == WEIGHTS
    assert engine.store.state(pull) == "done"


def test_a_pull_is_cancelled_while_nothing_comes_and_the_next_goes_on_with_it(engines: Any, hub: Hub) -> None:
    engine, _ = engines()
    file = with_lora(engine)
    hub.faults.hold = threading.Event()
    one, two = engine.submit(Pull("a")), engine.submit(Pull("a"))
    first(engine, Pulling)
    engine.cancel(two)
    engine.cancel(one)
    told = until(engine, one, two)
    assert of(one, told)[-1] == of(two, told)[-1] == "Cancelled"
    hub.faults.hold.set()
    hub.faults.hold = None
    until(engine, engine.submit(Pull("a")))
    assert file.path.read_bytes() == WEIGHTS
    assert int(hub.fetched()[-1].headers["range"].removeprefix("bytes=").rstrip("-")) > 0


def test_a_workbench_goes_on_with_a_pull_at_its_next_start(engines: Any, hub: Hub) -> None:
    engine, _ = engines("workbench")
    file = with_lora(engine)
    hub.faults.hold = threading.Event()
    job = engine.submit(Pull("a"))
    first(engine, Pulling)
    engine.close()
    assert not any(lane.thread.is_alive() for lane in engine._lanes)
    assert engine.store.state(job) == "queued"
    engine.store.close()
    hub.faults.hold.set()
    hub.faults.hold = None
    known = engine.catalogue
    where = folders.find()
    again = LocalEngine(known, where, Options(where.pictures), Store(where.store), "workbench")
    try:
        assert of(job, until(again, job))[-1] == "Done" and file.path.read_bytes() == WEIGHTS
    finally:
        again.close()
        again.store.close()


def test_a_pull_that_cannot_be_had_fails_alone(engines: Any, hub: Hub) -> None:
    engine, _ = engines()
    with_lora(engine)
    unknown = engine.submit(Pull("no-such"))
    hub.repos.clear()
    gone = engine.submit(Pull("a"))
    picture = engine.submit(APPLE)
    told = until(engine, unknown, gone, picture)
    assert of(picture, told)[-1] == "Done"
    said = {e.job_id: e for e in told if isinstance(e, Failed)}
    assert said[unknown].exit_code == 2 and "no entry" in said[unknown].message
    assert said[gone].exit_code == 1 and "no repository org/lora" in said[gone].message and not said[gone].lasting
