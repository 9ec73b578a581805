"""What a picture's file says of itself: PNG text, written and read.

Two chunks: `safelight` is the request and what shaped the pixels, as JSON; `parameters` is the same in the form that
A1111's web UI began and most viewers show.
"""

from __future__ import annotations

import io
import json
import logging
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from engines import schedulers
from engines.errors import InvalidRequest
from engines.limits import MAX_IMAGE
from engines.prompt import clean
from engines.requests import Generate, Seconds, from_json, to_json
from engines.store import Made

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

THUMBNAIL = 48
"Pixels of the longer side of what the history shows."
MAX_TEXT = 1_000_000
"Characters of a text chunk that are read; longer ones are not ours."
MAX_SCORE = 1e9
"What is not smaller, as NaN and infinity are not, is no scorer's number."


def texts(request: Generate, made_with: dict[str, str], scores: dict[str, float], source: str = "") -> dict[str, str]:
    """The PNG text chunks of a picture, keyword → text. Folders stay out: pictures are shown to others.

    Args:
        source: path of the picture that it was made of by a step of finishing; empty for none.
    """
    plain = replace(request, folder=None, init=request.init and Path(request.init).name)
    ours = {"request": json.loads(to_json(plain)), "made_with": made_with, "scores": scores}
    if source:
        ours["source"] = Path(source).name
    row = schedulers.SCHEDULERS.get(request.scheduler)
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    varied = request.variation_seed is not None and request.variation_strength > 0
    lines.append(
        f"Steps: {request.num_inference_steps}, Sampler: {row.title if row else request.scheduler}, "
        f"CFG scale: {request.guidance_scale:g}, Seed: {request.seed}, Size: {request.width}x{request.height}, "
        f"Model: {request.model}"
        + f", Variation seed: {request.variation_seed}, Variation seed strength: {request.variation_strength:g}"
        * varied
        + f", Mix: {json.dumps(', '.join(f'{weight:g}' for weight in request.mix))}" * bool(request.mix)
    )
    told = {"safelight": json.dumps(ours, ensure_ascii=False)}
    # of a file as it was there is nothing to tell
    return {**told, "parameters": "\n".join(lines)} if request.drawn else told


def found(folder: Path) -> list[tuple[Made, float]]:
    """The pictures of ours in a folder, oldest first, as far as their files tell, with the time of their files (seconds
    since 1970). Never raises: what can't be read is left out."""
    all_made = []
    try:
        paths = [path for path in folder.iterdir() if path.suffix.lower() == ".png"]
    except OSError as e:
        log.info("%s can't be looked through: %s", folder, e)
        return []
    for path in paths:
        try:
            if (item := made(path)) is not None:
                all_made.append(item)
        except Exception as e:  # Pillow's readers raise whatever a strange file leads them to; the next is another file
            log.info("%s was left out: %s", path, type(e).__name__)
    return sorted(all_made, key=lambda item: (item[1], item[0].path))


def made(path: Path) -> tuple[Made, float] | None:
    """A picture of ours as its file tells of it, with the file's time (seconds since 1970); None if it is none. Raises
    whatever Pillow's readers do."""
    with _opened(path) as file:
        if file is None or (told := _told(file)) is None:
            return None
        request, ours, image = told
        item = Made(
            str(path),
            request,
            image.width,
            image.height,
            Seconds(),
            ours["made_with"],
            thumbnail(image),
            ours["scores"],
            source=str(path.with_name(ours["source"])) if ours["source"] else "",
        )
        return item, os.fstat(file.fileno()).st_mtime


def thumbnail(image: Image.Image) -> bytes:
    """What the history shows of a picture: a JPEG of at most THUMBNAIL px a side."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def read(path: Path) -> tuple[Generate, dict[str, Any]] | None:
    """The request in a picture of ours and what else it says, or None if the file is not ours or can't be read.

    The text is a stranger's: the request is one that could have been asked here (`validate`), every string is cleaned
    of control characters, and no path in it is used.

    Returns:
        (the request; "made_with": texts by name, "scores": finite numbers by scorer, and "source": a file's name).
    """
    try:
        with _opened(path) as file:
            told = _told(file) if file is not None else None
    except Exception:  # as in `found`
        return None
    return told[:2] if told is not None else None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | None]:
    """The file, or None if it is none: a pipe by that name would keep whoever opens it waiting."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        yield file if stat.S_ISREG(os.fstat(handle).st_mode) else None


def _told(file: BinaryIO) -> tuple[Generate, dict[str, Any], Image.Image] | None:
    """What a file says, and its picture, which is not decoded yet; None if it is not ours."""
    from PIL import Image

    head = file.read(24)
    if not head.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR") or not _size_fits(*struct.unpack(">II", head[16:])):
        return None
    file.seek(0)
    image = Image.open(file, formats=("PNG",))
    # what stands before the pixels, as ours does: `image.text` would decode the whole picture to look behind them
    text = image.info.get("safelight", "")
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT or not _size_fits(*image.size):
        return None
    try:
        # cleaned after it is parsed: before, an escape is written \u001b, which is clean
        ours = _clean(json.loads(text))
        request = from_json(json.dumps(ours["request"]))
        if not isinstance(request, Generate) or not all(name.isprintable() for name in _names(request)):
            return None
        request.validate()
    except (ValueError, KeyError, TypeError, RecursionError, InvalidRequest):
        return None
    begun = request.init and Path(request.init).name  # a stranger's path is none of ours
    return (
        replace(request, folder=None, init=begun or None),
        {
            "made_with": _texts(ours),
            "scores": _scores(ours),
            "source": _source(ours),
        },
        image,
    )


def _names(request: Generate) -> list[str]:
    """What lists show in one line."""
    steps = [value for step in request.finish for value in asdict(step).values() if isinstance(value, str)]
    named = [request.model, request.scheduler, request.score or "", request.init or "", *steps]
    return [*named, *(lora.name for lora in request.loras)]


def _size_fits(width: int, height: int) -> bool:
    return 0 < width * height <= MAX_IMAGE


def _clean(value: Any) -> Any:
    """Every string in a JSON value cleaned, names of fields too."""
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean(k): _clean(v) for k, v in value.items()}
        case list():
            return [_clean(v) for v in value]
        case _:
            return value


def _texts(ours: dict[str, Any]) -> dict[str, str]:
    texts = ours.get("made_with")
    if not isinstance(texts, dict):
        return {}
    return {" ".join(k.split()): " ".join(v.split()) for k, v in texts.items() if isinstance(v, str)}


def _source(ours: dict[str, Any]) -> str:
    """The name of a file beside this one; empty for anything else."""
    name = ours.get("source")
    return name if isinstance(name, str) and name == Path(name).name and name.isprintable() else ""


def _scores(ours: dict[str, Any]) -> dict[str, float]:
    scores = ours.get("scores")
    if not isinstance(scores, dict):
        return {}
    # compared before it is converted: a whole number may be too long for a float
    return {k: float(v) for k, v in scores.items() if type(v) in (int, float) and abs(v) < MAX_SCORE}
