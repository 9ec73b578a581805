"""What may be done to a picture that is there: steps of finishing, plain frozen values that pickle.

They stand in a request, in the order in which they are done; each takes the picture that the one before left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from engines.errors import InvalidRequest
from engines.limits import MAX_GUIDANCE, MAX_STEPS, check_number

MAX_SCALE = 16.0
"How many times as long a side may become in one step."
MAX_TILE = 2048
"Pixels of a tile's side."
MAX_FINISH = 64
"Steps that a picture goes through in all, whether in one job or in many."
MAX_NOISE = 350
"Of the diffusion upscaler: the level that its low_res_scheduler was trained up to (its model card; max_noise_level)."


@dataclass(frozen=True, slots=True)
class Upscale:
    """Enlarge it: by a network in one go, or by a diffusion model."""

    upscaler: str
    "The catalogue's id of an upscaler."
    scale: float = 0.0
    "Times as wide and high, above 0 … MAX_SCALE; 0 for the upscaler's own. What it doesn't make is resampled."
    denoise: float = 1.0
    "0 … 1, of an upscaler that has a pair: 0 keeps grain, 1 takes it away."
    tile: int = 0
    "Pixels of a tile's side, halos included; 0 takes what the memory allows."
    shrink: float = 1.0
    "0.1 … 1: made smaller by this before it is enlarged, so that a slow upscaler has less to do."
    prompt: str | None = None
    "What a diffusion upscaler is told to draw; None for the picture's own prompt."
    noise_level: int = 20
    "0 … MAX_NOISE: noise put upon the picture for a diffusion upscaler; more lets it invent more."
    guidance_scale: float = 9.0
    "0 … MAX_GUIDANCE, of a diffusion upscaler; it acts above 1."
    num_inference_steps: int = 25
    "1 … MAX_STEPS, of a diffusion upscaler."
    kind: Literal["upscale"] = field(default="upscale", init=False)

    def validate(self) -> None:
        """Raises InvalidRequest for a number out of its range."""
        if self.scale:
            check_number("scale", self.scale, 0.1, MAX_SCALE, "scale")
        check_number("denoise", self.denoise, 0, 1, "denoise")
        check_number("shrink", self.shrink, 0.1, 1, "shrink")
        _check_tile(self.tile, 32)
        check_number("noise level", self.noise_level, 0, MAX_NOISE, "noise_level")
        check_number("guidance scale", self.guidance_scale, 0, MAX_GUIDANCE, "guidance_scale")
        check_number("steps", self.num_inference_steps, 1, MAX_STEPS, "steps")

    @property
    def told(self) -> str:
        """For people, short: 'upscale x4 by mini-x4'."""
        return f"upscale {f'x{self.scale:g} ' if self.scale else ''}by {self.upscaler}"


@dataclass(frozen=True, slots=True)
class Restore:
    """Draw its faces anew."""

    restorer: str
    "The catalogue's id of a face restorer."
    strength: float = 1.0
    "0 … 1, how much of the new face shows."
    detector: str = ""
    "The catalogue's id of what finds faces; empty for the best that is here."
    kind: Literal["restore"] = field(default="restore", init=False)

    def validate(self) -> None:
        """Raises InvalidRequest for a strength out of range."""
        check_number("strength", self.strength, 0, 1, "strength")

    @property
    def told(self) -> str:
        """For people, short: 'faces 0.8 by gfpgan-v1.4'."""
        return f"faces {self.strength:g} by {self.restorer}"


@dataclass(frozen=True, slots=True)
class Hires:
    """Enlarge it, and draw it once more over what that gave, at a strength, by the model of the request."""

    scale: float = 2.0
    "Times as wide and high, 1 … MAX_SCALE."
    strength: float = 0.4
    "0 … 1, how much is drawn anew: of num_inference_steps, about so much."
    upscaler: str = ""
    "The catalogue's id of what enlarges it; 'latent' enlarges the latents instead; empty resamples the picture."
    num_inference_steps: int = 0
    "1 … MAX_STEPS; 0 for the request's own."
    tile: int = 0
    "Pixels of the tiles that the model sees; 0 for the whole where there is memory for it, and its own size if not."
    kind: Literal["hires"] = field(default="hires", init=False)

    def validate(self) -> None:
        """Raises InvalidRequest for a number out of its range."""
        check_number("scale", self.scale, 1, MAX_SCALE, "scale")
        check_number("strength", self.strength, 0, 1, "strength")
        if self.num_inference_steps:
            check_number("steps", self.num_inference_steps, 1, MAX_STEPS, "steps")
        _check_tile(self.tile, 64)

    @property
    def told(self) -> str:
        """For people, short: 'hires x2 at 0.4'."""
        return f"hires x{self.scale:g} at {self.strength:g}"


Step: TypeAlias = Upscale | Restore | Hires
KINDS: dict[str, type[Upscale] | type[Restore] | type[Hires]] = {"upscale": Upscale, "restore": Restore, "hires": Hires}


def check(steps: tuple[Step, ...]) -> None:
    """Raises InvalidRequest for a step that can't be done, or too many of them."""
    if len(steps) > MAX_FINISH:
        told = f"{len(steps)} steps of finishing; at most {MAX_FINISH} are done"
        raise InvalidRequest(told, "begin anew with a file that tells of none", "finish")
    for step in steps:
        step.validate()


def _check_tile(tile: int, least: int) -> None:
    if tile and not least <= tile <= MAX_TILE:
        raise InvalidRequest(f"tile must be {least} to {MAX_TILE} pixels, not {tile}", "0 chooses", "tile")


def enlarged(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """The size of a picture that is made `scale` times as large; a pixel at least."""
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
