"""Pictures of all sorts, as what enlarges or mends them takes them: upright, in grey or RGB of 8 bits, with or without
transparency."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from engines.errors import InvalidRequest

STILLS = ("MPO", "PSD")
"Formats whose further frames are no motion: what a camera kept beside the picture, and the layers of one."


def prepare(picture: Image.Image, name: str = "the picture") -> Image.Image:
    """A picture in mode RGB, RGBA, L or LA with 8 bits a band, upright.

    Turned as its EXIF orientation says. Palettes, CMYK, YCbCr and the like become RGB, by their colour profile where
    CMYK has one; black and white becomes L; a colour that stands for transparency becomes a band. 16 bits become 8 by
    their upper half, rounded; floating-point levels are taken as 0 … 1. An RGB or grey picture's colour profile stays.

    Args:
        picture: as it was opened; of a format of STILLS its first frame is taken.
        name: of its file, for messages.

    Raises:
        InvalidRequest: it is animated, damaged or cut short, or has numbers that are no levels.
    """
    if (frames := getattr(picture, "n_frames", 1)) > 1 and getattr(picture, "format", None) not in STILLS:
        raise InvalidRequest(f"{name} is animated: it has {frames} frames", "save one of them and take that", "picture")
    try:
        picture.load()
        picture = ImageOps.exif_transpose(picture)  # a copy, in any case
        profile = picture.info.get("icc_profile")
        made = _plain(picture, profile)
    except (OSError, SyntaxError, ValueError, EOFError) as e:
        text = " ".join(str(e).split())
        raise InvalidRequest(
            f"{name} can't be read: {text[:80]}", "it may be cut short: save it again", "picture"
        ) from e
    kept = profile if made.mode[:1] == picture.mode[:1] and picture.mode in ("L", "LA", "RGB", "RGBA") else None
    made.info = {"icc_profile": kept} if kept else {}
    return made


def _plain(picture: Image.Image, profile: Any) -> Image.Image:
    mode = picture.mode
    if mode.startswith("I"):  # I;16 in all byte orders, and I, in which Pillow gives 16-bit files of some formats
        levels = np.asarray(picture).astype(np.float64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError(f"levels from {levels.min():.0f} to {levels.max():.0f}")
        return Image.fromarray(np.rint(levels / 257).astype(np.uint8))
    if mode == "F":
        levels = np.asarray(picture).astype(np.float64)
        if not (np.isfinite(levels).all() and levels.min() >= 0 and levels.max() <= 1):
            raise ValueError("its levels are not 0 to 1")
        return Image.fromarray(np.rint(levels * 255).astype(np.uint8))
    if mode == "CMYK" and profile:
        try:
            made = ImageCms.profileToProfile(
                picture, ImageCms.getOpenProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            made = None  # a profile of something else: as if there were none
        if made is not None:
            return made
    clear = "transparency" in picture.info or mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if mode in ("1", "L", "LA", "La"):
        wanted = "LA" if clear else "L"
    else:
        wanted = "RGBA" if clear else "RGB"
    if mode == "La":  # which becomes LA only
        picture = picture.convert("LA")
    return picture if picture.mode == wanted else picture.convert(wanted)
