"""What is done to a picture that is there: enlarged, its faces drawn anew.

Each is a generator of events that returns the new picture and what it was made with.

A step that is refused is refused before anything is drawn (`check`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps

from engines import presence
from engines.diffusion import detecting, faces, gfpgan, nets, others, upscaling, x4
from engines.diffusion import device as devices
from engines.diffusion.room import Room
from engines.entries import HubFile, Upscaler
from engines.errors import InvalidRequest, LoadError
from engines.events import Event, Finishing, Loading, Noted, Pixels, Previewed
from engines.prompt import parse
from engines.requests import Generate, JobId
from engines.steps import Hires, Restore, Step, Upscale, enlarged

WORKING = 1 << 30
"Bytes of the device's memory that a tile may take, at most: larger ones are no quicker."
SHARE = 0.5
"Of what is free, how much a tile may take."
LEAST = 64 << 20
"Bytes that a tile may take however little is free: whether they are there is found when they are asked for."
SIDE = 256
"Pixels of a preview's longer side, at most."


def check(room: Room, steps: tuple[Step, ...]) -> None:
    """Raises CatalogueError or LoadError if something that the steps need is not here."""
    for step in steps:
        match step:
            case Upscale():
                room.catalogue.require_upscaler(step.upscaler)
            case Restore():
                room.catalogue.require_face_restorer(step.restorer)
                _detector(room, step)
            case Hires(upscaler=by) if by and by != "latent":
                entry = room.catalogue.require_upscaler(by)
                if entry.kind == "diffusion":
                    raise InvalidRequest(
                        f"{by} is a diffusion model itself", "a hires pass takes a network, latent, or none", "finish"
                    )


def suffix(step: Step, before: Image.Image, after: Image.Image) -> str:
    """What a step adds to the name of a file: x4, faces, hires."""
    match step:
        case Upscale():
            return f"x{round(after.width / before.width, 2):g}"
        case Restore():
            return "faces"
        case Hires():
            return "hires"


def fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture as RGB in exactly that size: it covers it, and what is too much is cut off on both sides alike.
    Transparency is laid over white."""
    if picture.has_transparency_data:
        over = Image.new("RGBA", picture.size, "white")
        over.alpha_composite(picture.convert("RGBA"))
        picture = over
    rgb = picture.convert("RGB")
    return rgb if rgb.size == size else ImageOps.fit(rgb, size, Image.Resampling.LANCZOS)


# ── enlarging ───────────────────────────────────────────────────────────────────────────────────────────────────────


def upscale(
    room: Room, job_id: JobId, picture: Image.Image, step: Upscale, request: Generate, stop: Callable[[], bool]
) -> Generator[Event, None, tuple[Image.Image, dict[str, str]]]:
    """A picture enlarged; by a network in the precision that suits the device, in fp32 where that overflows."""
    entry = room.catalogue.require_upscaler(step.upscaler)
    scale = step.scale or float(entry.scale)
    wanted = enlarged(picture.size, scale)
    if step.shrink < 1:
        picture = picture.resize(enlarged(picture.size, step.shrink), Image.Resampling.LANCZOS)
    yield Previewed(job_id, 0, preview(picture))
    if entry.kind == "diffusion":
        made = yield from _refined(room, job_id, picture, step, entry, request, stop)
        made = made if made.size == wanted else made.resize(wanted, Image.Resampling.LANCZOS)
        return made, {f"upscaler {entry.id} sha256": room.loader.hashes.get(_files(entry))}
    for dtype in _dtypes(room):
        key = ("upscaler", entry.id, str(entry.source.path), step.denoise if entry.weak else 1.0, dtype)
        net = yield from _held(room, job_id, key, entry.title, lambda d=dtype: _net(room, entry, step.denoise, d))  # type: ignore[misc]
        try:
            made = yield from _enlarged(room, job_id, picture, net, wanted, step, key, stop)
        except LoadError:
            if dtype == torch.float32:
                raise
            yield Noted("info", f"{entry.title} overflows in {devices.NAMES[dtype]}: again in fp32", job_id)
        else:
            return made, {f"upscaler {entry.id} sha256": room.loader.hashes.get(_files(entry))}
    raise AssertionError("fp32 is the last")


def _refined(
    room: Room,
    job_id: JobId,
    picture: Image.Image,
    step: Upscale,
    entry: Upscaler,
    request: Generate,
    stop: Callable[[], bool],
) -> Generator[Event, None, Image.Image]:
    """A picture drawn anew four times as large, by a diffusion model."""
    device = room.device
    dtype = torch.float16 if device.torch.type == "cuda" else torch.float32
    vae_dtype = devices.vae_dtype(device, dtype, True)
    key = ("x4", entry.id, str(entry.source.path), dtype)
    variant = getattr(entry.source, "variant", None)

    def build() -> x4.Parts:
        made = x4.load(entry.source.path, variant, dtype, vae_dtype)
        for module in made.modules:
            module.to(device.torch)
        return made

    model = yield from _held(room, job_id, key, entry.title, build)
    what = f"drawing {picture.width * 4}x{picture.height * 4}"
    side = step.tile or x4.TILE
    all, half = (x4.evaluations(enlarged(picture.size, s), side, step.num_inference_steps) for s in (1, 0.5))
    if all > half:
        told = f"{all:,} evaluations of tiles of {side} px; made half as large first, it were {half:,} (shrink 0.5)"
        yield Noted("info", told, job_id)
    yield Finishing(job_id, what, 0.0)
    room.residency.make_room({key}, WORKING)
    budget = max(int(devices.free_memory(device) * SHARE), LEAST)
    if device.torch.type != "cuda":
        budget = min(budget, WORKING)
    text, negative = (parse(t or "").plain for t in (step.prompt or request.prompt, request.negative_prompt))
    work = x4.refine(
        model, picture, device, prompt=text, negative_prompt=negative, num_inference_steps=step.num_inference_steps,
        guidance_scale=step.guidance_scale, noise_level=step.noise_level, seed=request.seed, tile=step.tile,
        budget=budget, stop=stop,
    )  # fmt: skip
    return (yield from _watched(room, job_id, what, key, work))


def _enlarged(
    room: Room,
    job_id: JobId,
    picture: Image.Image,
    net: nets.Net,
    wanted: tuple[int, int],
    step: Upscale,
    key: Hashable,
    stop: Callable[[], bool],
) -> Generator[Event, None, Image.Image]:
    what = f"upscaling to {wanted[0]}x{wanted[1]}"
    yield Finishing(job_id, what, 0.0)
    room.residency.make_room({key}, WORKING)
    budget = max(min(int(devices.free_memory(room.device) * SHARE), WORKING), LEAST)
    tile = (max(step.tile, upscaling.least(net)),) * 2 if step.tile else None
    work = upscaling.upscale(picture, net, room.device, size=wanted, tile=tile, budget=budget, stop=stop)
    return (yield from _watched(room, job_id, what, key, work))


def _watched(
    room: Room,
    job_id: JobId,
    what: str,
    key: Hashable,
    work: Generator[upscaling.Progress | x4.Progress, None, Image.Image],
) -> Generator[Event, None, Image.Image]:
    """What some work returns, with its progress as events; what it computes with stays where it is meanwhile."""
    while True:
        try:
            # inference mode is per thread and must not leak to whoever drains this generator between tiles
            with torch.inference_mode(), room.residency.using({key}), room.memory():
                progress = next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        yield Finishing(job_id, what, progress.done / progress.of)


def _dtypes(room: Room) -> tuple[torch.dtype, ...]:
    """What a network computes in, and then, where that overflows: half precision is for GPUs."""
    return (torch.float16, torch.float32) if room.device.torch.type == "cuda" else (torch.float32,)


def _net(room: Room, entry: Upscaler, denoise: float, dtype: torch.dtype) -> nets.Net:
    path, sha256 = entry.source.path, _sha256(entry.source)
    if entry.weak is not None and denoise < 1:
        pair = sha256, _sha256(entry.weak)
        net = nets.load_pair(path, entry.weak.path, denoise, pair)
    else:
        net = _known(path, sha256)
    whole = isinstance(net, others.Other) and not net.halves
    return upscaling.place(net, room.device, torch.float32 if whole else dtype)


def _known(path: Path, sha256: str) -> nets.Net:
    """An upscaler of an architecture of ours, or else of spandrel's. Raises LoadError."""
    try:
        return nets.load(path, sha256)
    except nets.Unknown:
        return others.upscaler(path, sha256)


def _face_net(path: Path, sha256: str) -> torch.nn.Module:
    """A face restorer; the same."""
    try:
        return gfpgan.load(path, torch.float32, sha256)
    except nets.Unknown:
        return others.face_restorer(path, sha256)


def _files(entry: Upscaler) -> tuple[Path, ...]:
    """What its hash is of: a network's file, or a diffusion model's UNet."""
    if entry.kind == "diffusion":
        return presence.weights(entry.source.path / "unet", getattr(entry.source, "variant", None))[0]
    return (entry.source.path,)


def _sha256(source: object) -> str:
    return source.sha256 if isinstance(source, HubFile) else ""


# ── faces ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def restore(
    room: Room, job_id: JobId, picture: Image.Image, step: Restore, stop: Callable[[], bool]
) -> Generator[Event, None, tuple[Image.Image, dict[str, str]]]:
    """A picture with its faces drawn anew; the very same where there is none, which is told."""
    entry = room.catalogue.require_face_restorer(step.restorer)
    yield Previewed(job_id, 0, preview(picture))
    yield Finishing(job_id, "looking for faces")
    found = detecting.find(picture, _detector(room, step), stop)
    made_with: dict[str, str] = {}
    net: Any = None
    if found and step.strength > 0:
        key = ("faces", entry.id, str(entry.file.path), torch.float32)
        net = yield from _held(
            room,
            job_id,
            key,
            entry.title,
            lambda: _face_net(entry.file.path, _sha256(entry.file)).to(room.device.torch),
        )
        made_with = {f"face restorer {entry.id} sha256": room.loader.hashes.get((entry.file.path,))}
    work = faces.restore(picture, found, net, step.strength, room.device, torch.float32, stop)
    while True:
        try:
            with room.memory():
                progress = next(work)
        except StopIteration as end:
            return end.value, made_with
        if progress.note:
            yield Noted("info", progress.note, job_id)
        if progress.of:
            yield Finishing(job_id, f"face {progress.number} of {progress.of}", progress.number / progress.of)


def _detector(room: Room, step: Restore) -> detecting.Detect:
    """What finds faces, from memory where it is held. Raises LoadError."""
    known = room.catalogue
    entry = known.require_face_detector(step.detector) if step.detector else known.default_face_detector()
    key = ("face detector", entry.id, str(entry.file.path))
    return room.residency.get(key, lambda: detecting.YuNet(entry.file.path))


# ── both ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _held(
    room: Room, job_id: JobId, key: Hashable, title: str, build: Callable[[], Any]
) -> Generator[Event, None, Any]:
    """A network from memory, or loaded, with an event if it has to be."""
    if key not in room.residency:
        yield Loading(job_id, title)
    with room.memory():
        net = room.residency.get(key, build)
        room.residency.make_room({key})
    return net


def preview(picture: Image.Image) -> Pixels:
    """A picture made small."""
    small = fitted(picture, picture.size) if picture.mode != "RGB" else picture.copy()
    small.thumbnail((SIDE, SIDE))
    return Pixels(small.width, small.height, small.tobytes())
