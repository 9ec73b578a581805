"""Files of models of one architecture, mixed into a new one, a small piece at a time.

What is computed, engines.blocks.Formula says; how, engines.diffusion.mixing. Nothing larger than a few of its pieces is
in memory, whatever the files' size.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import torch

from engines import blocks, folders, headers
from engines.blocks import Formula
from engines.diffusion.mixing import PIECE, Tally, blend, check_finite, check_same_unet, never, unlike
from engines.errors import DiskFull, InvalidRequest, LoadError, Stopped, StorageError
from engines.wire import size as told

FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"Types that can be mixed, by safetensors' names."
DTYPES = dict(zip(blocks.DTYPES, ("F16", "BF16", "F32"), strict=True))
"What a mix may be written in, and what safetensors calls it."
COPIED = {"BOOL", "I16", "I32", "I64"}
"Types that hold no weights (positions, say): the first model's are taken."

_HASHED = 1 << 24
"Bytes hashed at a time."
_INHERITED = (
    "architecture", "implementation", "implementation_version", "resolution", "prediction_type", "timestep_range",
)  # fmt: skip
"What a mix has from its first parent (github.com/Stability-AI/ModelSpec)."


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a mix is."""

    fraction: float
    "0 … 1, by bytes read and written."
    what: str
    "What is done now: a parent's or a tensor's name, in words for the user."


@dataclass(frozen=True, slots=True)
class Result:
    """A mix that is on disk."""

    path: Path
    "The file."
    bytes: int
    "Its size."
    dtype: str
    "What most of its numbers are stored in, as safetensors names it: F16, BF16, …"
    hashes: tuple[str, ...]
    "sha256 of each parent."
    tally: Tally
    "What became of the tensors."
    notes: tuple[str, ...]
    "What a person should know, in sentences."


def to_file(
    parents: Sequence[Path],
    formula: Formula,
    out: Path,
    *,
    dtype: str = "",
    title: str = "",
    metadata: Mapping[str, str] | None = None,
    digest: Callable[[Path], str] | None = None,
    overwrite: bool = False,
    stop: Callable[[], bool] = never,
) -> Generator[Progress, None, Result]:
    """Mixes .safetensors files into a new one; yields how far it is, and returns what it made.

    All files name their tensors alike: whole checkpoints, or UNets alone beside them. The result has the names and
    the order of the first. Its metadata has the formula and the parents' file names and sha256 as JSON under
    `safelight.merge`, and what ModelSpec asks for. It appears under its name when it is complete; until then, and
    after a failure or a stop, nothing is there but what was there before.

    Args:
        parents: two or three files, in the order of the formula; weights of 1 to 8 bytes a number, in any mixture.
        formula: what is computed, block by block.
        out: where it is written.
        dtype: fp16, bf16 or fp32; empty keeps the type that each tensor has in the first file.
        title: what people will call it; the file's name without suffix if empty.
        metadata: added to what is written, and overriding it.
        digest: gives a file's sha256 as 64 hex digits where that is known already; files are read for it otherwise.
        overwrite: whether a file that is there already may be replaced; never a parent.
        stop: looked at every few megabytes; Stopped is raised when it says so.

    Raises:
        InvalidRequest: the arguments make no mix.
        LoadError: a parent can't be read or is of another architecture, or a result is no finite number.
        DiskFull, StorageError: the result can't be written.
        Stopped: `stop` said so.
    """
    if len(parents) != len(formula.weights):
        raise InvalidRequest(f"{len(parents)} models have {len(formula.weights)} weights", "one for each", "weights")
    if dtype:
        blocks.check_dtype(dtype)
    _check_out(out, parents, overwrite)
    found = [headers.read(path) for path in parents]
    plan, tally = _plan(found, DTYPES.get(dtype, ""))
    size = sum(item.bytes for item in plan)
    folders.make(out.parent, private=False)
    _check_space(out.parent, size)

    to_hash = sum(header.size for header in found) if digest is None else 0
    work, done = to_hash + size or 1, 0
    hashes = []
    counted = blocks.layers(found[0].tensors)
    content = hashlib.sha256()
    with contextlib.ExitStack() as opened:
        sources = [opened.enter_context(_Source(header)) for header in found]
        for source in sources:
            if digest is not None:
                hashes.append(digest(source.path))
                continue
            hasher = hashlib.sha256()
            for piece in source.all_bytes():
                if stop():
                    raise Stopped
                hasher.update(piece)
                done += len(piece)
                yield Progress(done / work, f"reading {source.path.name}")
            hashes.append(hasher.hexdigest())

        said = _metadata(found, hashes, formula, title or out.stem, dtype) | dict(metadata or {})
        said["modelspec.hash_sha256"] = "0x" + "0" * 64  # as long as the true one, which is written when it is known
        if "modelspec.architecture" not in said:  # without one, ModelSpec isn't kept
            said.pop("modelspec.sai_model_spec", None)
        file = opened.enter_context(_whole(out, overwrite))
        file.write(_header(plan, said))
        for item in plan:
            yield Progress(done / work, item.name)
            factors = formula.at(blocks.of(item.name, layers=counted)) if item.mixed else (1.0,)
            for start in range(0, item.count, PIECE):
                if stop():
                    raise Stopped
                raw = _piece(sources, item, start, min(PIECE, item.count - start), formula.method, factors)
                file.write(raw)
                content.update(raw)
                done += len(raw)
        for source in sources:
            source.check_unchanged()
        yield Progress(1.0, "writing it to the disk")
        said["modelspec.hash_sha256"] = "0x" + content.hexdigest()
        file.seek(0)
        file.write(_header(plan, said))
    counts: dict[str, int] = {}
    for item in plan:
        counts[item.dtype] = counts.get(item.dtype, 0) + item.count
    most = max(counts, key=lambda name: counts[name], default="")
    return Result(out, out.stat().st_size, most, tuple(hashes), tally, (*tally.notes, *_doubts(found)))


@dataclass(frozen=True, slots=True)
class _Item:
    """One tensor of the result."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    mixed: bool

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.count * headers.BITS[self.dtype] // 8


def _plan(found: Sequence[headers.Header], dtype: str) -> tuple[list[_Item], Tally]:
    """What is written, in order, before anything is: all names, shapes and types are looked at here."""
    first, others = found[0], found[1:]
    for header in found:
        for name, tensor in header.tensors.items():
            _check_type(header.path.name, name, tensor.dtype)
    for other in others:
        check_same_unet(
            other.path.name,
            *({name for name in header.tensors if blocks.part(name) == "unet"} for header in (first, other)),
        )
        if not first.tensors.keys() & other.tensors.keys():
            raise LoadError(
                f"{first.path.name} and {other.path.name} name no tensor alike", "mix two files of one layout"
            )
    items, kept, copied = [], 0, 0
    for name, tensor in sorted(first.tensors.items(), key=lambda item: item[1].start):
        for other in others:
            if name in other.tensors and other.tensors[name].shape != tensor.shape:
                raise unlike(name, first.path.name, tensor.shape, other.path.name, other.tensors[name].shape)
        floats = [name in header.tensors and header.tensors[name].dtype in FLOATS for header in found]
        everywhere = all(name in other.tensors for other in others)
        copied += everywhere and not all(floats)
        kept += not everywhere
        items.append(_Item(name, dtype if dtype and floats[0] else tensor.dtype, tensor.shape, all(floats)))
    # the widest first keeps every tensor on a multiple of its number's size, as readers that map files want it
    items.sort(key=lambda item: -headers.BITS[item.dtype])
    dropped = sum(len(other.tensors.keys() - first.tensors.keys()) for other in others)
    return items, Tally(len(items) - copied - kept, copied, kept, dropped)


def _check_type(label: str, name: str, dtype: str) -> None:
    if dtype not in FLOATS and dtype not in COPIED:
        raise LoadError(
            f"{label} is quantised: {headers.shown(name)} is stored as {dtype}", "mix the model that it was made from"
        )
    if name == "scaled_fp8" or name.endswith((".scale_weight", ".weight_scale")):
        raise LoadError(f"{label} has fp8 weights with scales of their own", "mix the model that it was made from")


def _doubts(found: Sequence[headers.Header]) -> list[str]:
    """Signs that the models were trained to predict different things; such mixes seldom work."""
    notes = [
        f"only some of the models are marked {marker}: they were trained in different ways"
        for marker in ("v_pred", "ztsnr")
        if len({marker in header.tensors for header in found}) > 1
    ]
    said = {header.metadata.get("modelspec.prediction_type", "") for header in found} - {""}
    if len(said) > 1:
        notes.append(f"the models predict different things: {headers.shown(', '.join(sorted(said)))}")
    return notes


def _piece(
    sources: Sequence[_Source], item: _Item, start: int, count: int, method: str, factors: tuple[float, ...]
) -> memoryview:
    """`count` numbers of a result from number `start` on, as bytes."""
    if item.dtype not in FLOATS:
        return sources[0].read(item.name, start, count).numpy().data
    numbers = [
        source.read(item.name, start, count).view(FLOATS[source.tensors[item.name].dtype]).float() if factor else None
        for source, factor in zip(sources, factors, strict=False)
    ]
    result = blend(numbers, method if item.mixed else "weighted-sum", factors).to(FLOATS[item.dtype])
    check_finite(item.name, result)
    return result.view(torch.uint8).numpy().data


class _Source:
    """One parent, open."""

    def __init__(self, header: headers.Header) -> None:
        self.path = header.path
        self.tensors = header.tensors
        self._size = header.size
        self._first = header.size - max((tensor.end for tensor in header.tensors.values()), default=0)

    def __enter__(self) -> _Source:
        try:
            self._file = self.path.open("rb", buffering=0)
        except OSError as e:
            raise _unread(self.path, e) from e
        self._changed = os.fstat(self._file.fileno()).st_mtime_ns
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def all_bytes(self) -> Iterator[bytes]:
        """The whole file, some megabytes at a time."""
        try:
            self._file.seek(0)
            while piece := self._file.read(_HASHED):
                yield piece
        except OSError as e:
            raise _unread(self.path, e) from e

    def read(self, name: str, start: int, count: int) -> torch.Tensor:
        """The bytes of `count` numbers of a tensor from number `start` on."""
        tensor = self.tensors[name]
        size = headers.BITS[tensor.dtype] // 8
        raw = torch.empty(count * size, dtype=torch.uint8)
        into = raw.numpy().data
        try:
            self._file.seek(self._first + tensor.start + start * size)
            while into:
                got = self._file.readinto(into)
                if not got:
                    raise LoadError(f"{self.path.name} became shorter while it was read", "try it again")
                into = into[got:]
        except OSError as e:
            raise _unread(self.path, e) from e
        return raw

    def check_unchanged(self) -> None:
        """Raises LoadError if someone wrote to the file since its header was read."""
        stat = os.fstat(self._file.fileno())
        if (stat.st_size, stat.st_mtime_ns) != (self._size, self._changed):
            raise LoadError(f"{self.path.name} was changed while it was read", "try it again")


def _unread(path: Path, error: OSError) -> LoadError:
    return LoadError(f"{path} can't be read: {error.strerror or error}", "see whether the file is still there")


def _metadata(
    found: Sequence[headers.Header], hashes: Sequence[str], formula: Formula, title: str, dtype: str
) -> dict[str, str]:
    """What the result says of itself."""
    names = [header.path.name for header in found]
    try:
        made_with = version("safelight")
    except PackageNotFoundError:  # run from a checkout
        made_with = ""
    recipe: dict[str, Any] = {
        "safelight": made_with,
        "method": formula.method,
        "weights": list(formula.weights),
        "blocks": dict(formula.blocks),
        "dtype": dtype,
        "parents": [{"name": name, "sha256": sha} for name, sha in zip(names, hashes, strict=True)],
    }
    first = found[0].metadata
    said = {f"modelspec.{key}": first[f"modelspec.{key}"] for key in _INHERITED if f"modelspec.{key}" in first}
    said |= {
        "format": "pt",  # what transformers and diffusers ask of files that they read
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "modelspec.description": f"{formula} of {', '.join(names)}",
        "modelspec.merged_from": ", ".join(
            header.metadata.get("modelspec.title", header.path.stem).replace(",", " ") for header in found
        ),
        "safelight.merge": json.dumps(recipe),
    }
    licences = [header.metadata.get("modelspec.license", "") for header in found]
    if any(licences):
        said["modelspec.license"] = "; ".join(dict.fromkeys(licence for licence in licences if licence))
    return said


def _header(plan: Sequence[_Item], metadata: dict[str, str]) -> bytes:
    """The file up to its first tensor."""
    table: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for item in plan:
        table[item.name] = {"dtype": item.dtype, "shape": item.shape, "data_offsets": (at, at + item.bytes)}
        at += item.bytes
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _check_out(out: Path, parents: Sequence[Path], overwrite: bool) -> None:
    if out.suffix != ".safetensors":
        raise InvalidRequest(f"{out.name} doesn't end in .safetensors", f"write it to {out.stem}.safetensors", "out")
    for path in parents:
        with contextlib.suppress(OSError):  # what is not there yet is nobody's
            if os.path.samefile(path, out):
                raise InvalidRequest(f"{out} is one of the models that are mixed", "choose another name", "out")
    if os.path.lexists(out) and not overwrite:
        raise InvalidRequest(f"{out} is there already", "choose another name", "out")


def _check_space(folder: Path, size: int) -> None:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as e:
        raise _unwritten(folder, e) from e
    if free < size:
        raise DiskFull(
            f"the mix takes {told(size)} and {folder} has {told(free)} free",
            "free some space, or choose another folder",
        )


@contextlib.contextmanager
def _whole(out: Path, overwrite: bool) -> Iterator[IO[bytes]]:
    """A file that gets its name when all went well, and is gone otherwise; made with the rights of a new file."""
    partial = out.with_name(f".safelight-{secrets.token_hex(6)}")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not overwrite and os.path.lexists(out):
            raise StorageError(f"{out} was written by another program meanwhile", "choose another name")
        os.replace(partial, out)
    except OSError as e:
        raise _unwritten(out.parent, e) from e
    finally:
        partial.unlink(missing_ok=True)


def _unwritten(folder: Path, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"the disk that holds {folder} is full", "free some space, or choose another folder")
    return StorageError(
        f"{folder} can't be written: {error.strerror or error}", "choose a folder that you can write to"
    )
