"""What is typed into one field, read: numbers, sizes, precisions. What can't be used is told with the field's name."""

from __future__ import annotations

import math
import re
import secrets

from engines.entries import Recipe, Size
from engines.errors import InvalidRequest
from engines.requests import MAX_SEED, PRECISIONS, Precision, check_size


def whole(field: str, text: str, low: int, high: int, default: int) -> int:
    """A whole number from low to high; the default for an empty text. Raises InvalidRequest."""
    text, name = text.strip().replace("_", ""), field.replace("_", " ")
    if not text:
        return default
    if not re.fullmatch(r"[+-]?\d{1,30}", text) or not text.isascii():
        raise InvalidRequest(f"{name} must be a whole number, not '{_said(text)}'", f"{low} to {high}", field)
    if not low <= int(text) <= high:
        raise InvalidRequest(f"{name} must be {low} to {high}, not {text}", "leave it out for the default", field)
    return int(text)


def seed(text: str) -> int:
    """A seed; one that is drawn at random for an empty text. Raises InvalidRequest."""
    return whole("seed", text, 0, MAX_SEED, 0) if text.strip() else secrets.randbelow(2**32)


def number(field: str, text: str, low: float, high: float, default: float) -> float:
    """A number from low to high; the default for an empty text. Raises InvalidRequest."""
    text, name = text.strip(), field.replace("_", " ")
    if not text:
        return default
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        raise InvalidRequest(f"{name} must be a number, not '{_said(text)}'", f"{low:g} to {high:g}", field) from None
    if not math.isfinite(value) or not low <= value <= high:
        raise InvalidRequest(
            f"{name} must be {low:g} to {high:g}, not {_said(text)}", "leave it out for the default", field
        )
    return value


def exact(value: float) -> str:
    """The shortest text that is read back as the same number: '7', '4.5', '0.1234567'."""
    return repr(float(value)).removesuffix(".0")


def size(text: str, recipe: Recipe) -> Size:
    """(width, height) of a text such as 1024x768 or 4:3; the recipe's for an empty one. Raises InvalidRequest."""
    text = text.strip().lower()
    if not text:
        return recipe.size
    if ":" in text:
        return aspect_size(text, recipe)
    match = re.fullmatch(r"([+-]?\d{1,9})\s*[x×*]\s*([+-]?\d{1,9})", text)
    if match is None:
        raise InvalidRequest(f"size must be WIDTHxHEIGHT in pixels, not '{_said(text)}'", offered(recipe), "size")
    width, height = int(match[1]), int(match[2])
    check_size(width, height)
    return width, height


def aspect_size(text: str, recipe: Recipe) -> Size:
    """The trained (width, height) whose ratio is nearest to an aspect such as 3:2. Raises InvalidRequest."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*:\s*(\d+(?:\.\d+)?)\s*", text)
    if match is None or not (float(match[1]) > 0 and float(match[2]) > 0):
        raise InvalidRequest(f"aspect must be two numbers such as 3:2, not '{text}'", offered(recipe), "size")
    wanted = math.log(float(match[1]) / float(match[2]))
    return min(recipe.sizes, key=lambda size: abs(math.log(size[0] / size[1]) - wanted))


def offered(recipe: Recipe) -> str:
    """The sizes of a recipe, for a hint."""
    return "trained sizes: " + ", ".join(f"{w}x{h}" for w, h in recipe.sizes)


def precision(text: str) -> Precision:
    """One of PRECISIONS; auto for an empty text. Raises InvalidRequest."""
    wanted = text.strip().lower() or "auto"
    for known in PRECISIONS:
        if wanted == known:
            return known
    raise InvalidRequest(f"no precision '{_said(text)}'", f"one of {', '.join(PRECISIONS)}", "precision")


def _said(text: str) -> str:
    """What was typed, for a message of one line."""
    return " ".join(text.split())[:40]
