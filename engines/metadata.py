"""What a picture's file says of itself: PNG text, written and read.

Two chunks: `safelight` is the request and what shaped the pixels, as JSON; `parameters` is the same in the form that
A1111's web UI began and most viewers show.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import schedulers
from engines.errors import InvalidRequest
from engines.prompt import clean
from engines.requests import Generate, Seconds, from_json, to_json
from engines.store import Made

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL = 48
"Pixels of the longer side of what the history shows."
MAX_TEXT = 1_000_000
"Characters of a text chunk that are read; longer ones are not ours."


def texts(request: Generate, made_with: dict[str, str], scores: dict[str, float]) -> dict[str, str]:
    """The PNG text chunks of a picture, keyword → text."""
    ours = {"request": json.loads(to_json(request)), "made_with": made_with, "scores": scores}
    row = schedulers.SCHEDULERS.get(request.scheduler)
    lines = [request.prompt]
    if request.negative_prompt is not None:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(
        f"Steps: {request.num_inference_steps}, Sampler: {row.title if row else request.scheduler}, "
        f"CFG scale: {request.guidance_scale:g}, Seed: {request.seed}, Size: {request.width}x{request.height}, "
        f"Model: {request.model}"
    )
    return {"safelight": json.dumps(ours, ensure_ascii=False), "parameters": "\n".join(lines)}


def found(folder: Path) -> list[tuple[Made, float]]:
    """The pictures of ours in a folder, oldest first, as far as their files tell, with the time of their files."""
    from PIL import Image

    made = []
    for path in sorted(folder.glob("*.png"), key=lambda p: p.stat().st_mtime):
        if (told := read(path)) is None:
            continue
        request, ours = told
        texts = ours.get("made_with")
        scores = ours.get("scores")
        made_with = {str(k): str(v) for k, v in texts.items()} if isinstance(texts, dict) else {}
        numbers = {str(k): float(v) for k, v in scores.items()} if isinstance(scores, dict) else {}
        with Image.open(path) as image:
            width, height, small = image.width, image.height, thumbnail(image)
        item = Made(str(path), request, width, height, Seconds(), made_with, small, numbers)
        made.append((item, path.stat().st_mtime))
    return made


def thumbnail(image: Image.Image) -> bytes:
    """What the history shows of a picture: a JPEG of at most THUMBNAIL px a side."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def read(path: Path) -> tuple[Generate, dict[str, Any]] | None:
    """The request in a picture of ours and what else it says, or None if the file is not ours or can't be read.

    The text is a stranger's: it is cleaned of control characters, and nothing in it names a file that is opened.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            text = getattr(image, "text", {}).get("safelight", "")
        if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
            return None
        ours = json.loads(clean(text))
        request = from_json(json.dumps(ours["request"]))
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, EOFError, RecursionError, InvalidRequest):
        # a file from anywhere: whatever is wrong with it, it is not ours
        return None
    return (request, ours) if isinstance(request, Generate) else None
