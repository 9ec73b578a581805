"""An engine that makes coloured gradients, and a store in memory: the two sides of the seam, without torch.

`FakeEngine` keeps the order of events that engines promise. It can be told to fail, to take its time, or to wait for
`advance` before every step, so that a test can look at a picture half grown.
"""

from __future__ import annotations

import itertools
import queue
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from engines.catalogue import SHIPPED, Catalogue
from engines.entries import Folder, Model, Recipe, Scorer
from engines.events import (
    Cancelled,
    Closed,
    Done,
    Event,
    Failed,
    Finishing,
    Loading,
    Pixels,
    Previewed,
    Queued,
    Started,
    Stepped,
    Vitals,
)
from engines.requests import Generate, Job, JobId, Picture, Request, Seconds, Warm

HERE = SHIPPED.with_name("mini") / "base"
"A model's folder that is whole, as far as the catalogue looks."
NOW = 1_800_000_000.0
"The fake's time; every picture is a minute older than the next."


def gradient(seed: int, width: int = 48, height: int = 48, ripeness: float = 1.0) -> Pixels:
    """A picture that differs by seed and grows out of grey."""
    hue = (seed * 67) % 255
    rows = []
    for y in range(height):
        for x in range(width):
            inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) * 0.36) ** 2
            ripe = (230, 60 + hue // 4, 50) if inside else (hue // 3, 60 + y * 120 // height, 90 + x * 120 // width)
            rows.append(bytes(round(110 + (c - 110) * ripeness) for c in ripe))
    return Pixels(width, height, b"".join(rows))


def write_png(path: Path, pixels: Pixels) -> None:
    """The smallest PNG writer there is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    stride = pixels.width * 3
    raw = b"".join(b"\0" + pixels.data[i : i + stride] for i in range(0, len(pixels.data), stride))
    head = struct.pack(">IIBBBBB", pixels.width, pixels.height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 1)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def catalogue(folder: Path) -> Catalogue:
    """A model that is here, a distilled one that is here, and one that is not."""
    sizes = ((128, 128), (144, 112), (112, 144))
    models = (
        Model("mini", "Mini", "fake", Folder(HERE), Recipe(4, 4.5, "euler", sizes), "Apache-2.0", rank=1),
        Model("quick", "Quick", "fake", Folder(HERE), Recipe(2, 0.0, "lcm", sizes, fixed_steps=True), "Apache-2.0"),
        Model("away", "Away", "fake", Folder(folder / "nowhere"), Recipe(8, 5.0, "euler", sizes), "Apache-2.0"),
    )
    scorer = Scorer("fake-clip", "Fake", "clip", Folder(HERE.with_name("clip")), "Apache-2.0")
    return Catalogue({m.id: m for m in models}, scorers={scorer.id: scorer})


class FakeStore:
    """The history in a list, with the store's methods."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Picture] = []
        self._lock = threading.Lock()

    def add(self, request: Generate) -> Picture:
        """Makes the picture's file and its row."""
        with self._lock:
            number = len(self.made) + 1
            path = self.folder / f"picture-{number}.png"
            write_png(path, gradient(request.seed))
            seconds = Seconds(load=0.1, encode=0.1, denoise=1.0, decode=0.2, score=0.1, save=0.1, total=1.6)
            scores = {"fake-clip": 20 + request.seed % 100 / 10} if request.score else {}
            created = NOW - 60 * 60 * 24 + 60 * number
            picture = Picture(
                number, str(path), request, request.width, request.height, seconds, created, scores, {"device": "fake"}
            )
            self.made.append(picture)
            return picture

    def pictures(self, before: int | None = None, limit: int = 50, search: str = "") -> list[Picture]:
        """Newest first, ids below `before`."""
        with self._lock:
            top = len(self.made) if before is None else before - 1
            return self.made[max(0, top - limit) : max(0, top)][::-1]

    def count(self) -> int:
        """How many pictures there are."""
        return len(self.made)

    def thumbnail(self, id: int) -> Pixels | None:
        """The small picture beside a row."""
        return gradient(self.made[id - 1].request.seed, 24, 24)


class FakeEngine:
    """One thread that pretends, job after job."""

    def __init__(self, store: FakeStore, *, fail: str = "", delay: float = 0.0, held: bool = False) -> None:
        self.store = store
        self.fail = fail
        self.delay = delay
        self.held = held
        self.submitted: list[Request] = []
        self.closed = False
        self._ids = itertools.count(1)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._steps = threading.Semaphore(0)
        self._cancelled: set[JobId] = set()
        self._thread = threading.Thread(target=self._run, name="fake-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, group: str | None = None) -> JobId:
        """Queues the request."""
        job = Job(next(self._ids), request, group, NOW)
        self.submitted.append(request)
        self._events.put(Queued(job))
        self._waiting.put(job)
        return job.id

    def cancel(self, job_id: JobId) -> None:
        """Ends a job at its next step."""
        self._cancelled.add(job_id)
        self._steps.release()

    def events(self) -> Iterator[Event]:
        """All events, up to Closed."""
        while True:
            event = self._events.get()
            yield event
            if isinstance(event, Closed):
                return

    def close(self) -> None:
        """Ends the running job and the thread."""
        self.closed = True
        self._waiting.put(None)
        self._steps.release(1000)
        self._thread.join(2)

    def advance(self, steps: int = 1) -> None:
        """Lets a held engine take so many steps (a finished picture takes one more)."""
        self._steps.release(steps)

    def tell(self, event: Event) -> None:
        """Sends an event of the test's own."""
        self._events.put(event)

    def _run(self) -> None:
        while (job := self._waiting.get()) is not None and not self.closed:
            for event in self._develop(job):
                self._events.put(event)
        self._events.put(Closed())

    def _develop(self, job: Job) -> Iterator[Event]:
        request = job.request
        if job.id in self._cancelled:
            yield Cancelled(job.id)
            return
        yield Started(job.id)
        if isinstance(request, Warm):
            yield Loading(job.id, "text encoders", 0.4)
            yield Vitals("cpu, fake", "fp32", 512_000_000, 4_000_000_000, (request.model,))
            yield Done(job.id)
            return
        assert isinstance(request, Generate)
        for step in range(1, request.num_inference_steps + 1):
            self._wait()
            if self.closed or job.id in self._cancelled:
                yield Cancelled(job.id)
                return
            if self.fail and step == 2:
                yield Failed(job.id, self.fail, "make the picture smaller", 1, "Traceback (most recent call last)")
                return
            yield Stepped(job.id, step, request.num_inference_steps, 0.25)
            yield Previewed(job.id, step, gradient(request.seed, 32, 32, step / request.num_inference_steps))
        self._wait()
        yield Finishing(job.id, "saving")
        singles = (replace(request, seed=request.seed + i, batch_size=1) for i in range(request.batch_size))
        yield Done(job.id, tuple(self.store.add(single) for single in singles))

    def _wait(self) -> None:
        if self.held:
            self._steps.acquire()
        elif self.delay:
            threading.Event().wait(self.delay)
