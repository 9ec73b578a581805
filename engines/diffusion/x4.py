"""The diffusion upscaler: four times as wide and high, drawn anew from noise under the eye of the small picture.

stabilityai/stable-diffusion-x4-upscaler (its model card; latent diffusion, Rombach et al. 2022, arXiv:2112.10752).
The UNet sees the latents, which have the small picture's own width and height, and the small picture with some noise
upon it (7 channels), and is told the noise's level as a class. What is drawn is what diffusers'
StableDiffusionUpscalePipeline draws; but a picture of any size is drawn in tiles. Noise and latents are drawn once
for the whole, the predictions of all tiles are blended at every step (MultiDiffusion, Bar-Tal et al. 2023,
arXiv:2302.08113), and one step is taken for the whole: so tiles agree. The decoder works in tiles, too (`pieces`):
whole, its attention over a picture of 512x512 asks for 256 GiB where it is materialised.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from engines import pictures
from engines.diffusion import device as devices
from engines.diffusion import pieces, tiling
from engines.diffusion.conditioning import Single
from engines.diffusion.device import Device
from engines.diffusion.mixing import never
from engines.diffusion.previews import Previews
from engines.diffusion.sampling import Step
from engines.errors import LoadError, Stopped
from engines.events import Pixels
from engines.prompt import parse

ALIGN = 8
"Pixels that a side has to be a multiple of: the UNet halves it three times."
TILE = 128
"Pixels of a tile's side where LARGEST takes too much memory."
LARGEST = 256
"Pixels of a tile's side, at most."
DECODED = 96
"""Latents of a tile's side in the decoder, at most: where its attention is materialised, it asks for the square of what
a tile holds, 340 MB in fp32. In the UNet's own tiles of 256 it were 17 GB."""
LEAST_DECODED = 32
"The same where memory runs out, at least."
PREVIEW = 64
"Latents a side that a preview is decoded from, at most."
TOGETHER = 8
"Tiles that are looked at at once, at most: a GPU is busy with that, and a stop is looked at between them."
HALO, FEATHER = 16, 16
"Pixels around a tile that are thrown away, and over which tiles are blended."
VALUES = 6000
"""Values a pixel of a tile that the UNet holds at its peak, about: 5200 to 5500 at its full size (docs/benchmarks.md).
Where memory runs out, fewer tiles are drawn together, and then smaller ones."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the model, as Residency moves them."""

    unet: Any
    "A UNet2DConditionModel of 7 channels."
    vae: Any
    "An AutoencoderKL that makes pictures four times the size of its latents."
    text_encoder: Any
    "A CLIPTextModel."
    tokenizer: Any
    "Its CLIPTokenizer."
    scheduler: dict[str, Any]
    "Configuration of what steps (DDIM, v-prediction)."
    low_res_scheduler: dict[str, Any]
    "Configuration of what puts noise upon the small picture (DDPM)."

    @property
    def modules(self) -> tuple[Any, ...]:
        """What has weights."""
        return self.unet, self.vae, self.text_encoder


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    done: int
    "Evaluations and tiles."
    of: int
    "In all; more than before when memory ran out and tiles became smaller, and then `done` starts anew."
    shown: Pixels | None = None
    "How it looks so far, small, if a preview was due."


def load(folder: Path, variant: str | None, dtype: torch.dtype, vae_dtype: torch.dtype) -> Parts:
    """The parts of a folder in diffusers' layout, on the CPU, for inference. Raises LoadError."""
    from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    def part(kind: Any, name: str, dtype: torch.dtype | None, **more: Any) -> Any:
        try:
            if dtype is None:
                return kind.from_pretrained(folder / name, local_files_only=True)
            made = kind.from_pretrained(folder / name, dtype=dtype, local_files_only=True, use_safetensors=True, **more)
            return made.eval().requires_grad_(False)
        except (OSError, ValueError, RuntimeError, KeyError) as e:
            said = " ".join(str(e).split())[:160]
            raise LoadError(
                f"the upscaler's {name} can't be loaded: {said}", "safelight models verify tells more"
            ) from e

    def weights(name: str, stem: str) -> dict[str, str]:
        marked = variant is not None and any((folder / name).glob(f"{stem}*.{variant}*.safetensors"))
        return {"variant": variant} if marked and variant else {}

    unet = part(UNet2DConditionModel, "unet", dtype, **weights("unet", "diffusion_pytorch_model"))
    if unet.config.in_channels != 7:
        raise LoadError(
            f"{folder.name} is no x4 upscaler: its UNet takes {unet.config.in_channels} channels and not 7",
            "stabilityai/stable-diffusion-x4-upscaler is one",
        )
    return Parts(
        unet,
        part(AutoencoderKL, "vae", vae_dtype, **weights("vae", "diffusion_pytorch_model")),
        part(CLIPTextModel, "text_encoder", dtype, **weights("text_encoder", "model")),
        part(CLIPTokenizer, "tokenizer", None),
        dict(part(DDIMScheduler, "scheduler", None).config),
        dict(part(DDPMScheduler, "low_res_scheduler", None).config),
    )


def refine(
    model: Parts,
    picture: Image.Image,
    device: Device,
    *,
    prompt: str = "",
    negative_prompt: str = "",
    num_inference_steps: int = 25,
    guidance_scale: float = 9.0,
    noise_level: int = 20,
    seed: int = 0,
    tile: int = 0,
    budget: int = 2 << 30,
    preview_every: int = 0,
    stop: Callable[[], bool] = never,
) -> Generator[Progress, None, Image.Image]:
    """Enlarges a picture four times; yields how far it is, and returns the result, in mode RGB or RGBA.

    Args:
        model: on `device`.
        picture: of any mode; it is not changed. Transparency is enlarged by resampling.
        device: for the words when its memory is used up.
        prompt, negative_prompt: texts, weighed as compel has it, of any length.
        num_inference_steps: 1 or more.
        guidance_scale: acts above 1.
        noise_level: 0 … the low-resolution scheduler's last timestep; the card's pipeline takes 350 at most.
        seed: of the noise, which is drawn for the whole picture at once, on the CPU.
        tile: pixels of the small picture's tiles; 0 for what suits the budget.
        budget: bytes of the device's memory that evaluations may take, besides the weights.
        preview_every: offer a preview every so many steps, within a share of the time (`previews`); 0 for none.
        stop: looked at before every evaluation.

    Raises:
        InvalidRequest: the picture is animated or damaged.
        OutOfMemory: the smallest tile is too large.
        LoadError: the numbers are not finite.
        PromptError: a text has too many parts below weight 1.
        Stopped: `stop` said so.
    """
    picture = pictures.prepare(picture)
    alpha = picture.getchannel("A") if "A" in picture.mode else None
    rgb = picture.convert("RGB")
    side = side_for(model, tile, budget, guidance_scale)
    together = max(1, min(TOGETHER, budget // _needs(model, side, guidance_scale)))
    decoded = max(LEAST_DECODED, min(DECODED, side // 2))
    previews = Previews(_Small(model.vae) if preview_every else None, device.torch, preview_every)
    drawn: torch.Tensor | None = None
    while True:
        made = None
        run = _Run(model, rgb, device, side, together, decoded, previews, stop)
        try:
            if drawn is None:
                drawn = yield from run.draw(
                    prompt, negative_prompt, num_inference_steps, guidance_scale, noise_level, seed
                )
            made = yield from run.decode(drawn, num_inference_steps)
        except Exception as e:
            if not devices.is_out_of_memory(e):
                raise
        # past the except, so that the frames of the failure are gone before their memory is asked for
        if made is not None:
            break
        del run
        devices.release(device)
        if drawn is not None:  # what is drawn stays
            if decoded <= LEAST_DECODED:
                raise devices.out_of_memory(device)
            decoded = max(LEAST_DECODED, decoded // 2)
        elif together > 1:
            together = max(1, together // 2)
        elif side > 8 * ALIGN:
            side = max(8 * ALIGN, side // 2 // ALIGN * ALIGN)
        else:
            raise devices.out_of_memory(device)
    if alpha is not None:
        made.putalpha(alpha.resize(made.size, Image.Resampling.LANCZOS))
    made.info = {k: v for k, v in picture.info.items() if k == "icc_profile" and picture.mode.startswith("RGB")}
    return made


def side_for(model: Parts, tile: int, budget: int, guidance_scale: float) -> int:
    """Pixels of the small picture's tiles.

    Args:
        model, budget, guidance_scale: as `refine` takes them.
        tile: what is wanted; 0 for what the budget allows.
    """
    side = tile or (LARGEST if budget >= _needs(model, LARGEST, guidance_scale) else TILE)
    # no smaller than the UNet's own measure, beside whatever halo is left then
    return max(side // ALIGN * ALIGN, 4 * ALIGN)


def _needs(model: Parts, side: int, guidance_scale: float) -> int:
    """Bytes that one tile's evaluation takes, about."""
    channels = model.unet.config.block_out_channels[0] / 256
    values = VALUES * channels * side * side * (2 if guidance_scale > 1 else 1)
    return max(1, int(values * model.unet.dtype.itemsize))


def evaluations(size: tuple[int, int], tile: int, steps: int) -> int:
    """How often the UNet looks at a tile for a picture of that size; each costs the same."""
    width, height = (-(-side // ALIGN) * ALIGN for side in size)
    return tiling.count((width, height), (tile, tile), _halo(tile), ALIGN) * steps


def _halo(tile: int) -> int:
    return min(HALO, (tile - ALIGN) // 2 // ALIGN * ALIGN)


class _Small:
    """A VAE as previews take a decoder: it is shown latents that were made small."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    def parameters(self) -> Iterator[torch.Tensor]:
        """The VAE's."""
        return self._vae.parameters()  # type: ignore[no-any-return]

    def decode(self, latents: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        """(1, c, h, w) → (1, 3, h', w') of PREVIEW latents a side at most."""
        height, width = latents.shape[-2:]
        share = min(1.0, PREVIEW / max(height, width))
        size = max(round(height * share), 1), max(round(width * share), 1)
        small = torch.nn.functional.interpolate(latents.float(), size=size, mode="area")
        z = small.to(latents.dtype) / self._vae.config.scaling_factor
        return (self._vae.decode(z, return_dict=False)[0],)


class _Run:
    """One picture."""

    def __init__(
        self,
        model: Parts,
        picture: Image.Image,
        device: Device,
        side: int,
        together: int,
        decoded: int,
        previews: Previews,
        stop: Callable[[], bool],
    ) -> None:
        self.model = model
        self.device = device.torch
        self.together = together
        self.decoded = decoded
        self.previews = previews
        self.stop = stop
        self.side = side
        self.size = picture.size
        levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        more = [-length % ALIGN for length in picture.size]
        if any(more):  # a side may be shorter than what is to be added to it, which mirroring can't do
            mode = "reflect" if all(m < length for m, length in zip(more, picture.size, strict=True)) else "replicate"
            levels = torch.nn.functional.pad(levels, (0, more[0], 0, more[1]), mode=mode)
        self.levels = levels
        height, width = levels.shape[-2:]
        halo = _halo(side)
        self.parts = list(tiling.tiles((width, height), (side, side), halo, min(FEATHER, halo), ALIGN))

    def draw(
        self, prompt: str, negative: str, steps: int, guidance: float, noise_level: int, seed: int
    ) -> Generator[Progress, None, torch.Tensor]:
        """From noise to latents, (1, c, h, w) as the UNet has them."""
        from diffusers import DDIMScheduler, DDPMScheduler

        model, dtype = self.model, self.model.unet.dtype
        noise = torch.Generator("cpu").manual_seed(seed)
        height, width = self.levels.shape[-2:]
        level = torch.tensor([noise_level])
        low = DDPMScheduler.from_config(model.low_res_scheduler)
        upon = torch.randn(self.levels.shape, generator=noise)
        seen = low.add_noise(self.levels, upon, level).to(self.device, dtype)
        scheduler = DDIMScheduler.from_config(model.scheduler)
        scheduler.set_timesteps(steps, device=self.device)
        shape = (1, model.vae.config.latent_channels, height, width)
        latents = torch.randn(shape, generator=noise).to(self.device, dtype) * scheduler.init_noise_sigma
        guided = guidance > 1
        texts = [parse(each) for each in ((negative, prompt) if guided else (prompt,))]
        text = Single(model.tokenizer, model.text_encoder).encode(*texts).to(self.device, dtype)
        batches = [self.parts[i : i + self.together] for i in range(0, len(self.parts), self.together)]
        of = steps * len(batches) + self._pieces
        for step, t in enumerate(scheduler.timesteps):
            predicted = torch.zeros(shape, device=self.device, dtype=torch.float32)
            for number, batch in enumerate(batches):
                yield Progress(step * len(batches) + number, of)
                if self.stop():
                    raise Stopped
                with torch.inference_mode():
                    scaled = scheduler.scale_model_input(latents, t)
                    self._predict(predicted, batch, scaled, seen, t, text, level, guidance)
            with torch.inference_mode():
                latents, clean = scheduler.step(predicted.to(dtype), t, latents, return_dict=False)
            if (shown := self._preview(Step(step + 1, steps, latents, clean))) is not None:
                yield Progress((step + 1) * len(batches), of, shown)
        if not torch.isfinite(latents).all():
            raise LoadError("the upscaler gave numbers that are not finite", "try --precision fp32, or fewer steps")
        drawn: torch.Tensor = latents
        return drawn

    def _preview(self, step: Step) -> Pixels | None:
        """What it looks like, if that is due; nothing any more where there is no memory for it."""
        try:
            with torch.inference_mode():
                return self.previews.after(step)
        except Exception as e:
            if not devices.is_out_of_memory(e):
                raise
        self.previews.decoder = None
        return None

    @property
    def _pieces(self) -> int:
        """Tiles of the decoder."""
        height, width = self.levels.shape[-2:]
        side = self.decoded
        if max(height, width) <= side:
            return 1
        return tiling.count((width, height), (side, side), min(pieces.HALO, (side - 1) // 3))

    def decode(self, latents: torch.Tensor, steps: int) -> Generator[Progress, None, Image.Image]:
        """From latents to pixels; `steps` is what there was before, for the progress."""
        model, height, decoding = self.model, self.levels.shape[-2], self._pieces
        of = steps * -(-len(self.parts) // self.together) + decoding
        z = latents.to(model.vae.dtype) / model.vae.config.scaling_factor
        work = pieces.decode(model.vae, z, self.decoded, self.stop, self.decoded**2)
        while True:
            try:
                done, _ = next(work)
            except StopIteration as end:
                pixels: torch.Tensor = end.value
                break
            yield Progress(of - decoding + min(done, decoding), of)
        if not torch.isfinite(torch.stack(pixels.aminmax())).all():
            raise LoadError("the upscaler's VAE gave numbers that are not finite", "try another precision")
        with torch.inference_mode():  # in place: it is the largest thing there is, 12 bytes a pixel of the result
            levels = pixels[0].mul_(127.5).add_(127.5).clamp_(0, 255).round_().to(torch.uint8).permute(1, 2, 0)
        del pixels
        factor = levels.shape[0] // height
        return Image.fromarray(levels.numpy()).crop((0, 0, self.size[0] * factor, self.size[1] * factor))

    def _predict(
        self,
        into: torch.Tensor,
        batch: list[tiling.Tile],
        latents: torch.Tensor,
        seen: torch.Tensor,
        t: torch.Tensor,
        text: torch.Tensor,
        level: torch.Tensor,
        guidance: float,
    ) -> None:
        """Adds what the UNet says of some tiles, by their weights."""
        places = [(..., slice(p.y.start, p.y.end), slice(p.x.start, p.x.end)) for p in batch]
        tiles = torch.cat([torch.cat([latents[at], seen[at]], dim=1) for at in places])
        guided = len(text) == 2
        said = self.model.unet(
            torch.cat([tiles, tiles]) if guided else tiles,
            t,
            encoder_hidden_states=text.repeat_interleave(len(batch), 0),
            class_labels=level.to(self.device).repeat(len(tiles) * len(text)),
            return_dict=False,
        )[0].float()
        if guided:
            away, towards = said.chunk(2)
            said = away + guidance * (towards - away)
        for part, one in zip(batch, said, strict=True):
            x, y = part.x, part.y
            across, down = (torch.from_numpy(tiling.weights(span)).to(self.device) for span in (x, y))
            kept = one[:, y.low - y.start : y.high - y.start, x.low - x.start : x.high - x.start]
            into[0, :, y.low : y.high, x.low : x.high] += kept * down[:, None] * across
