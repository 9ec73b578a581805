"""What is told of a file, a folder or a repository: values, and how a precision is put into words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from engines import hints, kinds
from engines.headers import Header

COMPONENTS = ("unet", "text_encoder", "text_encoder_2", "vae")
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
PART_NAMES = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}
_PRECISIONS = {
    "F16": "fp16", "BF16": "bf16", "F32": "fp32", "F64": "fp64", "F8_E4M3": "fp8", "F8_E5M2": "fp8 (e5m2)",
    "I8": "int8", "U8": "8 bits", "F4": "4 bits",
}  # fmt: skip
NOTHING = hints.Hints()


@dataclass(frozen=True, slots=True)
class Identified:
    """What a file, a folder or a repository is."""

    name: str
    "What people call it: the file's, the folder's or the repository's name."
    kind: str
    "As in engines.kinds.Kind, or 'scorer' for a folder with a CLIPModel."
    architecture: str
    "A key of engines.kinds.TITLES."
    supported: bool = True
    "Whether safelight can use it."
    why_not: str = ""
    "The rest of a sentence that begins with its name, if it can't."
    precision: str = ""
    "fp16, bf16, fp32, fp8 …; 'fp16, VAE fp32' where components differ; empty where only an index was seen."
    parameters: tuple[tuple[str, int], ...] = ()
    "(component, numbers in it)."
    width: int | None = None
    "Of the text that it attends to."
    scale: int = 0
    "Of an upscaler: how many times as wide and high."
    hints: hints.Hints = NOTHING
    "Prediction, distillation, and why."
    known: str = ""
    "The id of the catalogue's entry with the same sha256."
    title: str = ""
    "By its metadata."
    author: str = ""
    "By its metadata."
    licence: str = ""
    "By its metadata."
    words: str = ""
    "Trigger words of a LoRA."
    base: str = ""
    "What its trainer says that it was made over."
    sha256: str = ""
    "Where the hub's cache knows it."
    variant: str | None = None
    "Of the files to take in a folder or repository."
    bytes: int = 0
    "Of all files that are needed."
    header: Header | None = None
    "Of a single file."

    @property
    def architecture_title(self) -> str:
        """The architecture for people."""
        return kinds.TITLES.get(self.architecture, self.architecture)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is taken for what it is; for a model without hints, what was assumed."""
        if self.known:
            return (f"its sha256 is that of {self.known}",)
        if self.kind in ("model", "unet") and self.supported and not self.hints.reasons:
            return (f"{self.architecture_title}, recipe unknown: base recipe assumed",)
        return self.hints.reasons


def precision(header: Header, kind: str) -> str:
    """fp16, or 'fp16, VAE fp32' where components differ; the type of most numbers counts."""
    counts: dict[str, Counter[str]] = {}
    for name, tensor in header.tensors.items():
        if tensor.dtype in _PRECISIONS:
            counts.setdefault(kinds.component(name, kind), Counter())[_PRECISIONS[tensor.dtype]] += tensor.count
    each = {part: count.most_common(1)[0][0] for part, count in counts.items() if count.total()}
    if not each:
        return ""
    main = each.get("unet") or max(counts.values(), key=Counter.total).most_common(1)[0][0]
    apart = [f"{PART_NAMES.get(part, part)} {value}" for part, value in each.items() if value != main]
    return ", ".join((main, *apart))
