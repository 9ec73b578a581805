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
from engines.entries import (
    Adapter,
    Embedding,
    FaceDetector,
    FaceRestorer,
    Folder,
    HubFile,
    Local,
    LoraOver,
    Merged,
    Model,
    Parent,
    Recipe,
    Scorer,
    Upscaler,
    Vae,
)
from engines.events import (
    Cancelled,
    Closed,
    Done,
    Event,
    Failed,
    Finishing,
    Kept,
    Loading,
    Pixels,
    Previewed,
    Pulling,
    Queued,
    Sketched,
    Started,
    Stepped,
    Vitals,
)
from engines.requests import Finish, Generate, Job, JobId, Picture, Pull, Request, Seconds, Warm

HERE = SHIPPED.with_name("mini") / "base"
"A model's folder that is whole, as far as the catalogue looks."
COMMIT = "0" * 40
"What is fetched lies under this commit."
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
    """A model that is here, a distilled one that is here, one whose files are gone, and one that can be had."""
    sizes = ((128, 128), (144, 112), (112, 144))
    here = Local(HERE / "model_index.json")

    def far(name: str, size: int) -> HubFile:
        # a repository of this test's own: all tests of a process share the hub's cache
        return HubFile(f"fake/{folder.name}", f"{name}.safetensors", COMMIT, bytes=size)

    models = (
        Model("mini", "Mini", "fake", Folder(HERE), Recipe(4, 4.5, "euler", sizes), "Apache-2.0", rank=1),
        Model("quick", "Quick", "fake", Folder(HERE), Recipe(2, 0.0, "lcm", sizes, fixed_steps=True), "Apache-2.0"),
        Model("away", "Away", "fake", Folder(folder / "nowhere"), Recipe(8, 5.0, "euler", sizes), "Apache-2.0"),
        Model(
            "far",
            "Far",
            "fake",
            LoraOver("mini", far("far", 6_900_000_000)),
            Recipe(1, 0.0, "euler_a", sizes),
            "Fake Research",
            notice="Its licence is for research only.",
        ),
        Model("other", "Other", "odd", Folder(HERE), Recipe(4, 4.5, "euler", sizes), "Apache-2.0"),
    )
    adapters = (
        Adapter("pixel", "Pixel art", "fake", here, "MIT", words="pixel art"),
        Adapter("glow", "Glow", "fake", far("glow", 394_000_000), "MIT"),
        Adapter("odd-lora", "For others", "odd", here, "MIT"),
    )
    embeddings = (Embedding("night", "Night colours", "fake", here, "MIT"),)
    vaes = (Vae("soft-vae", "A softer VAE", "fake", here, "MIT"),)
    scorer = Scorer("fake-clip", "Fake", "clip", Folder(HERE.with_name("clip")), "Apache-2.0")
    return Catalogue(
        {m.id: m for m in models},
        {a.id: a for a in adapters},
        {e.id: e for e in embeddings},
        {v.id: v for v in vaes},
        scorers={scorer.id: scorer},
        upscalers={
            id: Upscaler(id, id.title(), "net", here, 4, "MIT", rank=rank) for id, rank in (("up", 2), ("big", 1))
        },
        face_restorers={"mend": FaceRestorer("mend", "Mend", far("mend", 348_000_000), "MIT")},
        face_detectors={"eye": FaceDetector("eye", "Eye", here, "MIT")},
    )


def with_mixes(known: Catalogue) -> Catalogue:
    """A catalogue with a sum of two, a sum of three and a difference besides: sum, three, difference."""

    def mix(id: str, method: str, *weights: float) -> Model:
        parents = tuple(Parent(*pair) for pair in zip(("mini", "quick", "mini"), weights, strict=False))
        return replace(known.model("mini"), id=id, title=id.title(), source=Merged(parents, method), rank=0)

    mixes = (
        mix("sum", "weighted-sum", 0.6, 0.4),
        mix("three", "weighted-sum", 5, 3, 2),
        mix("difference", "add-difference", 1, 0.5, 1),
    )
    return replace(known, models=known.models | {each.id: each for each in mixes})


class FakeStore:
    """The history in a list, with the store's methods."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Picture] = []
        self._lock = threading.Lock()

    def add(self, request: Generate, parent: Picture | None = None) -> Picture:
        """Makes the picture's file and its row; a finished one is twice as large as the one that it is made of."""
        with self._lock:
            number = len(self.made) + 1
            path = self.folder / f"picture-{number}.png"
            side = 96 if parent else 48
            write_png(path, gradient(request.seed, side, side))
            seconds = Seconds(load=0.1, encode=0.1, denoise=1.0, decode=0.2, score=0.1, save=0.1, total=1.6)
            scores = {"fake-clip": 20 + request.seed % 100 / 10} if request.score else {}
            created = NOW - 60 * 60 * 24 + 60 * number
            picture = Picture(
                number, str(path), request, request.width, request.height, seconds, created, scores, {"device": "fake"}
            )
            picture = replace(picture, parent=parent.id if parent else None)
            self.made.append(picture)
            return picture

    def rate(self, id: int, rating: int | None) -> None:
        """Stars by hand."""
        with self._lock:
            at = next(i for i, picture in enumerate(self.made) if picture.id == id)
            self.made[at] = replace(self.made[at], rating=rating)

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
    """One thread that pretends to draw, job after job, and one that pretends to fetch beside it."""

    def __init__(
        self,
        store: FakeStore,
        *,
        fail: str = "",
        delay: float = 0.0,
        held: bool = False,
        fail_pull: str = "",
        held_pull: bool = False,
    ) -> None:
        self.store = store
        self.fail = fail
        self.fail_pull = fail_pull
        self.held_pull = held_pull
        self.delay = delay
        self.held = held
        self.submitted: list[Request] = []
        self.closed = False
        self._ids = itertools.count(1)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._pulls: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._steps = threading.Semaphore(0)
        self._parts = threading.Semaphore(0)
        self._cancelled: set[JobId] = set()
        self._threads = [
            threading.Thread(target=self._run, args=(jobs,), name="fake-engine", daemon=True)
            for jobs in (self._waiting, self._pulls)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request, group: str | None = None) -> JobId:
        """Queues the request."""
        job = Job(next(self._ids), request, group, NOW)
        self.submitted.append(request)
        self._events.put(Queued(job))
        (self._pulls if isinstance(request, Pull) else self._waiting).put(job)
        return job.id

    def cancel(self, job_id: JobId) -> None:
        """Ends a job at its next step."""
        self._cancelled.add(job_id)
        self._steps.release()
        self._parts.release()

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
        for jobs in (self._waiting, self._pulls):
            jobs.put(None)
        self._steps.release(1000)
        self._parts.release(1000)
        for thread in self._threads:
            thread.join(2)
        self._events.put(Closed())

    def advance(self, steps: int = 1) -> None:
        """Lets a held engine take so many steps (a finished picture takes one more)."""
        self._steps.release(steps)

    def receive(self, parts: int = 1) -> None:
        """Lets a held download come so many quarters further (its end takes one more)."""
        self._parts.release(parts)

    def tell(self, event: Event) -> None:
        """Sends an event of the test's own."""
        self._events.put(event)

    def _run(self, jobs: queue.SimpleQueue[Job | None]) -> None:
        while (job := jobs.get()) is not None and not self.closed:
            for event in self._develop(job):
                self._events.put(event)

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
        if isinstance(request, Pull):
            yield from self._fetch(job.id, request)
            return
        if isinstance(request, Finish):
            yield from self._finish(job.id, request)
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
        if request.sketch:
            yield Sketched(job.id, gradient(request.seed, 48, 48))
            yield Done(job.id)
            return
        yield Finishing(job.id, "saving")
        singles = (request.single(i) for i in range(request.batch_size))
        yield Done(job.id, tuple(self.store.add(single) for single in singles))

    def _finish(self, job_id: JobId, request: Finish) -> Iterator[Event]:
        base = next(picture for picture in self.store.made if picture.path == request.picture)
        for step in request.finish:
            yield Finishing(job_id, f"{step.kind} in tiles", 0.5)
            self._wait()
            if self.closed or job_id in self._cancelled:
                yield Cancelled(job_id)
                return
            if self.fail:
                yield Failed(job_id, self.fail, f"the picture before it is saved: {base.path}")
                return
            finish = (*base.request.finish, step)
            base = self.store.add(replace(base.request, finish=finish), base)
            yield Kept(job_id, base)
        yield Done(job_id, tuple(self.store.made[-len(request.finish) :]))

    def _fetch(self, job_id: JobId, request: Pull) -> Iterator[Event]:
        entry = catalogue(self.store.folder).entry(request.id)
        file = getattr(entry, "file", None) or entry.source.file  # type: ignore[union-attr]
        for part in range(1, 5):
            if self.held_pull:
                self._parts.acquire()
            if self.closed:
                return  # a workbench's jobs stay for the next time
            if job_id in self._cancelled:
                yield Cancelled(job_id)
                return
            if self.fail_pull and part == 3:
                yield Failed(job_id, self.fail_pull, "look at the connection, then get it again", 1)
                return
            done = file.bytes * part // 4
            yield Pulling(job_id, file.file, 1, 1, done, file.bytes, done, file.bytes, 85_000_000.0)
        if self.held_pull:
            self._parts.acquire()
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_bytes(b"")
        yield Done(job_id)

    def _wait(self) -> None:
        if self.held:
            self._steps.acquire()
        elif self.delay:
            threading.Event().wait(self.delay)
