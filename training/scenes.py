"""Scenes: what a prompt says and the picture that belongs to it. All that the family learns is composed here.

A scene is one to three pictures of subjects in one style on one background. `Scenes.draw(n, seed)` writes n of them
down as tensors and captions, `compose` paints them on any device.
"""

from __future__ import annotations

import json
import os
import random
import zlib
from dataclasses import dataclass, fields
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.artwork import SIDE, STYLES, decode

STYLE_PRIOR = [0.14, 0.60, 0.14, 0.04, 0.08]  # where the caption names no style
INK = STYLES.index("ink")
COLOURS = {
    "white": (255, 255, 255),
    "black": (20, 20, 24),
    "gray": (140, 140, 146),
    "red": (220, 40, 45),
    "orange": (250, 140, 30),
    "yellow": (250, 215, 60),
    "green": (60, 165, 75),
    "teal": (30, 160, 160),
    "blue": (45, 100, 225),
    "purple": (130, 65, 190),
    "pink": (250, 150, 195),
    "brown": (125, 80, 50),
}
CNAMES = list(COLOURS)
CRGB = torch.tensor(list(COLOURS.values()), dtype=torch.float32) / 255
DARK = torch.tensor([name in ("black", "blue", "purple", "brown") for name in CNAMES])  # ink is white there
SCALE = 0.88  # of the side, where no size is named
SIZES = {"small": 0.5, "tiny": 0.5, "little": 0.5, "large": 1.0, "big": 1.0, "huge": 1.0}
PAIR = 0.48
FLUFF = """highly detailed|high quality|masterpiece|best quality|4k|8k|beautiful|artwork|digital art|trending|
sharp focus|vivid colors|centered|simple|icon|emoji|cute|professional|award winning|minimalist|
soft lighting|cinematic|colorful|intricate|ultra realistic|studio lighting|concept art|adorable|
elegant|bright""".replace("\n", "").split("|")
NEGATIVE = """blurry|low quality|worst quality|bad|ugly|deformed|watermark|text|jpeg artifacts|noisy|lowres|
bad anatomy""".replace("\n", "").split("|")
ADJECTIVES = """cute|beautiful|happy|old|new|magic|shiny|lovely|funny|fluffy|majestic|wild|nice|friendly|single|simple|
fresh|perfect|classic|sweet|lonely|wooden|modern|ancient|young|strong|fancy|dreamy|pretty""".replace("\n", "").split(
    "|"
)
TAILS = """in the forest|at night|in space|at the beach|in the garden|on a table|in the city|sitting|standing|running|
flying|smiling|in the rain|in winter|at sunset|by the sea|in a field|looking at the viewer|under the stars|
on the street|in the mountains|sleeping""".replace("\n", "").split("|")
OPENINGS = [
    f"{a} of " for a in ("a picture", "a photo", "an illustration", "a drawing", "an image", "photo", "drawing")
]
PLURAL = {
    *("blueberries", "cherries", "pancakes", "bacon", "fries", "swords", "glasses", "sunglasses", "jeans", "scissors"),
    *("books", "headphones", "grapes", "money", "spaghetti", "pasta", "ramen", "sushi", "corn", "bread", "cheese"),
    *("garlic", "chocolate", "honey", "popcorn", "milk", "coffee", "tea", "beer", "wine", "lightning", "fire", "earth"),
    *("saturn", "broccoli", "poop", "bowling", "scales", "piano", "eyes", "lips", "biceps", "fireworks", "champagne"),
    *("whiskey", "rice", "muscle", "masks", "up"),
}


def held(k: int, style: int, bg: int) -> bool:
    """Whether a (subject, style, background) is never composed for training: 4 % of them test combination."""
    return zlib.crc32(f"{k}|{STYLES[style]}|{CNAMES[bg]}".encode()) % 25 == 0


def article(name: str) -> str:
    if name.split()[-1] in PLURAL:
        return name
    return ("an " if name[0] in "aeiou8" and not name.startswith(("uni", "ufo")) else "a ") + name


def plural(name: str) -> str:
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    return {"mouse": "mice", "goose": "geese", "sheep": "sheep", "fish": "fish", "deer": "deer"}.get(name, name + "s")


@dataclass
class Rows:
    """n scenes. k [n, 3] subjects (-1: none), scale [n, 3] of the side, at [n, 3, 2] offsets of the centres from the
    middle in sides (x right, y down), style, bg [n], size [n] (0 not named, 1 small, 2 large), kind [n] (0 one subject,
    1 two, 2 several of one)."""

    k: Tensor
    scale: Tensor
    at: Tensor
    style: Tensor
    bg: Tensor
    size: Tensor
    kind: Tensor
    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Tensor) -> Rows:
        there = index.to(self.k.device)
        texts = [self.texts[i] for i in index.tolist()]
        return Rows(*(getattr(self, f.name)[there] for f in fields(self) if f.name != "texts"), texts)

    def to(self, device: str) -> Rows:
        return Rows(*(getattr(self, f.name).to(device) for f in fields(self) if f.name != "texts"), self.texts)


class Art:
    """`names[k]`: names of subject k. `stack` [K, 5, 4, side, side] uint8 with premultiplied alpha, `has` [K, 5]
    which of it is there; `other` [n, 4, side, side] further art to train on, `unseen` art that is never trained on."""

    def __init__(self, work: str, device: str = "cpu", side: int = SIDE) -> None:
        data = json.loads(Path(work, "names.json").read_text())
        self.names: list[list[str]] = data["names"]
        self.words: list[str] = data["words"]
        pixels, where = _decoded(work)
        shrunk = torch.from_numpy(pixels)
        if side != SIDE:
            factor = SIDE // side
            shrunk = torch.cat(
                [functional.avg_pool2d(c.float(), factor).round().to(torch.uint8) for c in shrunk.split(64)]
            )
        k, style = torch.from_numpy(where).long().unbind(1)
        self.has = torch.zeros(len(self.names), len(STYLES), dtype=torch.bool)
        self.stack = torch.zeros(len(self.names), len(STYLES), 4, side, side, dtype=torch.uint8)
        mine = k >= 0
        self.has[k[mine], style[mine]] = True
        self.stack[k[mine], style[mine]] = shrunk[mine]
        self.other, self.unseen = shrunk[k == -1], shrunk[k == -2]
        self.stack, self.other, self.unseen = (t.to(device) for t in (self.stack, self.other, self.unseen))
        self.device, self.side = device, side

    def flat(self) -> Tensor:
        """All art that may be trained on, [n, 4, side, side]."""
        return torch.cat([self.stack[self.has.to(self.device)], self.other])


def _decoded(work: str) -> tuple[np.ndarray, np.ndarray]:
    cache = Path(work, "art.npy")
    packed = np.load(f"{work}/art.npz")
    if not cache.exists():
        ends = np.cumsum(packed["sizes"])
        blobs = [packed["blob"][e - n : e].tobytes() for e, n in zip(ends, packed["sizes"], strict=True)]
        with Pool(os.cpu_count()) as pool:
            pictures = np.stack(pool.map(decode, blobs, chunksize=32))
        part = cache.with_suffix(f".{os.getpid()}.npy")
        np.save(part, pictures)
        part.replace(cache)
    return np.load(cache), packed["where"]


class Scenes:
    """Writes scenes down at random. Which (subject, style) pairs exist is the art's `has`."""

    def __init__(self, art: Art, hold: bool = True) -> None:
        self.names, self.has, self.hold = art.names, art.has.tolist(), hold
        known = (
            {w for names in art.names for name in names for w in name.split()} | set(CNAMES) | set(STYLES) | set(SIZES)
        )
        self.noise = [w for w in art.words if w not in known]

    def draw(self, n: int, seed: int, pairs: float = 0.16, counts: float = 0.05) -> Rows:
        rng = random.Random(seed)
        order = [i % len(self.names) for i in range(n)]
        rng.shuffle(order)
        return pack([self._one(rng, k, pairs, counts) for k in order])

    def _one(self, rng: random.Random, k: int, pairs: float, counts: float) -> dict:
        said = rng.random() < 0.72
        others = [k]
        kind = rng.random()
        kind = 1 if kind < pairs else 2 if kind < pairs + counts else 0
        if kind == 1:
            others.append(rng.randrange(len(self.names)))
            while others[1] == k:
                others[1] = rng.randrange(len(self.names))
        possible = [s for s in range(len(STYLES)) if all(self.has[i][s] for i in others)]
        style = rng.choice(possible) if said else rng.choices(possible, [STYLE_PRIOR[s] for s in possible])[0]
        bg = rng.randrange(12) if rng.random() < 0.78 else 0
        while self.hold and any(held(i, style, bg) for i in others):
            bg = rng.randrange(12)
        return self.write(rng, others, style, bg, kind, said)

    def write(self, rng: random.Random, ks: list[int], style: int, bg: int, kind: int, said: bool) -> dict:
        word = STYLES[style]
        name = [self._name(rng, k) for k in ks]
        front = said and rng.random() < 0.5
        scale, at, size = [SCALE], [(0.0, 0.0)], 0
        if kind == 0:
            text, scale, size = self._single(rng, name[0], word if front else "")
        elif kind == 1:
            if front:
                name = [f"{word} {n}" for n in name]
            text, at = self._pair(rng, article(name[0]), article(name[1]))
            scale = [PAIR, PAIR]
        else:
            many = rng.choice((2, 2, 3))
            text = f"{('two', 'three')[many - 2]} {word + ' ' if front else ''}{plural(name[0])}"
            ks = ks * many
            if many == 2:
                scale, at = [PAIR] * 2, [(-0.245, 0.0), (0.245, 0.0)]
            else:
                scale, at = [0.44] * 3, [(0.0, -0.24), (-0.25, 0.24), (0.25, 0.24)]
        if rng.random() < 0.1:
            text = rng.choice(OPENINGS) + text
        if rng.random() < 0.06:
            text += " " + rng.choice(TAILS)
        text = self._where(rng, text, word if said and not front else "", bg)
        return {"k": ks, "scale": scale, "at": at, "style": style, "bg": bg, "size": size, "kind": kind, "text": text}

    def _name(self, rng: random.Random, k: int) -> str:
        names = self.names[k]
        return names[0] if len(names) == 1 or rng.random() < 0.6 else rng.choice(names[1:])

    def _single(self, rng: random.Random, name: str, word: str) -> tuple[str, list[float], int]:
        size = rng.choice(list(SIZES)) if rng.random() < 0.12 else ""
        scale = SIZES.get(size, SCALE)
        bits = [b for b in (size, word) if b]
        rng.shuffle(bits)
        draw = rng.random()
        if draw < 0.16:
            bits.insert(rng.randint(0, len(bits)), rng.choice(ADJECTIVES if draw < 0.12 else self.noise))
        text = " ".join([*bits, name])
        bare = rng.random() < 0.2
        return text if bare else article(text), [scale], 0 if not size else 1 if scale < 0.7 else 2

    @staticmethod
    def _pair(rng: random.Random, a: str, b: str) -> tuple[str, list[tuple[float, float]]]:
        if rng.random() < 0.2:
            text = rng.choice((f"{a} above {b}", f"{b} below {a}", f"{b} under {a}"))
            return text, [(0.0, -0.245), (0.0, 0.245)]
        words = (
            f"{a} and {b}",
            f"{a} and {b}",
            f"{a} next to {b}",
            f"{a} beside {b}",
            f"{a} with {b}",
            f"{a} to the left of {b}",
            f"{a} on the left and {b} on the right",
            f"{b} to the right of {a}",
        )
        return rng.choice(words), [(-0.245, 0.0), (0.245, 0.0)]

    @staticmethod
    def _where(rng: random.Random, text: str, word: str, bg: int) -> str:
        colour = CNAMES[bg]
        parts = (
            [rng.choice([f"{word} style", f"{word} style", word, f"{word} art", f"in {word} style"])] if word else []
        )
        if bg != 0 or rng.random() < 0.4:
            place = ("an " if colour[0] in "aeiou" else "a ") + colour + " background"
            draw = rng.random()
            if draw < 0.55:
                text += f" on {place}"
            elif draw < 0.65:
                text += f" with {place}"
            elif draw < 0.75:
                text += f" on {colour}"
            else:
                parts.append(f"{colour} background")
        rng.shuffle(parts)
        if rng.random() < 0.12:
            parts += rng.sample(FLUFF, rng.randint(1, 3))
        return ", ".join([*parts, text] if rng.random() < 0.06 else [text, *parts])


def pack(rows: list[dict]) -> Rows:
    n = len(rows)
    k, scale, at = torch.full((n, 3), -1), torch.ones(n, 3), torch.zeros(n, 3, 2)
    for i, row in enumerate(rows):
        for j, subject in enumerate(row["k"]):
            k[i, j], scale[i, j], at[i, j] = subject, row["scale"][j], torch.tensor(row["at"][j])
    style, bg, size, kind = (torch.tensor([row[f] for row in rows]) for f in ("style", "bg", "size", "kind"))
    return Rows(k, scale, at, style, bg, size, kind, [row["text"] for row in rows])


def said(names: list[str], style: int, bg: int) -> str:
    """The plain form of a prompt, as evaluation uses it: 'a flat cat on a blue background'."""
    both = " and ".join(article(f"{STYLES[style]} {name}") for name in names)
    return f"{both} on {article(CNAMES[bg] + ' background')}"


def place(art: Tensor, scale: Tensor, at: Tensor, side: int) -> Tensor:
    """art [n, 4, s, s] in 0..1 -> [n, 4, side, side], scaled about its own centre and moved."""
    n = len(art)
    theta = torch.zeros(n, 2, 3, device=art.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = -2 * at / scale[:, None]
    grid = functional.affine_grid(theta, [n, 4, side, side], align_corners=False)
    out = functional.grid_sample(art, grid, align_corners=False)
    ratio = art.shape[-1] / side / scale  # pixels of the source for one of the result
    for factor, low, high in ((2, 1.4, 2.8), (4, 2.8, 99.0)):
        index = ((ratio >= low) & (ratio < high)).nonzero()[:, 0]
        if len(index):
            out[index] = functional.grid_sample(
                functional.avg_pool2d(art[index], factor), grid[index], align_corners=False
            )
    return out


def ground(rgb: Tensor, side: int, studio: bool) -> Tensor:
    """Backgrounds [n, 3, side, side]: plain, or for the studio taste with a soft light behind and a darker foot."""
    flat = rgb[:, :, None, None].expand(-1, -1, side, side)
    if not studio:
        return flat
    line = torch.linspace(-1, 1, side, device=rgb.device)
    light = torch.exp(-(line[None] ** 2 + (line[:, None] + 0.15) ** 2) * 1.4)
    lit = flat + (1 - flat) * 0.55 * light
    return lit * (0.62 + 0.38 * torch.sigmoid(3 * light + 1.2 - 2.2 * line[:, None].clamp(min=0)))


def compose(art: Art, rows: Rows, side: int = SIDE, studio: bool = False) -> Tensor:
    """The scenes as pictures [n, 3, side, side] in -1..1, on the art's device."""
    device = art.device
    rows = rows.to(device)
    out = ground(CRGB.to(device)[rows.bg], side, studio)
    white = (rows.style == INK) & DARK.to(device)[rows.bg]
    for j in range(3):
        index = (rows.k[:, j] >= 0).nonzero()[:, 0]
        if not len(index):
            break
        layer = art.stack[rows.k[index, j], rows.style[index]].float() / 255
        bleached = white[index]
        layer[bleached, :3] = layer[bleached, 3:] - layer[bleached, :3]
        layer = place(layer, rows.scale[index, j], rows.at[index, j], side)
        if studio:
            shade = functional.avg_pool2d(functional.pad(layer[:, 3:], (side // 16,) * 4), side // 8 + 1, 1)[
                ..., :side, :side
            ]
            shade = torch.roll(shade, (side // 24, side // 40), (2, 3)) * 0.45
            out = torch.index_copy(out, 0, index, out[index] * (1 - shade))
        out = torch.index_copy(out, 0, index, layer[:, :3] + (1 - layer[:, 3:]) * out[index])
    return out.clamp(0, 1) * 2 - 1


def loose(flat: Tensor, n: int, side: int, generator: torch.Generator | None = None, crop: bool = False) -> Tensor:
    """Any art on any colour at any size [n, 3, side, side] in -1..1: for the autoencoders and the upscaler."""
    device = flat.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    picked = flat[(rand(n) * len(flat)).long()].float() / 255
    turned = rand(n) < 0.5
    picked[turned] = picked[turned].flip(-1)
    named = CRGB.to(device)[(rand(n) * 12).long()]
    rgb = torch.where(rand(n, 1) < 0.6, named, rand(n, 3))
    scale = rand(n) * 1.4 + 0.9 if crop else rand(n) * 0.8 + 0.35
    at = (rand(n, 2) * 2 - 1) * (0.5 * scale[:, None] if crop else 0.2)
    layer = place(picked, scale, at, side)
    return (layer[:, :3] + (1 - layer[:, 3:]) * rgb[:, :, None, None]).clamp(0, 1) * 2 - 1


# ------------------------------------------------------------------------------------------------------------- tastes

GREENS = torch.tensor([[15, 56, 15], [48, 98, 48], [139, 172, 15], [202, 220, 80]]) / 127.5 - 1
LUMA = torch.tensor([0.299, 0.587, 0.114])


def pixel(x: Tensor) -> Tensor:
    """16 x 16 blocks in the four greens of an old handheld screen."""
    luma = (functional.avg_pool2d(x, x.shape[-1] // 16) * LUMA.to(x.device)[None, :, None, None]).sum(1)
    tones = GREENS.to(x.device)[((luma + 1) * 2).long().clamp(0, 3)].permute(0, 3, 1, 2)
    return functional.interpolate(tones, size=x.shape[-1], mode="nearest")


def blueprint(x: Tensor) -> Tensor:
    """Light lines on a deep blue ground with a fine grid."""
    side = x.shape[-1]
    soft = functional.avg_pool2d(functional.pad(x, (1,) * 4, mode="replicate"), 3, 1)
    wide = functional.pad(soft, (2,) * 4, mode="replicate")
    across = (wide[:, :, 2:-2, 4:] - wide[:, :, 2:-2, :-4]).abs().amax(1, keepdim=True)
    down = (wide[:, :, 4:, 2:-2] - wide[:, :, :-4, 2:-2]).abs().amax(1, keepdim=True)
    line = (1.6 * torch.sqrt(across**2 + down**2) - 0.12).clamp(0, 1)
    step = side // 8
    grid = torch.zeros(side, side, device=x.device)
    grid[step // 2 :: step] = 1
    grid[:, step // 2 :: step] = 1
    paper = torch.tensor([18, 60, 130], device=x.device)[None, :, None, None] / 127.5 - 1
    paper = paper + 0.16 * functional.avg_pool2d(functional.pad(grid[None, None], (1,) * 4), 3, 1)
    return paper + line * (torch.tensor([225, 238, 255], device=x.device)[None, :, None, None] / 127.5 - 1 - paper)


def sheet(pictures: list[Tensor], path: str, columns: int, labels: list[str] | None = None, scale: float = 1) -> None:
    """Pictures in -1..1 as one labelled PNG."""
    from PIL import Image, ImageDraw

    side, strip = int(pictures[0].shape[-1] * scale), 12 if labels else 0
    lines = (len(pictures) + columns - 1) // columns
    page = Image.new("RGB", (columns * side, lines * (side + strip)), "white")
    pen = ImageDraw.Draw(page)
    for i, x in enumerate(pictures):
        pixels = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        left, top = i % columns * side, i // columns * (side + strip)
        page.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS), (left, top + strip))
        if labels:
            pen.text((left + 2, top), labels[i][: side // 6], fill="black")
    page.save(path)
