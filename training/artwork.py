"""The artwork: emoji of permissively licensed sets, rendered once.   python -m training.artwork NPM_DIR WORK

NPM_DIR holds the unpacked npm packages (README.md has the two lines that fetch them). WORK/art.npz then holds every
picture as lossless WebP, 256 px, premultiplied alpha, cut to its bounding square; WORK/names.json the names. The
tokenizers are those that the package ships: their vocabulary of 2600 was learnt on a wider list of words.
"""

from __future__ import annotations

import glob
import io
import json
import os
import random
import re
import shutil
import sys
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 256
# style word -> npm package of the art that is drawn in it
SETS = {
    "cartoon": "noto",
    "3d": "fluent-emoji",
    "flat": "fluent-emoji-flat",
    "ink": "fluent-emoji-high-contrast",
    "retro": "noto-v1",
}
STYLES = list(SETS)
OTHER_TRAIN, OTHER_HELD = 170, 30  # emoji beside the subjects: for the autoencoder, and for testing it
SHIPPED = Path(__file__).parent.parent / "engines" / "mini" / "base"
RENAMED = {"enraged-face": "pouting-face"}


def subjects() -> list[tuple[str, list[str]]]:
    """(emoji name, [name in prompts, other names…]) of everything that the family can draw."""
    lines = (Path(__file__).parent / "subjects.txt").read_text(encoding="utf-8").split("\n")
    return [(emoji, names.split("|")) for emoji, names in (line.split("=", 1) for line in lines if line)]


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("’", "-")).strip("-")


def icons(npm: str, package: str) -> dict[str, tuple[str, float, float, float, float]]:
    """name -> (SVG body, left, top, width, height) of one iconify package, aliases included."""
    data = json.loads(Path(sorted(glob.glob(f"{npm}/iconify-json-{package}-[0-9]*/package/icons.json"))[0]).read_text())
    side = data.get("width", 16), data.get("height", 16)
    found = {
        name: (
            icon["body"],
            icon.get("left", 0),
            icon.get("top", 0),
            icon.get("width", side[0]),
            icon.get("height", side[1]),
        )
        for name, icon in data["icons"].items()
    }
    for name, alias in data.get("aliases", {}).items():
        if alias["parent"] in found and not {"rotate", "hFlip", "vFlip"} & set(alias):
            found.setdefault(name, found[alias["parent"]])
    return found


def render(icon: tuple[str, float, float, float, float]) -> bytes | None:
    """A lossless WebP of SIDE x SIDE with premultiplied alpha, or None where nothing is drawn."""
    import resvg_py

    body, left, top, width, height = icon
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{body}</svg>'
    )
    try:
        drawn = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIDE * 2, height=SIDE * 2, skip_system_fonts=True))
    except Exception:
        return None
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGBA")).astype(np.float32)
    ys, xs = np.where(pixels[..., 3] > 12)
    if len(ys) < 50:
        return None
    pixels[..., :3] *= pixels[..., 3:] / 255
    pixels = pixels[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    side = max(pixels.shape[:2])
    square = np.zeros((side, side, 4), np.float32)
    y, x = (side - pixels.shape[0]) // 2, (side - pixels.shape[1]) // 2
    square[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    channels = [Image.fromarray(square[..., c]).resize((SIDE, SIDE), Image.Resampling.BOX) for c in range(4)]
    image = np.stack([np.asarray(channel) for channel in channels], -1).round().clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(image).save(out, "WEBP", lossless=True, exact=True, quality=60, method=4)
    return out.getvalue()


def decode(blob: bytes) -> np.ndarray:
    """[4, SIDE, SIDE] uint8, premultiplied."""
    return np.asarray(Image.open(io.BytesIO(blob)).convert("RGBA")).transpose(2, 0, 1)


def collect(npm: str, work: str) -> None:
    sets = [icons(npm, package) for package in SETS.values()]
    entries = subjects()
    wanted = {emoji for emoji, _ in entries}
    jobs, where = [], []
    for k, (emoji, _) in enumerate(entries):
        name = slug(emoji)
        for style, art in enumerate(sets):
            if icon := art.get(name) or art.get(RENAMED.get(name, name)):
                jobs.append(icon)
                where.append((k, style))
    table = json.loads(Path(glob.glob(f"{npm}/unicode-emoji-json-*/package/data-by-emoji.json")[0]).read_text())
    others = [
        e["name"]
        for e in table.values()
        if e["name"] not in wanted and e["group"] not in ("Flags", "Symbols") and "’clock" not in e["name"]
    ]
    random.Random(5).shuffle(others)
    # -1: other art to train on, -2: art that nothing is ever trained on
    for i, name in enumerate(others[: OTHER_TRAIN + OTHER_HELD]):
        for style, art in enumerate(sets):
            if slug(name) in art and not (style == 3 and i < OTHER_TRAIN):
                jobs.append(art[slug(name)])
                where.append((-1 if i < OTHER_TRAIN else -2, style))
    started = time.time()
    with Pool(os.cpu_count()) as pool:
        drawn = pool.map(render, jobs, chunksize=8)
    kept = [(place, blob) for place, blob in zip(where, drawn, strict=True) if blob]
    blobs = [np.frombuffer(blob, np.uint8) for _, blob in kept]
    Path(work).mkdir(parents=True, exist_ok=True)
    np.savez(
        f"{work}/art.npz",
        blob=np.concatenate(blobs),
        sizes=np.array([len(b) for b in blobs]),
        where=np.array([place for place, _ in kept], np.int16),
    )
    words = json.loads(Path(glob.glob(f"{npm}/emojilib-*/package/dist/emoji-en-US.json")[0]).read_text())
    known = sorted({word for keys in words.values() for key in keys for word in re.findall(r"[a-z]{3,}", key.lower())})
    Path(work, "names.json").write_text(json.dumps({"names": [names for _, names in entries], "words": known}))
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(SHIPPED / name, Path(work, name), dirs_exist_ok=True)
    missing = len(jobs) - len(kept)
    print(f"{len(entries)} subjects, {len(kept)} pictures, {missing} empty, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    collect(sys.argv[1], sys.argv[2])
