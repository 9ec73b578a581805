"""A program that makes the newest sweep of a home with an engine that draws nothing, for tests that kill it."""

from __future__ import annotations

import io
import sys
import time
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engines import catalogue, files, folders, metadata, sweep
from engines.events import Event, Stepped
from engines.local import LocalEngine
from engines.options import Options
from engines.requests import Generate, Job, Seconds
from engines.store import Made, Store
from tui import runs, sweeping


def score_of(request: Generate) -> float:
    """What the fake gives a picture: the request alone decides."""
    return zlib.crc32(f"{request.model}{request.prompt}{request.seed}".encode()) % 10_000 / 100


class FakeDarkroom:
    """Writes a small picture of the request's seed, with a score that the request alone decides."""

    def __init__(self, pictures: Path, pause: float) -> None:
        self._pictures = pictures
        self._pause = pause

    def develop(self, job: Job, stop: Callable[[], bool], began: float) -> Generator[Event, None, tuple[Made, ...]]:
        request = job.request
        assert isinstance(request, Generate)
        yield Stepped(job.id, 1, 1, self._pause)
        time.sleep(self._pause)
        score = score_of(request)
        image = Image.new("RGB", (16, 16), (request.seed % 256, 0, 0))
        info = PngInfo()
        for keyword, text in metadata.texts(request.single(0), {}, {"fake": score}).items():
            info.add_itxt(keyword, text)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=info)
        path = files.save(self._pictures, f"{request.model}-{request.seed}", buffer.getvalue())
        time.sleep(self._pause)  # where a kill leaves a file without a row
        small = metadata.thumbnail(image)
        return (Made(str(path), request.single(0), 16, 16, Seconds(denoise=0.1), {}, small, {"fake": score}),)


def main(home: str, pause: float) -> None:
    places = folders.find()
    with_store = Store(Path(home) / "data" / "safelight.db")
    wanted = sweep.load(with_store)
    with runs.alone(with_store, wanted.id):
        wanted = sweep.find_again(with_store, wanted, Path(home) / "pictures")
        darkroom: Any = FakeDarkroom(Path(home) / "pictures", pause)
        options = Options(Path(home) / "pictures", "cpu", 1, "")
        engine = LocalEngine(catalogue.load(), places, options, with_store, "command", lambda: cast(Any, darkroom))
        sweeping.make(engine, with_store, wanted, as_json=False)
    with_store.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
