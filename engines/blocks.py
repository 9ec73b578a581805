"""The blocks of an SDXL model, which a mix may weigh one by one: what they are called, and which weight is in which.

The UNet's blocks are counted as in its original layout: nine on the way in, one in the middle, nine on the way out. The
names are those of sd-mecha's configuration "sdxl-supermerger_blocks" (github.com/ljleb/sd-mecha) in small letters and
without zeros in front: IN04 is in4, M00 is mid. Its BASE, all that is neither in a block nor in the VAE, is base here;
the two text encoders, which belong to it, may be weighed for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from engines.errors import InvalidRequest, near

METHODS = ("weighted-sum", "add-difference")
"How models are mixed; see Formula."
DTYPES = ("fp16", "bf16", "fp32")
"What a file of a mix may be written in."
INS = tuple(f"in{i}" for i in range(9))
OUTS = tuple(f"out{i}" for i in range(9))
TEXT = ("text_encoder", "text_encoder_2")
NAMES = ("base", *INS, "mid", *OUTS, "vae", *TEXT)
"Every block; the first 21 in the order of SuperMerger's lists of numbers."
GROUPS = {"in": INS, "out": OUTS, "unet": (*INS, "mid", *OUTS)}
"Short for several blocks; the time embedding of the UNet stays with base."
MOST = 1e6
"The most that a weight may be; only proportions count."
REACH = 2.0
"How far a difference's share may go, either way."
LAYERS = 2
"Residual layers in each of SDXL's resolutions: what its blocks are counted with."

_ALIASES = {"m": "mid", "m0": "mid", "clip_l": "text_encoder", "clip_g": "text_encoder_2"}
_PARTS = {
    "model.diffusion_model.": "unet",
    "conditioner.embedders.0.": "text_encoder",
    "conditioner.embedders.1.": "text_encoder_2",
    "first_stage_model.": "vae",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "vae.": "vae",
}
"How names begin in a whole checkpoint of the original layout, and in one of diffusers' components."
_UNET = (
    "input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out.", "down_blocks.",
    "mid_block.", "up_blocks.", "time_embedding.", "add_embedding.", "conv_in.", "conv_norm_out.", "conv_out.",
)  # fmt: skip
"How names begin in a file of a UNet alone."
_BASE = ("time_embed.", "time_embedding.", "label_emb.", "add_embedding.")
_ORIGINAL = re.compile(r"(?P<side>input|output)_blocks\.(?P<number>\d+)\.")
_DIFFUSERS = re.compile(r"(?P<side>down|up)_blocks\.(?P<level>\d+)\.(?P<kind>\w+)\.(?P<index>\d+)\.")
_RESIDUAL = re.compile(r"(?:.*\.)?down_blocks\.\d+\.resnets\.(\d+)\.")


def part(key: str) -> str:
    """The component that a weight of a file belongs to: unet, text_encoder, text_encoder_2, vae; empty if none."""
    for prefix, name in _PARTS.items():
        if key.startswith(prefix):
            return name
    return "unet" if key.startswith(_UNET) else ""


def of(key: str, component: str = "", layers: int = LAYERS) -> str:
    """The block that a weight is in, one of NAMES for an SDXL model.

    Args:
        key: its name, in the original layout or in diffusers'.
        component: what it is a weight of, where its name doesn't say so: unet, text_encoder, text_encoder_2 or vae.
        layers: residual layers in each resolution, diffusers' `layers_per_block`.
    """
    component = component or part(key)
    if component != "unet":
        return component or "base"
    for prefix in ("model.diffusion_model.", "unet."):
        key = key.removeprefix(prefix)
    if key.startswith(_BASE):
        return "base"
    if found := _ORIGINAL.match(key):
        return f"{found['side'].removesuffix('put')}{found['number']}"
    if found := _DIFFUSERS.match(key):
        return _counted(found, layers)
    if key.startswith(("middle_block.", "mid_block.")):
        return "mid"
    return "in0" if key.startswith("conv_in.") else "out8"  # the last layers, and what is unknown, as in sd-mecha


def check_dtype(dtype: str) -> None:
    """Raises InvalidRequest unless a mix can be written in that type."""
    if dtype not in DTYPES:
        raise InvalidRequest(f"a mix can't be written in {dtype!r}", f"one of {', '.join(DTYPES)}", "dtype")


def layers(keys: Iterable[str]) -> int:
    """Residual layers in each resolution of a UNet with diffusers' names; SDXL's number if the names don't tell."""
    return max((int(found[1]) + 1 for found in map(_RESIDUAL.match, keys) if found), default=LAYERS)


def _counted(found: re.Match[str], layers: int) -> str:
    """diffusers counts within a resolution, the original through all of them: the way in begins with the first
    convolution and has a downsampler behind each resolution; on the way out an upsampler is part of the last block."""
    level, index = int(found["level"]), int(found["index"])
    first = level * (layers + 1)
    if found["side"] == "down":
        return f"in{first + layers + 1 if found['kind'] == 'downsamplers' else first + index + 1}"
    return f"out{first + layers if found['kind'] == 'upsamplers' else first + index}"


def name(text: str) -> str:
    """A block's own name from what people write: IN04, in_4, M00, BASE, clip_l. Raises InvalidRequest."""
    plain = text.strip().lower()
    if found := re.fullmatch(r"(in|out|m)_?0*(\d+)", plain):
        plain = found[1] + found[2]
    plain = _ALIASES.get(plain, plain)
    if plain not in NAMES:
        raise InvalidRequest(f"no block is called {text.strip()!r}", near(plain, (*NAMES, *GROUPS), "blocks"), "blocks")
    return plain


def parse(texts: Iterable[str]) -> tuple[tuple[str, float], ...]:
    """(block, share) pairs from NAME=SHARE, several with commas between them; see `spread`.

    Instead of names, 20 or 21 numbers are taken as SuperMerger writes them for SDXL: BASE, IN00 … IN08, M00,
    OUT00 … OUT08 and, if there are 21, VAE.

    Raises:
        InvalidRequest: a name is unknown, or a share is no number.
    """
    pairs: list[tuple[str, float]] = []
    for text in texts:
        pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
        if len(pieces) in (20, 21) and "=" not in text:
            pairs += [(block, _number(block, piece)) for block, piece in zip(NAMES, pieces, strict=False)]
            continue
        for piece in pieces:
            label, sign, value = piece.partition("=")
            if not sign:
                raise InvalidRequest(f"{piece!r} gives no block a share", "write in4=0.3", "blocks")
            pairs.append((label, _number(label.strip(), value)))
    return spread(pairs)


def spread(pairs: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """The same by the blocks' own names, each once and in the order of NAMES.

    in, out and unet stand for several blocks; what comes later overrides. Raises InvalidRequest for unknown names.
    """
    given: dict[str, float] = {}
    for label, share in pairs:
        for block in GROUPS.get(label.strip().lower()) or (name(label),):
            given[block] = share
    return tuple((block, given[block]) for block in NAMES if block in given)


def _number(block: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        said = text.strip()
        raise InvalidRequest(f"the share of {block} is no number: {said!r}", "write in4=0.3", "blocks") from None


@dataclass(frozen=True, slots=True)
class Formula:
    """What a mix is made by, for models A, B and, where there is one, C.

    weighted-sum: a·A + b·B + c·C, where a, b and c are the weights divided by their sum, so that only their proportion
    counts and the result is as strong as its parents. In a block with a share of its own, b is that share, c stays and
    a is what remains: SuperMerger's A·(1−b) + B·b and (1−b−c)·A + b·B + c·C
    (github.com/hako-mikan/sd-webui-supermerger).

    add-difference: A + b·(B − C), where b is the second weight or the block's share; the other weights aren't used.

    Raises:
        InvalidRequest: the numbers make no mix, or a block is unknown.
    """

    method: str
    "One of METHODS."
    weights: tuple[float, ...]
    "One a model: two or three for a weighted sum, three for add-difference."
    blocks: tuple[tuple[str, float], ...] = ()
    "(block, share of the second model) that override its weight there; text encoders without one take base's."

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", spread(self.blocks))
        count = len(self.weights)
        if self.method == "weighted-sum":
            self._check_sum(count)
        elif self.method == "add-difference":
            if count != 3:
                raise InvalidRequest(f"add-difference takes three models, not {count}", "A + share·(B − C)", "parents")
            for what, value in (("the difference's share", self.weights[1]), *self.blocks):
                _check(what, value, -REACH, REACH)
        else:
            raise InvalidRequest(f"nothing mixes by {self.method!r}", near(self.method, METHODS, "methods"), "method")

    def _check_sum(self, count: int) -> None:
        if count not in (2, 3):
            raise InvalidRequest(f"weighted-sum takes two or three models, not {count}", "name the models", "parents")
        for weight in self.weights:
            _check("a weight", weight, 0.0, MOST)
        if not sum(self.weights):
            raise InvalidRequest("the weights are all zero", "give one of the models a share", "weights")
        third = sum(self._shares()[2:])
        for block, share in self.blocks:
            _check(block, share, 0.0, 1.0)
            if share + third > 1 + 1e-9:
                raise InvalidRequest(
                    f"{block} would be {share:g} of the second model and {third:g} of the third",
                    "together they can't be more than 1",
                    "blocks",
                )

    def _shares(self) -> tuple[float, ...]:
        return tuple(weight / sum(self.weights) for weight in self.weights)

    @property
    def factors(self) -> tuple[float, ...]:
        """As `at`, where no block has a share of its own: formulas of one method that agree in them, and in their
        blocks, make the same mix."""
        return self.at("")

    def at(self, block: str) -> tuple[float, ...]:
        """What each model is multiplied with in a block: shares that sum to 1, or (1, b, −b) for add-difference."""
        own = dict(self.blocks)
        share = own.get(block, own.get("base") if block in TEXT else None)
        if self.method == "add-difference":
            b = self.weights[1] if share is None else share
            return (1.0, b, -b)
        shares = self._shares()
        if share is None:
            return shares
        third = shares[2:]
        return (max(0.0, 1.0 - share - sum(third)), share, *third)

    def __str__(self) -> str:
        """For people, in one line: weighted-sum 0.7 : 0.3, in4 0.5."""
        numbers = " : ".join(f"{weight:g}" for weight in self.weights)
        said = numbers if self.method == "weighted-sum" else f"{self.weights[1]:g}"
        return ", ".join([f"{self.method} {said}", *(f"{block} {share:g}" for block, share in self.blocks)])


def _check(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidRequest(f"{what} is {value:g}", f"it has to be between {low:g} and {high:g}", "weights")
