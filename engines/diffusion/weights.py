"""Weights from a file that is not trusted: .safetensors, or a pickle whose hash is known."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from pathlib import Path

import torch
from safetensors import safe_open

from engines import headers
from engines.errors import LoadError
from engines.headers import shown

MAX_BYTES = 1 << 30
"Of a pickled file, which is read whole; the largest that was released, GFPGAN's, has 349 MB."


def read(path: Path, sha256: str = "") -> dict[str, torch.Tensor]:
    """The weights of a file, as they are named there, on the CPU.

    Args:
        path: a .safetensors file, or a pickled one, whose weights may stand under params_ema or params.
        sha256: what the file must have, in hex; a pickled one is not opened without it, and then by torch's reader of
            nothing but tensors. The bytes that are hashed are those that are read.

    Raises:
        LoadError: the file is missing, is not the one that is meant, or holds no table of weights.
    """
    name = shown(path.name)
    if path.suffix.lower() == ".safetensors":
        header = headers.read(path)
        try:
            if sha256:
                check_file(path, sha256)
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in header.tensors}
        except OSError as e:
            raise LoadError(f"{name} can't be read: {e.strerror or e}", "name another file") from e
    size = headers.check_regular(path)
    if not sha256:
        raise LoadError(
            f"{name} is no .safetensors file, and what sha256 it should have is not known",
            f"safelight models convert {name} makes a .safetensors file of a pickled one",
        )
    if size > MAX_BYTES:
        raise LoadError(f"{name} has {size / 2**30:.1f} GiB: none that is known is that large", "name another file")
    try:
        content = path.read_bytes()  # once: what is hashed is what is read
    except OSError as e:
        raise LoadError(f"{name} can't be read: {e.strerror or e}", "name another file") from e
    _check_hash(name, hashlib.sha256(content).hexdigest(), sha256)
    return _unpickled(content, name)


def check_file(path: Path, sha256: str) -> None:
    """Raises LoadError if a file is not the one that is meant, or can't be read."""
    try:
        with path.open("rb") as f:
            found = hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise LoadError(f"{shown(path.name)} can't be read: {e.strerror or e}", "name another file") from e
    _check_hash(shown(path.name), found, sha256)


def _check_hash(name: str, found: str, wanted: str) -> None:
    if found != wanted.lower():
        raise LoadError(f"{name} is not the file that is meant: its sha256 is {found[:16]}…", headers.AGAIN)


def refused(error: Exception, name: str, hint: str) -> LoadError:
    """What torch's reader of pickles made of a file, in words; `hint` is for one that would run something."""
    text = " ".join(str(error).split())
    found = re.search(r"(?:Unsupported global: GLOBAL|Unsupported class|Unsupported operand|GLOBAL) ([\w.]+)", text)
    if found or "weights_only" in text.lower() or "Weights only load failed" in text:
        what = f" ({shown(found[1])})" if found else ""
        return LoadError(f"{name} holds more than weights{what}; it was not run", hint)
    return LoadError(f"{name} is damaged or no PyTorch file: {shown(text or type(error).__name__)}", headers.AGAIN)


def _unpickled(content: bytes, name: str) -> dict[str, torch.Tensor]:
    try:
        with warnings.catch_warnings():  # about protocols of pickles: what can't be read fails
            warnings.simplefilter("ignore")
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as e:  # a damaged pickle fails in any way
        raise refused(e, name, "look for another file of it") from None
    if isinstance(found, dict):
        found = next((found[key] for key in ("params_ema", "params") if isinstance(found.get(key), dict)), found)
    if not isinstance(found, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in found.items()
    ):
        raise LoadError(f"{name} has no table of weights in it", "name another file")
    return found
