"""The header of a .safetensors file: names, types and shapes of its tensors, without a tensor being read.

The format is eight bytes of length, that many bytes of JSON, then the tensors, one behind the other without gaps
(github.com/huggingface/safetensors, "Format"). Everything that the format promises is checked, because a file that
breaks a promise was cut short, damaged or renamed, and would otherwise fail late and in other words.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import LoadError

MAX_HEADER = 100_000_000
"Bytes of JSON; safetensors' own limit."
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"Bits of one number, by the format's name for its type."
MAX_SIDES = 64
"Sides of a tensor; torch's own limit."
AGAIN = "download it again"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file."""

    dtype: str
    "As the format names it: F16, BF16, F32, …"
    shape: tuple[int, ...]
    "Its sides."
    start: int
    "Where its bytes begin, counted from the end of the header."
    end: int
    "Where they end."

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    path: Path
    "The file."
    tensors: dict[str, Tensor]
    "By name, in the order of the file."
    metadata: dict[str, str]
    "What its maker wrote beside the tensors."
    size: int
    "Bytes of the whole file."

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}


def read(path: Path) -> Header:
    """The header of a file that is wholly there.

    Raises:
        LoadError: there is no such file, it is no regular file, no safetensors file, or it is damaged; nothing was
            waited for and at most MAX_HEADER bytes were read.
    """
    name = shown(path.name)
    try:
        size = check_regular(path)
        # what was regular a moment ago may be a FIFO by now: it is opened without waiting
        with open(path, "rb", opener=lambda file, flags: os.open(file, flags | getattr(os, "O_NONBLOCK", 0))) as f:
            start = f.read(8)
            if len(start) < 8:
                raise LoadError(f"{name} has {size} bytes: no safetensors file", AGAIN)
            length = int.from_bytes(start, "little")
            # a length may look like the start of something else: 640 is the first bytes of a pickle
            if length > min(MAX_HEADER, size - 8):
                if (other := what_it_is(path, start)) is not None:
                    raise LoadError(f"{name} is no safetensors file but {other}", pickles(path))
                raise LoadError(f"{name} is cut short or no safetensors file: its header doesn't fit in it", AGAIN)
            text = f.read(length)
    except OSError as e:
        raise LoadError(f"{shown(str(path))} can't be read: {e.strerror or e}", "name another file") from e
    return _parsed(path, text, size)


def parse(path: Path, text: bytes, size: int) -> Header:
    """The header of a file that is elsewhere, from its JSON and its size. Raises LoadError as `read` does."""
    return _parsed(path, text, size)


def check_regular(path: Path) -> int:
    """Bytes of a regular file, links followed. Raises LoadError for what is missing, a link in a circle, a folder, or
    something that would keep a reader waiting, such as a FIFO."""
    try:
        found = os.stat(path)
    except OSError as e:
        if path.is_symlink():
            raise LoadError(f"{shown(str(path))} is a link that leads nowhere", "mend the link, or remove it") from e
        raise LoadError(f"{shown(str(path))} can't be read: {e.strerror or e}", "name a file that is there") from e
    except ValueError as e:
        raise LoadError(f"{shown(str(path))} is no file name", "name a file that is there") from e
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise LoadError(f"{shown(str(path))} is {kind}", "name a .safetensors file")
    return found.st_size


def what_it_is(path: Path, start: bytes) -> str | None:
    """What else a file is, from its first bytes: a pickle, a zip of pickles, a page; None if none of these."""
    if start.startswith(b"PK\x03\x04"):
        pickled = False
        try:
            with zipfile.ZipFile(path) as archive:  # reads the directory at the file's end, unpacks nothing
                pickled = any(name.endswith("data.pkl") for name in archive.namelist())
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, OverflowError):
            pass
        return "a pickled PyTorch checkpoint" if pickled else "a zip archive"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle"
    if start[:4] == b"GGUF":
        return "a GGUF file"
    if start.lstrip()[:1] in (b"<",):
        return "a web page"
    if start.startswith(b"version "):
        return "a Git LFS pointer: the file itself was not downloaded"
    return None


def pickles(path: Path) -> str:
    """The hint for something that is no safetensors file."""
    with path.open("rb") as f:
        kind = what_it_is(path, f.read(8)) or ""
    return f"safelight models convert {shown(path.name)} makes one of it" if "pickle" in kind else AGAIN


def _parsed(path: Path, text: bytes, size: int) -> Header:
    file = shown(path.name)
    damaged = LoadError(f"{file} is damaged: its header can't be read", AGAIN)
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
    except _Twice as e:
        raise LoadError(f"{file} is damaged: {shown(str(e))} stands in its header twice", AGAIN) from None
    except (ValueError, RecursionError):
        raise damaged from None
    if not isinstance(table, dict):
        raise damaged
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise damaged
    tensors = {name: _tensor(path, name, entry) for name, entry in table.items()}
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != at:
            raise LoadError(
                f"{shown(path.name)} is damaged: tensor {shown(name)} overlaps another or leaves a gap", AGAIN
            )
        at = tensor.end
    there = size - 8 - len(text)
    if there != at:
        word = "cut short" if there < at else "damaged"
        raise LoadError(f"{file} is {word}: it has {there:,} of {at:,} bytes of tensors", AGAIN)
    return Header(path, tensors, {str(k): v for k, v in metadata.items() if isinstance(v, str)}, size)


class _Twice(ValueError):
    """A name that stands twice in one JSON object."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        raise _Twice(next(name for name, _ in pairs if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    return made


def _tensor(path: Path, name: str, entry: Any) -> Tensor:
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = len(shape) <= MAX_SIDES and all(type(x) is int and 0 <= x < 2**63 for x in (*shape, start, end))
        count = math.prod(shape) if whole else 0
        fits = whole and end - start == (count * BITS[dtype] + 7) // 8
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise LoadError(f"{shown(path.name)} is damaged: tensor {shown(name)} has a size that can't be", AGAIN)
    return Tensor(dtype, shape, start, end)


def shown(name: str) -> str:
    """A tensor's name for a message: whatever a file calls it, one line of at most 80 characters."""
    return "".join(c if c.isprintable() else "?" for c in name)[:80]
