"""Pictures held against a text: scores of those that were just drawn, and of files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from PIL import Image

from engines.diffusion import device as devices
from engines.diffusion.room import Room
from engines.errors import InvalidRequest, SafelightError, Stopped
from engines.events import Event, Loading, Noted, Scored
from engines.limits import MAX_IMAGE
from engines.prompt import parse
from engines.requests import JobId, Score

log = logging.getLogger(__name__)

JUDGED, JUDGED_PIXELS = 16, 32_000_000
"Pictures, and pixels, that are held and judged at once: 100 MB."


def judged(room: Room, scorer: str, images: list[Image.Image], text: str) -> tuple[list[float], str]:
    """Scores, and what to tell of them; none where memory runs out twice: a picture is not lost for its score."""
    for _ in range(2):
        try:
            values, chunks = room.scorer(scorer).score(images, text)
            said = f"{scorer} read the prompt in {chunks} chunks: it takes 77 tokens" if chunks > 1 else ""
            return values, said
        except SafelightError as e:
            return [], f"{e.message}: the picture is saved without a score"
        except Exception as e:  # whatever a scorer does, the picture is drawn and goes to the disk
            if not devices.is_out_of_memory(e):
                log.exception("scoring with %s", scorer)
                return [], f"{scorer} could not score ({type(e).__name__}): the picture is saved without a score"
        room.forget()
    return [], "memory ran out while scoring: the picture is saved without a score"


def score(room: Room, job_id: JobId, request: Score, stop: Callable[[], bool]) -> Iterator[Event]:
    """Scores picture files, with a Scored for each. One that can't be read keeps no other from its score.

    Raises:
        InvalidRequest: there is no prompt, or, when all others are scored, pictures can't be read.
    """
    text = parse(request.prompt).plain
    if not text.strip() and room.catalogue.scorer(request.scorer).reads:
        raise InvalidRequest("a score needs a prompt to hold the picture against", "give --prompt TEXT", "prompt")
    yield Loading(job_id, room.catalogue.scorer(request.scorer).title)
    with room.memory():
        judge = room.scorer(request.scorer)
    told = False
    bad: list[SafelightError] = []
    for paths, images in _batches(request.pictures, bad):
        if stop():
            raise Stopped
        with room.memory():
            values, chunks = judge.score(images, text)
        if chunks > 1 and not told:
            yield Noted("info", f"{request.scorer} read the prompt in {chunks} chunks: it takes 77 tokens", job_id)
            told = True
        for path, value in zip(paths, values, strict=True):
            yield Scored(job_id, path, request.scorer, round(value, 4))
    if bad:
        more = f"{len(bad)} pictures are not scored; the first: " if len(bad) > 1 else ""
        raise InvalidRequest(f"{more}{bad[0].message}", bad[0].hint)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture file from anywhere, judged by its header before its pixels are decoded. Raises InvalidRequest."""
    Image.MAX_IMAGE_PIXELS = None  # the header is checked here, with words of our own
    with ExitStack() as stack:
        try:
            image = stack.enter_context(Image.open(path))
            if image.width * image.height > MAX_IMAGE:
                raise InvalidRequest(
                    f"{path} has {image.width}x{image.height} pixels", f"at most {MAX_IMAGE // 10**6} megapixels"
                )
            image.load()
        except SafelightError:
            raise
        except FileNotFoundError as e:
            raise InvalidRequest(f"{path} is gone", "it was moved or deleted") from e
        except (OSError, SyntaxError, ValueError, EOFError, IndexError) as e:
            raise InvalidRequest(f"{path} can't be read as a picture", "PNG, JPEG, WebP, TIFF and BMP files can") from e
        yield image  # outside of the try, so that the picture is not blamed for what is done with it


def _batches(paths: Sequence[str], bad: list[SafelightError]) -> Iterator[tuple[list[str], list[Image.Image]]]:
    """Pictures to judge at once: JUDGED of them, or fewer where they have more than JUDGED_PIXELS together. Why one
    can't be read is added to `bad`."""
    names: list[str] = []
    images: list[Image.Image] = []
    for path in paths:
        try:
            with opened(Path(path)) as image:
                size = image.width * image.height
                full = sum(one.width * one.height for one in images) + size > JUDGED_PIXELS
                if names and (full or len(names) == JUDGED):
                    yield names, images
                    names, images = [], []
                names.append(path)
                images.append(image.convert("RGB"))
        except SafelightError as e:
            bad.append(e)
    if names:
        yield names, images
