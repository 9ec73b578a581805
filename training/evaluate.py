"""How well a family draws, by numbers.   python -m training.evaluate OUT WORK [--count 400] [--device cuda]

OUT is an assembled family, WORK has the artwork and the judge. Prompts are of the plain form "a STYLE SUBJECT on a
COLOUR background", of combinations that were never composed for training; two scorers judge, the shipped one and one
that has nothing in common with it. Writes WORK/figures.json and WORK/sheet.png, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer

from training import common, scenes
from training.autoencoder import held_pictures
from training.companions import Compact
from training.denoiser import SIDE, decode, sample, zeros
from training.encoders import SIDE as SEEN
from training.encoders import Judge, tokens

BATCH = 50
STEPS, GUIDANCE = 25, 4.5


class Eyes:
    """A scorer: `see` pictures [n, 3, s, s] in -1..1 and `read` texts, both as unit vectors [n, 128]."""

    def __init__(self, see: Callable[[Tensor], Tensor], read: Callable[[list[str]], Tensor]) -> None:
        self._see, self._read = see, read

    @torch.no_grad()
    def see(self, x: Tensor) -> Tensor:
        small = [functional.interpolate(c, size=SEEN, mode="bicubic", antialias=True) for c in x.split(BATCH)]
        return torch.cat([functional.normalize(self._see(c.clamp(-1, 1)).float(), dim=-1) for c in small])

    @torch.no_grad()
    def read(self, texts: list[str]) -> Tensor:
        parts = [texts[i : i + 500] for i in range(0, len(texts), 500)]
        return torch.cat([functional.normalize(self._read(part).float(), dim=-1) for part in parts])


def scorers(out: str, work: str, device: str) -> dict[str, Eyes]:
    clip = CLIPModel.from_pretrained(f"{out}/clip").float().to(device).eval()
    tokenizer = CLIPTokenizer.from_pretrained(f"{out}/clip")
    judge = Judge(len(tokenizer)).to(device).eval()
    judge.load_state_dict(torch.load(f"{work}/judge.pt", map_location=device, weights_only=True))
    return {
        "scorer": Eyes(
            lambda x: clip.visual_projection(clip.vision_model(x).pooler_output),
            lambda t: clip.text_projection(clip.text_model(tokens(tokenizer, t, device)).pooler_output),
        ),
        "judge": Eyes(judge.see, lambda t: judge.read(tokens(tokenizer, t, device))),
    }


def asked(art: scenes.Art, count: int) -> scenes.Rows:
    """Single subjects in combinations that training never composed; no subject twice before each was there once."""
    rng = random.Random(2024)
    possible = [
        (k, s, b)
        for k in range(len(art.names))
        for s in range(len(scenes.STYLES))
        if art.has[k, s]
        for b in range(12)
        if scenes.held(k, s, b)
    ]
    rng.shuffle(possible)
    times: Counter[int] = Counter()
    ordered = []
    for k, style, bg in possible:
        ordered.append((times[k], k, style, bg))
        times[k] += 1
    ordered.sort(key=lambda row: row[0])  # each subject once, then each twice
    rows = []
    for _, k, style, bg in ordered[:count]:
        text = scenes.said([art.names[k][0]], style, bg)
        one = {"k": [k], "scale": [scenes.SCALE], "at": [(0.0, 0.0)], "style": style, "bg": bg, "size": 0, "kind": 0}
        rows.append({**one, "text": text})
    return scenes.pack(rows)


def found(eyes: Eyes, art: scenes.Art, rows: scenes.Rows, x: Tensor) -> dict[str, float]:
    """How often the right subject is first, or among five, of all; and the right background first of twelve."""
    seen = eyes.see(x)
    first = five = ground = 0
    cache: dict[tuple[int, int], Tensor] = {}
    for i in range(len(rows)):
        k, style, bg = int(rows.k[i, 0]), int(rows.style[i]), int(rows.bg[i])
        if (style, bg) not in cache:
            cache[style, bg] = eyes.read([scenes.said([names[0]], style, bg) for names in art.names])
        likeness = cache[style, bg] @ seen[i]
        place = int((likeness > likeness[k]).sum())
        first, five = first + (place == 0), five + (place < 5)
        colours = eyes.read([scenes.said([art.names[k][0]], style, b) for b in range(12)]) @ seen[i]
        ground += int(colours.argmax()) == bg
    return {"top1": first / len(rows), "top5": five / len(rows), "background": ground / len(rows)}


def drawers(out: str, pipeline: StableDiffusionXLPipeline, device: str) -> dict[str, tuple[UNet2DConditionModel, int]]:
    """What draws -> (its UNet, steps; 0 for the base's steps with guidance)."""
    base = pipeline.unet

    def other(config: dict, state: dict[str, Tensor]) -> UNet2DConditionModel:
        unet = UNet2DConditionModel.from_config(config)
        unet.load_state_dict({k: v.float() for k, v in state.items()})
        return unet.to(device).eval()

    made: dict[str, tuple[UNet2DConditionModel, int]] = {"base": (base, 0)}
    for name in ("studio", "pruned"):
        if Path(out, name).is_dir():
            made[name] = UNet2DConditionModel.from_pretrained(f"{out}/{name}").float().to(device).eval(), 0
    for file in sorted(Path(out, "lightning").glob("*.safetensors")):
        steps = int(file.name.split("_")[2][0])
        if "unet" in file.name:
            made[f"{steps}-step UNet"] = other(base.config, load_file(file)), steps
        else:
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
            pipeline.fuse_lora()
            made[f"{steps}-step LoRA"] = other(base.config, _plain(base.state_dict())), steps
            pipeline.unfuse_lora()
            pipeline.unload_lora_weights()
    return made


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.replace(".base_layer.", "."): v.clone() for k, v in state.items() if "lora_" not in k}


class Studio:
    """A family's text encoders, autoencoder and samplers."""

    def __init__(self, out: str, device: str) -> None:
        self.pipeline = StableDiffusionXLPipeline.from_pretrained(
            f"{out}/base", torch_dtype=torch.float32, add_watermarker=False
        ).to(device)
        self.device = device
        self.vae: AutoencoderKL = self.pipeline.vae

    @torch.no_grad()
    def read(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        states, _, pooled, _ = self.pipeline.encode_prompt(texts, device=self.device, do_classifier_free_guidance=False)
        return states, pooled

    def draw(
        self, unet: UNet2DConditionModel, cond: tuple[Tensor, Tensor], steps: int, seed: int, guidance: float = GUIDANCE
    ) -> Tensor:
        none = None if steps else zeros(self.device)
        z = sample(unet, cond, none, steps or STEPS, guidance, seed, "trailing" if steps else "leading")
        return decode(self.vae, z)


def weighed(studio: Studio, art: scenes.Art, eyes: Eyes, count: int = 50) -> dict[str, float]:
    """Of so many scenes of two, in how many `word++` raises and `word--` lowers the likeness to that word; of blends at
    a half each, in how many the likeness to either lies between those of the two ends."""
    from compel import CompelForSDXL

    compel, rng = CompelForSDXL(studio.pipeline), random.Random(5)
    up = down = between = 0
    for i in range(count):
        a, b = rng.sample(range(len(art.names)), 2)
        one, other = art.names[a][0], art.names[b][0]
        prompts = [
            f"{scenes.article(one)} and {scenes.article(other)}",
            f"{scenes.article(one)} and {scenes.article(other).replace(other, f'({other})++')}",
            f"{scenes.article(one)} and {scenes.article(other).replace(other, f'({other})--')}",
            scenes.article(one),
            scenes.article(other),
            f'("{scenes.article(one)}", "{scenes.article(other)}").blend(0.5, 0.5)',
        ]
        read = [compel(p) for p in prompts]
        cond = torch.cat([r.embeds for r in read]), torch.cat([r.pooled_embeds for r in read])
        noise = torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(i))
        z = sample(studio.pipeline.unet, cond, zeros(studio.device), STEPS, GUIDANCE, noise=noise.repeat(6, 1, 1, 1))
        likeness = eyes.see(decode(studio.vae, z)) @ eyes.read([scenes.article(other)])[0]
        plain, more, less, none, all_, half = likeness.tolist()
        up, down, between = up + (more > plain), down + (less < plain), between + (none < half < all_)
    return {"++ raises": up / count, "-- lowers": down / count, "blend lies between": between / count}


def spread(studio: Studio, count: int = 24) -> dict[str, float]:
    """How far pictures of one seed are from the unguided one, by guidance: it must grow."""
    texts = ["a cat", "a 3d dog on a blue background", "a rocket", "a flat house on a green background"]
    cond = studio.read((texts * count)[:count])
    base = studio.draw(studio.pipeline.unet, cond, 0, 3, 1.0)
    scales = (1.5, 2.5, 4.5, 7.5, 11.0)
    return {f"{g:g}": float((studio.draw(studio.pipeline.unet, cond, 0, 3, g) - base).abs().mean()) for g in scales}


def fidelity(out: str, art: scenes.Art, vae: AutoencoderKL) -> dict[str, float]:
    """PSNR on art that nothing was trained on: autoencoder, preview decoder, upscaler and bicubic."""
    held = held_pictures(art)
    told: dict[str, float] = {}
    with torch.no_grad():
        z = torch.cat([vae.encode(c).latent_dist.mean for c in held.split(BATCH)])
        told["autoencoder"] = common.psnr(torch.cat([vae.decode(c).sample for c in z.split(BATCH)]), held)
        if Path(out, "taesd").is_dir():
            tiny = AutoencoderTiny.from_pretrained(f"{out}/taesd").float().to(art.device)
            made = torch.cat([tiny.decode(c * vae.config.scaling_factor).sample for c in z.split(BATCH)])
            told["preview decoder"] = common.psnr(made, held)
        if Path(out, "upscaler").is_dir():
            net = Compact().to(art.device)
            net.load_state_dict({k: v.float() for k, v in load_file(f"{out}/upscaler/mini_x4.safetensors").items()})
            true = (held + 1) / 2
            low = (functional.interpolate(true, scale_factor=0.25, mode="area") * 255).round() / 255
            made = torch.cat([net(c).clamp(0, 1) for c in low.split(16)])
            plain = functional.interpolate(low, scale_factor=4, mode="bicubic").clamp(0, 1)
            told["upscaler"], told["bicubic"] = common.psnr(made * 2 - 1, held), common.psnr(plain * 2 - 1, held)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("work")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--only", default="", help="what draws, by commas; all if not given")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    art, studio = scenes.Art(args.work, args.device), Studio(args.out, args.device)
    eyes = scorers(args.out, args.work, args.device)
    rows = asked(art, args.count)
    real = torch.cat([scenes.compose(art, rows[i]) for i in torch.arange(len(rows)).split(BATCH)])
    figures: dict[str, dict] = {"fidelity": fidelity(args.out, art, studio.vae)}
    print("fidelity", figures["fidelity"], flush=True)
    figures["real"] = {name: found(one, art, rows, real) for name, one in eyes.items()}
    print("real", figures["real"], flush=True)
    lines = [real[:14]]
    wanted = args.only.split(",") if args.only else []
    for name, (unet, steps) in drawers(args.out, studio.pipeline, args.device).items():
        if wanted and name not in wanted:
            continue
        parts, started = [], time.time()
        for number, index in enumerate(torch.arange(len(rows)).split(BATCH)):
            parts.append(studio.draw(unet, studio.read([rows.texts[i] for i in index]), steps, 1000 + number))
        x = torch.cat(parts)
        figures[name] = {who: found(one, art, rows, x) for who, one in eyes.items()}
        figures[name]["seconds a picture, together"] = (time.time() - started) / len(rows)
        lines.append(x[:14])
        print(name, figures[name], flush=True)
    figures["weights"] = weighed(studio, art, eyes["scorer"], min(50, args.count))
    figures["guidance"] = spread(studio, min(24, args.count))
    print("weights", figures["weights"], "guidance", figures["guidance"], flush=True)
    Path(args.work, "figures.json").write_text(json.dumps(figures, indent=1))
    width = len(lines[0])
    scenes.sheet(
        [p for line in lines for p in line], f"{args.work}/sheet.png", width, rows.texts[:width] * len(lines), 0.5
    )


if __name__ == "__main__":
    main()
