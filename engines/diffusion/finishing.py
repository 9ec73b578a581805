"""What is done to a picture that is there: enlarged, its faces drawn anew.

Each is a generator of events that returns the new picture and what it was made with.

A step that is refused is refused before anything is drawn (`check`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Hashable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps

from engines import headers, presence
from engines.diffusion import detecting, faces, gfpgan, nets, others, upscaling, x4
from engines.diffusion import device as devices
from engines.diffusion.aligning import SIDE as FRAME
from engines.diffusion.room import Room
from engines.entries import HubFile, Upscaler
from engines.errors import InvalidRequest, LoadError, OutOfMemory
from engines.events import Event, Finishing, Loading, Noted, Pixels, Previewed
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
    scale = step.scale or entry.scale * step.shrink
    wanted = enlarged(picture.size, scale)
    shrunk = enlarged(picture.size, step.shrink) if step.shrink < 1 else picture.size
    if entry.kind == "diffusion":  # which is drawn once, in its own factor
        upscaling.check(shrunk, entry.scale, (shrunk[0] * entry.scale, shrunk[1] * entry.scale))
        upscaling.check(wanted, 1, wanted)
    else:
        upscaling.check(shrunk, entry.scale, wanted)
    if shrunk != picture.size:
        picture = picture.resize(shrunk, Image.Resampling.LANCZOS)
    yield Previewed(job_id, 0, preview(picture))
    if entry.kind == "diffusion":
        made = yield from _refined(room, job_id, picture, step, entry, request, stop)
        made = made if made.size == wanted else made.resize(wanted, Image.Resampling.LANCZOS)
        return made, {f"upscaler {entry.id} sha256": room.loader.hashes.get(_files(entry))}
    own = ("upscaler", entry.id, str(entry.source.path), step.denoise if entry.weak else 1.0)
    for dtype in (torch.float32,) if own in room.overflowing else _dtypes(room):
        key = (*own, dtype)
        build = partial(_net, room, entry, step.denoise, dtype)
        net = yield from _held(room, job_id, key, entry.title, build, _bytes(_files(entry)))
        try:
            made = yield from _enlarged(room, job_id, picture, net, wanted, step, key, stop)
        except LoadError:
            if next(net.parameters()).dtype == torch.float32:
                raise
        else:
            return made, {f"upscaler {entry.id} sha256": room.loader.hashes.get(_files(entry))}
        del net
        room.overflowing.add(own)
        room.residency.drop({key})
        yield Noted("info", f"{entry.title} overflows in {devices.NAMES[dtype]}: in fp32 from now on", job_id)
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

    model = yield from _held(room, job_id, key, entry.title, build, _bytes(_files(entry)))
    what = f"drawing {picture.width * 4}x{picture.height * 4}"
    yield Finishing(job_id, what, 0.0)
    room.residency.make_room({key}, WORKING)
    budget = max(int(devices.free_memory(device) * SHARE), LEAST)
    if device.torch.type != "cuda":
        budget = min(budget, WORKING)
    side = x4.side_for(model, step.tile, budget, step.guidance_scale)
    all, half = (x4.evaluations(enlarged(picture.size, s), side, step.num_inference_steps) for s in (1, 0.5))
    if all > half:
        told = f"{all:,} evaluations of tiles of {side} px; made half as large first, it were {half:,} (shrink 0.5)"
        yield Noted("info", told, job_id)
    prompt = request.prompt if step.prompt is None else step.prompt

    def work() -> Generator[Event, None, Image.Image]:
        steps = x4.refine(
            model, picture, device, prompt=prompt, negative_prompt=request.negative_prompt or "",
            num_inference_steps=step.num_inference_steps, guidance_scale=step.guidance_scale,
            noise_level=step.noise_level, seed=request.seed, tile=step.tile, budget=budget,
            preview_every=request.preview_every, stop=stop,
        )  # fmt: skip
        return (yield from _watched(room, job_id, what, key, steps))

    return (yield from _once_more(room, key, work))


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

    def work() -> Generator[Event, None, Image.Image]:
        tiles = upscaling.upscale(picture, net, room.device, size=wanted, tile=tile, budget=budget, stop=stop)
        return (yield from _watched(room, job_id, what, key, tiles))

    return (yield from _once_more(room, key, work))


def _once_more(
    room: Room, key: Hashable, work: Callable[[], Generator[Event, None, Image.Image]]
) -> Generator[Event, None, Image.Image]:
    """What some work returns; where memory runs out in spite of the smallest tile, it begins once more when all that
    other work holds is gone."""
    others = room.residency.used_besides({key})
    try:
        return (yield from work())
    except OutOfMemory:
        if not others:
            raise
    room.forget({key})
    return (yield from work())


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
        if isinstance(progress, x4.Progress) and progress.shown is not None:
            yield Previewed(job_id, 0, progress.shown)


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
        net = gfpgan.load(path, torch.float32, sha256)
    except nets.Unknown:
        return others.face_restorer(path, sha256)
    if net.shape.side != FRAME:
        told = f"{path.name} takes faces of {net.shape.side} px, and they are cut out in {FRAME} px"
        raise LoadError(headers.shown(told), "choose GFPGANv1.4.pth")
    return net


def _bytes(paths: tuple[Path, ...]) -> int:
    """Of some files, about what their weights take; 0 for what is missing, which is told when it is read."""
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


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
    found = yield from _found(room, job_id, picture, _detector(room, step), stop)
    made_with: dict[str, str] = {}
    net: Any = None
    key = ("faces", entry.id, str(entry.file.path), torch.float32)
    if found and step.strength > 0:
        net = yield from _held(
            room,
            job_id,
            key,
            entry.title,
            lambda: _face_net(entry.file.path, _sha256(entry.file)).to(room.device.torch),
            _bytes((entry.file.path,)),
        )
        room.residency.make_room({key}, WORKING)
        made_with = {f"face restorer {entry.id} sha256": room.loader.hashes.get((entry.file.path,))}

    def patient(face: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor | None = None
        try:
            made = net(face)
        except Exception as e:
            if not devices.is_out_of_memory(e):
                raise
        if made is None:  # past the except, so that what its frames held is gone
            room.forget({key})
            made = net(face)
        return made

    work = faces.restore(picture, found, patient, step.strength, room.device, torch.float32, stop)
    while True:
        try:
            with room.residency.using({key}), room.memory():
                progress = next(work)
        except StopIteration as end:
            return end.value, made_with
        if progress.note:
            yield Noted("info", progress.note, job_id)
        if progress.of:
            yield Finishing(job_id, f"face {progress.number} of {progress.of}", progress.number / progress.of)


def _found(
    room: Room, job_id: JobId, picture: Image.Image, detect: detecting.Detect, stop: Callable[[], bool]
) -> Generator[Event, None, list[detecting.Face]]:
    """The faces of a picture, with how far the search is."""
    what = "looking for faces"
    yield Finishing(job_id, what, 0.0)
    work = detecting.search(picture, detect, stop)
    while True:
        try:
            with room.memory():
                done, of = next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        yield Finishing(job_id, what, done / of)


def _detector(room: Room, step: Restore) -> detecting.Detect:
    """What finds faces, from memory where it is held. Raises LoadError."""
    known = room.catalogue
    entry = known.require_face_detector(step.detector) if step.detector else known.default_face_detector()
    key = ("face detector", entry.id, str(entry.file.path))
    return room.residency.get(key, lambda: detecting.YuNet(entry.file.path, _sha256(entry.file)))


# ── both ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _held(
    room: Room, job_id: JobId, key: Hashable, title: str, build: Callable[[], Any], size: int
) -> Generator[Event, None, Any]:
    """A network from memory, or loaded, with an event if it has to be; once more with all else gone where memory runs
    out.

    Args:
        size: bytes that are made room for before it is loaded, about what it takes.
    """
    if key not in room.residency:
        yield Loading(job_id, title)
        room.residency.make_room({key}, size)
    net = None
    try:
        net = room.residency.get(key, build)
    except Exception as e:
        if not devices.is_out_of_memory(e):
            raise
    if net is None:  # past the except, so that what its frames held is gone
        room.forget({key})
        with room.memory():
            net = room.residency.get(key, build)
    room.residency.make_room({key})
    return net


def preview(picture: Image.Image) -> Pixels:
    """A picture made small."""
    small = fitted(picture, picture.size) if picture.mode != "RGB" else picture.copy()
    small.thumbnail((SIDE, SIDE))
    return Pixels(small.width, small.height, small.tobytes())
