"""Whether a picture fits into memory, and what to change where it doesn't: arithmetic on bytes, without torch.

`plan` starts with everything on the device and goes down a ladder until the estimate fits what is free; `next_rung`
goes on from there when memory runs out all the same. The ladder, from what costs least to what costs most:

    VAE one picture at a time → VAE in tiles, smaller and smaller → denoiser one picture at a time
    → encoders leave after encoding → the UNet's weights in fp8 → the UNet layer by layer out of main memory

Without a GPU that has memory of its own (a CPU, Apple's unified memory) there is one pool, and only what saves
activations helps.

Where the numbers are from. The peak of tensors that live at once was counted operation by operation on the full-size
SDXL architecture with tensors of the meta device (a TorchDispatchMode that adds up storages as they come and go;
attention that is not materialised; diffusers 0.42.1, eager; tests/test_planning.py counts anew). In values, so that
fp16 takes twice as many bytes:

    UNet        78.75 a pixel of each picture in the batch, guidance counting twice; in the feed-forward of the second
                level, so the pruned UNets (SSD-1B, Vega) and longer prompts have the same
    VAE         768 a pixel: three maps of 256 channels at full size in the last upsampling block
    TAESD       192 a pixel, of the one picture that is previewed
    CLIP bigG   8 MB in fp16 for 77 tokens with all hidden states kept

On top comes what convolutions take as scratch. On a CPU the resident set was measured: decoding 512×512 with the
full-size VAE took 1.38 times the counted bytes in fp32 and 1.39 in bf16 (torch 2.13, oneDNN). On a GPU nothing was
measured here: ComfyUI (comfy/sd.py, comfy/supported_models.py) reckons 2,178 values a pixel for this VAE and some 131
for this UNet, which are taken over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["cuda", "mps", "cpu"]
"Where tensors live, as torch.device.type has it."
Phase: TypeAlias = Literal["loading", "encoding", "denoising", "decoding"]
"What a job does one after another."
Fit: TypeAlias = Literal["whole", "with offload", "no"]

PHASES: tuple[Phase, ...] = ("encoding", "denoising", "decoding")
"Those that decide whether it fits: loading needs no more than they do, but memory can run out in it."
WIDTHS = {"fp32": 4, "fp16": 2, "bf16": 2}
"Bytes of a value."

SCRATCH = 1.4
"What convolutions take beside the tensors on a CPU: this many times all of them."
UNET_VALUES = {"cuda": 131.0, "mps": 131.0, "cpu": 78.75 * SCRATCH}
"Values a pixel and picture, guidance counting twice, with scratch; see above."
VAE_VALUES = {"cuda": 2178.0, "mps": 2178.0, "cpu": 768 * SCRATCH}
"Values a pixel that is decoded at once, with scratch; see above."
PREVIEW_VALUES = 192 * SCRATCH
"Values a pixel of the picture that is previewed; the scratch is the CPU's."
PICTURE_BYTES = 48
"A pixel of a decoded picture while it becomes 8 bits: three values in fp32, four times."
ENCODING_BYTES = 64 * 2**20
"For a prompt of several chunks with parts below weight 1; one chunk needs an eighth."
ALLOWANCE = 384 * 2**20
"What is kept free: kernels that are loaded at first use, cuBLAS' workspaces, gaps between blocks. Not measured."

LEAST_TILE = 256
"Pixels; below it a tile sees too little of the picture, and its colours drift from its neighbours'."
TILE_STEP = 32
"diffusers overlaps tiles by a quarter: latents of a tile must be a multiple of four, or the picture is pieced askew."
LAYER_SHARE = 0.02
"Of SDXL's UNet the largest layer holds 1.15 %; moved layer by layer, two are on the device at once."
LEAST_LAYER = 64 * 2**20
"A small UNet's layers are a larger share of it."

TEXT_BYTES, VAE_BYTES = 1_635_000_000, 167_000_000
"SDXL's text encoders and VAE in fp16 (the hub's file sizes), for a model of which only the whole is known."


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of a model's components at the precision that they are computed in."""

    unet: int
    "The denoiser."
    text: int
    "Both text encoders."
    vae: int
    "The VAE, in its own precision."
    preview: int = 0
    "The small decoder for previews; 0 for none."

    @property
    def whole(self) -> int:
        """All of them."""
        return self.unet + self.text + self.vae + self.preview

    @classmethod
    def guess(cls, whole: int) -> Weights:
        """The parts of a model of which only the bytes of the whole are known: encoders and VAE like SDXL's, but no
        more than half and a twentieth of it; the rest is the denoiser."""
        text, vae = min(TEXT_BYTES, whole // 2), min(VAE_BYTES, whole // 20)
        return cls(whole - text - vae, text, vae)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a plan is made for."""

    width: int
    "Pixels."
    height: int
    "Pixels."
    batch: int
    "Pictures in one run of the denoiser."
    guided: bool
    "Guidance above 1: the denoiser sees every picture twice."
    weights: Weights
    "What has to be held."
    free: int
    "Bytes of the device that can be had: the free ones, this model's own that are there, others' that may leave."
    kind: Kind
    "A GPU with memory of its own (cuda), or one pool for everything (mps, cpu)."
    dtype: str = "fp16"
    "What the denoiser computes in: fp32, fp16 or bf16."
    vae_dtype: str = "fp16"
    "What the VAE computes in."
    precision: str = "auto"
    "As in Generate: auto may store the UNet's weights in fp8 where that is needed, fp8 does it at once."

    @property
    def pixels(self) -> int:
        """Of one picture."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Plan:
    """How one picture is made in the memory that is there. `told` shows it."""

    ask: Ask
    "What it was made for."
    storage: Literal["own", "fp8"] = "own"
    "What the UNet's weights are kept in: the dtype that it computes in, or 8 bits, cast layer by layer when it runs."
    encoders: Literal["stay", "leave"] = "stay"
    "leave: on the device only while they encode; the denoiser comes after them."
    vae: Literal["whole", "sliced", "tiled"] = "whole"
    "sliced: one picture of the batch at a time. tiled: that, and in overlapping tiles."
    tile: int = 0
    "Pixels of a tile's side, a multiple of TILE_STEP; 0 unless tiled."
    together: int = 1
    "Pictures that are denoised at a time; the batch, or 1."
    denoiser: Literal["stay", "sequential"] = "stay"
    "sequential: its weights are in main memory, and each layer is brought for the moment that it runs."
    reasons: tuple[str, ...] = ()
    "What was changed and why, one sentence each, without a full stop; where it doesn't fit, the last says what would."

    def needs(self, phase: Phase) -> int:
        """Bytes of the device that are in use at the peak of a phase, ALLOWANCE included."""
        return self._weights(phase) + self._work(phase) + ALLOWANCE

    @property
    def working(self) -> int:
        """Bytes that have to be free beside all weights: the largest work of any phase, ALLOWANCE included."""
        return max(self._work(phase) for phase in PHASES) + ALLOWANCE

    def _weights(self, phase: Phase) -> int:
        """Bytes of weights that are on the device in a phase."""
        weights = self.ask.weights
        text, unet = weights.text, self._unet()
        if self.encoders == "stay":
            both = text + unet
        elif phase == "loading":
            both = max(text, unet)
        else:
            both = text if phase == "encoding" else unet
        return both + weights.vae + weights.preview

    def _work(self, phase: Phase) -> int:
        """Bytes beside the weights at the peak of a phase."""
        ask = self.ask
        if phase == "loading":
            return 0
        if phase == "encoding":
            return ENCODING_BYTES
        if phase == "denoising":
            pictures = self.together * (2 if ask.guided else 1)
            preview = PREVIEW_VALUES if ask.weights.preview else 0.0
            values = ask.pixels * max(pictures * UNET_VALUES[ask.kind], preview)
            return int(values * WIDTHS[ask.dtype])
        tile = min(self.tile, ask.width) * min(self.tile, ask.height)
        decoded = {"whole": ask.batch * ask.pixels, "sliced": ask.pixels, "tiled": tile}
        values = decoded[self.vae] * VAE_VALUES[ask.kind] * WIDTHS[ask.vae_dtype]
        return int(values) + ask.batch * ask.pixels * PICTURE_BYTES

    def _unet(self) -> int:
        """Bytes of the denoiser's weights that are on the device."""
        whole = self.ask.weights.unet
        layer = min(whole, max(int(whole * LAYER_SHARE), LEAST_LAYER))
        if self.denoiser == "sequential":
            return layer
        return min(whole, whole // WIDTHS[self.ask.dtype] + layer) if self.storage == "fp8" else whole

    @property
    def phase(self) -> Phase:
        """The phase that needs most."""
        return max(PHASES, key=self.needs)

    @property
    def needed(self) -> int:
        """Bytes at the peak."""
        return self.needs(self.phase)

    @property
    def free(self) -> int:
        """Bytes that can be had."""
        return self.ask.free

    @property
    def fits(self) -> bool:
        """Whether the estimate is within what is free."""
        return self.needed <= self.free

    @property
    def precision(self) -> str:
        """'fp16', 'fp16, UNet stored in fp8, VAE in bf16': what is computed in what."""
        ask = self.ask
        stored = ", UNet stored in fp8" if self.storage == "fp8" else ""
        return f"{ask.dtype}{stored}{f', VAE in {ask.vae_dtype}' if ask.vae_dtype != ask.dtype else ''}"

    @property
    def told(self) -> str:
        """One line: 'fp16, VAE in tiles of 512 px, encoders leave after encoding; needs 6.4 GiB of 7.0 GiB'."""
        parts = [self.precision]
        if self.vae != "whole":
            parts.append("VAE one picture at a time" if self.vae == "sliced" else f"VAE in tiles of {self.tile} px")
        if self.together < self.ask.batch:
            parts.append("one picture at a time")
        if self.encoders == "leave":
            parts.append("encoders leave after encoding")
        if self.denoiser == "sequential":
            parts.append("UNet layer by layer")
        return f"{', '.join(parts)}; needs {_gib(self.needed)} of {_gib(self.free)}"


def plan(ask: Ask) -> Plan:
    """The first rung of the ladder that fits, with only those changes that help a phase that doesn't.

    Where none fits it is the lowest rung, `fits` is False, and the last of its reasons says what would fit.
    """
    made = _descend(ask)
    return made if made.fits else replace(made, reasons=(*made.reasons, _short(made)))


def next_rung(before: Plan, during: Phase | None = None) -> Plan | None:
    """What to try when memory ran out in spite of a plan; None where there is nothing left to try.

    Args:
        before: the plan that failed.
        during: the phase in which it failed; None for the one that needs most. The next rung needs less in it, by the
            change that costs least.
    """
    phase = during or before.phase
    for step in _LADDER:
        lower = step(before)
        if lower is not None and lower.needs(phase) < before.needs(phase):
            return _because(before, lower, f"memory ran out while {phase}")
    return None


def fits(weights: int, total: int, width: int, height: int, kind: Kind = "cuda") -> Fit:
    """Whether a model can be used on a device at all, for a list of models; it takes about 0.1 ms.

    Args:
        weights: bytes of all of the model's components, as they are downloaded.
        total: bytes of the device.
        width, height: pixels of a picture as its recipe has it; one is made at a time, with guidance.
        kind: as in Ask.

    Returns:
        whole: everything stays on the device (the VAE may work in tiles); with offload: encoders or UNet have to leave,
        or be stored in 8 bits; no: not even then.
    """
    made = plan(Ask(width, height, 1, True, Weights.guess(weights), total, kind))
    if not made.fits:
        return "no"
    stays = made.encoders == "stay" and made.denoiser == "stay" and made.storage == "own"
    return "whole" if stays else "with offload"


# ── the ladder ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _descend(ask: Ask) -> Plan:
    """Down the ladder until it fits, leaving out what helps no phase that is in need."""
    made = Plan(ask, together=ask.batch)
    if ask.precision == "fp8" and ask.kind == "mps":
        made = replace(made, reasons=("this device has no fp8: the UNet's weights stay as they are",))
    elif ask.precision == "fp8":
        made = replace(made, storage="fp8", reasons=(f"{_FP8}, as was asked",))
    for step in _LADDER:
        while (lower := step(made)) is not None:
            helped = [p for p in PHASES if made.needs(p) > ask.free and lower.needs(p) < made.needs(p)]
            if not helped:
                break
            phase = max(helped, key=made.needs)
            made = _because(made, lower, _need(made, phase))
    return _with_larger_tiles(made)


def _with_larger_tiles(made: Plan) -> Plan:
    """The plan with the VAE in as few pieces as fit: what left later may have made room for larger ones."""
    if not made.fits or made.vae == "whole":
        return made
    kept = tuple(reason for reason in made.reasons if not reason.startswith(_VAE))
    better: Plan | None = replace(made, vae="whole", tile=0, reasons=kept)
    while better is not None and not better.fits:
        before = better
        if (better := _sliced(before) or _tiled(before)) is not None:
            better = _because(before, better, _need(before, "decoding"))
    return better or made


def _sliced(before: Plan) -> Plan | None:
    if before.vae != "whole" or before.ask.batch == 1:
        return None
    return replace(before, vae="sliced")


def _tiled(before: Plan) -> Plan | None:
    """Tiles of half the picture's longer side, then half of that, as far as LEAST_TILE."""
    side = before.tile or max(before.ask.width, before.ask.height)
    tile = max(math.ceil(side / 2 / TILE_STEP) * TILE_STEP, LEAST_TILE)
    return replace(before, vae="tiled", tile=tile) if tile < side else None


def _singly(before: Plan) -> Plan | None:
    return replace(before, together=1) if before.together > 1 else None


def _without_encoders(before: Plan) -> Plan | None:
    if before.ask.kind != "cuda" or before.encoders == "leave":
        return None
    return replace(before, encoders="leave")


def _in_fp8(before: Plan) -> Plan | None:
    """Only where the precision was left open: 8 bits change the picture."""
    alike = before.storage == "fp8" or before.denoiser == "sequential"
    if before.ask.kind != "cuda" or before.ask.precision != "auto" or alike:
        return None
    return replace(before, storage="fp8")


def _sequential(before: Plan) -> Plan | None:
    """With the weights as they are: what stays in main memory needn't be made smaller."""
    if before.ask.kind != "cuda" or before.denoiser == "sequential":
        return None
    return replace(before, denoiser="sequential", storage="own")


_LADDER = (_sliced, _tiled, _singly, _without_encoders, _in_fp8, _sequential)


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_VAE, _UNET = "the VAE decodes", "the UNet's weights"
_FP8 = f"{_UNET} are stored in fp8"


def _because(before: Plan, lower: Plan, why: str) -> Plan:
    """`lower` with a reason for what it changes, in place of one that this makes out of date."""
    if lower.vae != before.vae or lower.tile != before.tile:
        how = f"in tiles of {lower.tile} px" if lower.vae == "tiled" else "one picture at a time"
        change = f"{_VAE} {how}"
    elif lower.together != before.together:
        change = "pictures are denoised one at a time"
    elif lower.encoders != before.encoders:
        change = "the text encoders leave after encoding"
    elif lower.denoiser != before.denoiser:
        change = f"{_UNET} stay in main memory and come layer by layer, which is slow"
    else:
        change = _FP8
    subject = next((known for known in (_VAE, _UNET) if change.startswith(known)), change)
    kept = tuple(reason for reason in before.reasons if not reason.startswith(subject))
    return replace(lower, reasons=(*kept, f"{change}: {why}"))


def _need(made: Plan, phase: Phase) -> str:
    return f"{phase} would need {_gib(made.needs(phase))}, and {_gib(made.free)} can be had"


def _short(made: Plan) -> str:
    """Why the lowest rung doesn't fit, and what would."""
    ask = made.ask
    needs = f"{made.phase} needs {_gib(made.needed)} even so, and {_gib(made.free)} can be had"
    width, height = ask.width, ask.height
    while max(width, height) >= LEAST_TILE:
        smaller = replace(ask, width=width, height=height, batch=1)
        if smaller != ask and _descend(smaller).fits:
            return f"{needs}: {width}x{height}, one picture at a time, would fit"
        width, height = (max(int(side * 0.75) // 64 * 64, 64) for side in (width, height))
    return f"{needs}: no size would fit"


def _gib(n: int) -> str:
    return f"{n / 2**30:.1f} GiB"
