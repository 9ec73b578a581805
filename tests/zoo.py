"""Files that are not what they say: each has a builder, and the line that a user must be told."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny

MARKER = "safelight-zoo-was-here"
"The name of the file that the pickle makes beside itself if its code is run."


@dataclass(frozen=True)
class Beast:
    """One broken or foreign file."""

    name: str
    "What is wrong with it; also a file's stem."
    make: Callable[[Path], Path]
    "Writes it into a folder and returns its path."
    expect: str
    "A regular expression that the one line must have in it."
    stage: str = "read"
    "read: refused by its header or index; use: identified and refused; load: only its weights show it."


def safetensors(table: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file's bytes from its header, as text, bytes or a table."""
    text = table if isinstance(table, bytes) else (table if isinstance(table, str) else json.dumps(table)).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape: tuple[int, ...], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def _file(data: bytes, name: str = "beast.safetensors") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


class Code:
    """What a pickle may bring along."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder / MARKER),)


def pickled(name: str) -> Callable[[Path], Path]:
    """A pickle that makes MARKER when it is run."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(pickle.dumps({"state_dict": Code(folder)}, 2))
        return folder / name

    return make


def zipped(name: str) -> Callable[[Path], Path]:
    """The same as PyTorch saves it since 1.6."""

    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": Code(folder)}, 2))
        return folder / name

    return make


def _cut(folder: Path) -> Path:
    whole = tiny.shared(tiny.lora).read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-1000])
    return folder / "cut.safetensors"


def _trailing(folder: Path) -> Path:
    (folder / "long.safetensors").write_bytes(tiny.shared(tiny.lora).read_bytes() + b"more")
    return folder / "long.safetensors"


def _nan(folder: Path) -> Path:
    import torch
    from safetensors.torch import load_file, save_file

    made = load_file(tiny.shared(tiny.lora))
    first = next(iter(made))
    made[first] = torch.full_like(made[first], float("nan"))
    save_file(made, folder / "nan.safetensors")
    return folder / "nan.safetensors"


def _no_index(folder: Path) -> Path:
    (folder / "model").mkdir()
    (folder / "model" / "notes.txt").write_text("nothing")
    return folder / "model"


def _bad_index(folder: Path) -> Path:
    (folder / "model").mkdir()
    (folder / "model" / "model_index.json").write_text("[" * 50_000)
    return folder / "model"


def _missing_shard(folder: Path) -> Path:
    place = folder / "vae"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    first = "diffusion_pytorch_model-00001-of-00002.safetensors"
    (place / first).write_bytes(safetensors({"a": entry((1,), 0, 4)}, bytes(4)))
    index = {"weight_map": {"a": first, "b": first.replace("00001", "00002", 1)}}
    (place / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return place


def _pickled_folder(folder: Path) -> Path:
    place = folder / "old"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    (place / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02")
    return place


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.safetensors")
    return folder / "pipe.safetensors"


def _dangling(folder: Path) -> Path:
    (folder / "lost.safetensors").symlink_to(folder / "nowhere")
    return folder / "lost.safetensors"


def _looping(folder: Path) -> Path:
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    return folder / "loop.safetensors"


def _sparse(folder: Path) -> Path:
    with (folder / "claim.safetensors").open("wb") as f:
        f.write((100_000_001).to_bytes(8, "little"))
        f.truncate(200_000_000)
    return folder / "claim.safetensors"


def _fp8(folder: Path) -> Path:
    table = {"model.diffusion_model.scaled": entry((4,), 0, 4, "F8_E4M3"), "scaled_fp8": entry((2,), 4, 6, "F8_E4M3")}
    table["model.diffusion_model.input_blocks.0.0.weight"] = entry((1, 4, 1, 1), 6, 10, "F8_E4M3")
    table["model.diffusion_model.time_embed.0.weight"] = entry((1, 1), 10, 11, "F8_E4M3")
    return _file(safetensors(table, bytes(11)), "scaled.safetensors")(folder)


_ONE = {"a": entry((2,), 0, 8)}
ZOO: tuple[Beast, ...] = (
    Beast("empty", _file(b""), r"has 0 bytes"),
    Beast("short", _file(b"abc"), r"has 3 bytes"),
    Beast("truncated-header", _file(safetensors(_ONE)[:20]), r"cut short or no safetensors"),
    Beast("header-2-60", _file(safetensors(_ONE, bytes(8), 1 << 60)), r"cut short or no safetensors"),
    Beast("header-100-mb", _sparse, r"cut short or no safetensors"),
    Beast("cut-short", _cut, r"is cut short: it has"),
    Beast("trailing-bytes", _trailing, r"is damaged: it has"),
    Beast("no-json", _file(safetensors("hello, world")), r"header can't be read"),
    Beast("a-list", _file(safetensors([1, 2])), r"header can't be read"),
    Beast("not-utf-8", _file(safetensors(b'{"\xff\xfe": {}}')), r"header can't be read"),
    Beast("deep", _file(safetensors("[" * 200_000)), r"header can't be read"),
    Beast("deep-entry", _file(safetensors('{"a":' * 50_000)), r"header can't be read"),
    Beast("huge-number", _file(safetensors('{"a": ' + "9" * 10_000 + "}")), r"header can't be read"),
    Beast("twice", _file(safetensors('{"a": {}, "a": {}}')), r"a stands in its header twice"),
    Beast("wrong-types", _file(safetensors({"a": 3})), r"tensor a has a size that can't be"),
    Beast("shape-of-text", _file(safetensors({"a": {**_ONE["a"], "shape": "xy"}}, bytes(8))), r"size that can't be"),
    Beast("dtype-list", _file(safetensors({"a": {**_ONE["a"], "dtype": []}}, bytes(8))), r"size that can't be"),
    Beast("unknown-dtype", _file(safetensors({"a": entry((2,), 0, 8, "F7")}, bytes(8))), r"size that can't be"),
    Beast("negative", _file(safetensors({"a": entry((-2,), 0, 8)}, bytes(8))), r"size that can't be"),
    Beast("wrong-shape", _file(safetensors({"a": entry((3,), 0, 8)}, bytes(8))), r"size that can't be"),
    Beast("many-sides", _file(safetensors({"a": entry((2**62,) * 9999, 0, 8)}, bytes(8))), r"size that can't be"),
    Beast(
        "overlap",
        _file(safetensors({**_ONE, "b": entry((2,), 4, 12)}, bytes(12))),
        r"tensor b overlaps another or leaves a gap",
    ),
    Beast("gap", _file(safetensors({**_ONE, "b": entry((2,), 9, 17)}, bytes(17))), r"overlaps another or leaves a gap"),
    Beast("escapes", _file(safetensors({"\x1b[2J\x1b]0;x\x07\nb": 1})), r"tensor \?\[2J\?\]0;x\?\?b has a size"),
    Beast("lfs", _file(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), r"a Git LFS pointer"),
    Beast("page", _file(b"<!DOCTYPE html><html>Not found</html>"), r"but a web page"),
    Beast("gguf", _file(b"GGUF\x03\x00\x00\x00" + bytes(64)), r"but a GGUF file"),
    Beast("zip", _file(b"PK\x03\x04\x14\x00\x00\x00" + bytes(64)), r"but a zip archive"),
    Beast("zip-renamed", zipped("renamed.safetensors"), r"but a pickled PyTorch checkpoint"),
    Beast("pickle-renamed", pickled("renamed.safetensors"), r"but a pickle"),
    Beast("pickle-code", pickled("code.ckpt"), r"a pickled file, which may run code"),
    Beast("zip-code", zipped("code.pt"), r"a pickled file, which may run code"),
    Beast("fifo", _fifo, r"is no regular file"),
    Beast("dangling", _dangling, r"is a link that leads nowhere"),
    Beast("looping", _looping, r"is a link that leads nowhere"),
    Beast("folder-without-index", _no_index, r"has no model_index\.json"),
    Beast("folder-bad-index", _bad_index, r"model_index\.json is damaged"),
    Beast("missing-shard", _missing_shard, r"-00002-of-00002\.safetensors is missing"),
    Beast("folder-of-pickles", _pickled_folder, r"has pickled weights only"),
    Beast("scaled-fp8", _fp8, r"quantised weights", "use"),
    Beast(
        "lora-of-sd1",
        lambda folder: tiny.lora(folder / "old.safetensors", architecture="sd1"),
        r"a LoRA for Stable Diffusion 1\.x; safelight draws with SDXL",
        "use",
    ),
    Beast(
        "embedding-of-sd1",
        lambda folder: tiny.embedding(folder / "old.safetensors", kind="sd1"),
        r"an embedding for Stable Diffusion 1\.x",
        "use",
    ),
    Beast("no-tensors", _file(safetensors({})), r"no model that safelight knows", "use"),
    Beast("foreign", _file(safetensors(_ONE, bytes(8))), r"no model that safelight knows", "use"),
    Beast("nan", _nan, r"not finite", "load"),
)
