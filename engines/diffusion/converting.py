"""Makes a .safetensors file of a pickled one, without running what a pickle may bring along.

torch.load(weights_only=True) builds tensors and plain containers and refuses all else by name. Sizes are checked
before: a small archive that unpacks into a large one is refused.
"""

from __future__ import annotations

import errno
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engines import headers
from engines.diffusion.weights import refused
from engines.errors import DiskFull, LoadError, Stopped, StorageError
from engines.headers import shown

MAX_BYTES = 64 << 30
"Of a checkpoint; the largest that are about have 30 GB."
MAX_RATIO = 3
"Unpacked bytes to packed ones; PyTorch stores tensors unpacked, so that it is 1."
SLACK = 1 << 20
_WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict")
"What a checkpoint keeps its tensors under, the first first."
_MANY = 5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is."""

    text: str
    "What was done, or a note on what was left out; one line."
    done: int
    "Steps that are done."
    total: int = 3
    "Of these."


def convert(file: Path, out: Path, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
    """Converts a pickled checkpoint, LoRA, VAE or embedding; `out` is there whole in the end, or not at all.

    Raises:
        LoadError: the file can't be read, has more in it than weights, or is too large.
        StorageError: `out` is there already, or can't be written.
        DiskFull: no space is left.
        Stopped: `stop` said so.
    """
    name = shown(file.name)
    size = _check(file)
    if os.path.lexists(out):
        raise StorageError(f"{shown(str(out))} is there already", "choose another name")
    yield Progress(f"reading {name}", 0)
    tensors, notes = _named(_loaded(file), name)
    if not tensors:
        raise LoadError(f"{name} has no weights in it", "name another file")
    if sum(t.numel() * t.element_size() for t in tensors.values()) > MAX_RATIO * size + SLACK:
        raise LoadError(f"{name} unpacks into far more than it holds", "don't trust it")
    for note in notes:
        yield Progress(note, 1)
    if stop():
        raise Stopped
    yield Progress(f"writing {len(tensors):,} tensors", 1)
    _write(_apart(tensors), out)
    yield Progress(f"{shown(out.name)} is written", 3)


def _check(file: Path) -> int:
    """Bytes of the file, if it is a pickle that may be read."""
    size = headers.check_regular(file)
    name = shown(file.name)
    if size > MAX_BYTES:
        raise LoadError(f"{name} is too large to be converted: {size >> 30} GB", "name a smaller one")
    with file.open("rb") as f:
        start = f.read(8)
    if not size or (start.startswith(b"PK") and not zipfile.is_zipfile(file)):
        # an archive ends with its directory, which is what a download that broke off lacks
        raise LoadError(f"{name} is {'cut short or damaged' if size else 'empty'}", headers.AGAIN)
    kind = headers.what_it_is(file, start)
    if kind is None or "pickle" not in kind:
        raise LoadError(f"{name} is no pickled file{f' but {kind}' if kind else ''}", "name a .ckpt, .pt, .pth or .bin")
    if start.startswith(b"PK"):
        with zipfile.ZipFile(file) as archive:  # its directory only
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > min(MAX_BYTES, MAX_RATIO * size + SLACK):
            raise LoadError(f"{name} is {size:,} bytes and would unpack into {unpacked:,}", "don't trust it")
    return size


def _loaded(file: Path) -> Any:
    name = shown(file.name)
    try:
        with warnings.catch_warnings():  # about protocols of pickles: what can't be read fails below
            warnings.simplefilter("ignore")
            try:
                return torch.load(str(file), map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
            except RuntimeError as e:
                if "mmap" not in str(e):
                    raise
                return torch.load(str(file), map_location="cpu", weights_only=True)
    except Exception as e:  # a damaged pickle fails in any way
        raise refused(e, name, "look for a .safetensors file of it") from None


def _named(loaded: Any, name: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """(tensors by name, a line for each kind of thing that is left out)."""
    notes: list[str] = []
    if isinstance(loaded, torch.Tensor):
        return {"emb_params": loaded}, notes
    if not isinstance(loaded, dict):
        raise LoadError(f"{name} has no table of weights in it", "name another file")
    table = loaded
    if isinstance(words := table.get("string_to_param"), dict):  # a textual inversion, as A1111 saves it
        named = {k: v for k, v in words.items() if isinstance(v, torch.Tensor)}
        one = next(iter(named.values()), None)
        return ({} if one is None else {"emb_params": one.detach()}), [
            f"kept the vectors of {shown(str(table.get('name', name)))}"
        ]
    inner = next((key for key in _WRAPPERS if isinstance(table.get(key), dict)), None)
    if inner is not None:
        beside = [shown(str(key)) for key in table if key != inner]
        if beside:
            notes.append(f"left out beside the weights: {_listed(beside)}")
        table = table[inner]
    tensors: dict[str, torch.Tensor] = {}
    strange = []
    for key, value in table.items():
        if (
            isinstance(key, str)
            and isinstance(value, torch.Tensor)
            and value.layout == torch.strided
            and not value.is_quantized
        ):
            tensors[key] = value.detach()
        else:
            strange.append(shown(str(key)))
    if strange:
        notes.append(f"left out, no plain tensors: {_listed(strange)}")
    averages = [key for key in tensors if key.startswith("model_ema.")]
    if averages and any(key.startswith("model.diffusion_model.") for key in tensors):
        for key in averages:
            del tensors[key]
        notes.append(f"left out: {len(averages):,} averaged weights (model_ema) that double the UNet's")
    return tensors, notes


def _listed(names: list[str]) -> str:
    more = len(names) - _MANY
    return ", ".join(names[:_MANY]) + (f" and {more} more" if more > 0 else "")


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with a memory of its own for each: the format knows no sharing."""
    owners: set[int] = set()
    made = {}
    for key, value in tensors.items():
        at = value.untyped_storage().data_ptr()
        alone = value.is_contiguous() and at not in owners and value.untyped_storage().nbytes() == value.nbytes
        made[key] = value if alone else value.contiguous().clone()
        owners.add(at)
    return made


def _write(tensors: dict[str, torch.Tensor], out: Path) -> None:
    from safetensors.torch import save_file

    partial = ""
    try:
        handle, partial = tempfile.mkstemp(prefix=".safelight-", dir=out.parent)
        os.close(handle)
        try:
            save_file(tensors, partial, {"format": "pt"})
        except Exception as e:  # safetensors' own error is no subclass of anything more exact
            if "os error 28" in str(e):
                raise OSError(errno.ENOSPC, "no space") from e
            raise StorageError(f"{shown(out.name)} can't be written: {shown(str(e))}", "choose another folder") from e
        headers.read(Path(partial))
        with open(partial, "rb") as f:
            os.fsync(f.fileno())
        os.chmod(partial, 0o644)
        try:
            os.link(partial, out)
        except FileExistsError:
            raise StorageError(f"{shown(str(out))} is there already", "choose another name") from None
        except OSError:  # a file system without hard links
            if os.path.lexists(out):
                raise StorageError(f"{shown(str(out))} is there already", "choose another name") from None
            os.rename(partial, out)
            partial = ""
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"the disk that holds {out.parent} is full", "free some space, or choose another folder"
            ) from e
        raise StorageError(f"{shown(str(out))} can't be written: {e.strerror or e}", "choose another folder") from e
    finally:
        if partial:
            Path(partial).unlink(missing_ok=True)
