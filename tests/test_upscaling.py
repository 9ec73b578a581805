"""Pictures enlarged: tiled as untiled, every sort of picture, memory as foretold, and better than resampling."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import art
import numpy as np
import pytest
import torch
import upscalers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from engines import pictures
from engines.diffusion import device as devices
from engines.diffusion import nets, tiling, upscaling
from engines.diffusion.nets import Net
from engines.diffusion.upscaling import Progress
from engines.errors import InvalidRequest, LoadError, OutOfMemory, Stopped

Case: TypeAlias = tuple[object, ...]
"What tests/memory_child.py is asked: network, data type, side, tile and, if it is resampled, the side that is wanted."
CPU = devices.choose("cpu")
MINI = Path(nets.__file__).parent.parent / "mini" / "upscaler" / "mini_x4.safetensors"


def run(picture: Image.Image, net: Net, **how: Any) -> tuple[Image.Image, list[Progress]]:
    """The result, and what was told on the way."""
    told = []
    work = upscaling.upscale(picture, net, CPU, **how)
    while True:
        try:
            told.append(next(work))
        except StopIteration as done:
            return done.value, told


def up(picture: Image.Image, net: Net, **how: Any) -> Image.Image:
    return run(picture, net, **how)[0]


def placed(net: Net, dtype: torch.dtype = torch.float32) -> Net:
    return upscaling.place(net, CPU, dtype)


@lru_cache
def mini() -> Net:
    return placed(nets.load(MINI))


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (width, height), np.random.default_rng(seed).bytes(width * height * bands))


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def apart(one: Image.Image, other: Image.Image) -> int:
    assert (one.size, one.mode) == (other.size, other.mode)
    return int(np.abs(levels(one) - levels(other)).max())


def psnr(one: Image.Image, other: Image.Image) -> float:
    return float(10 * np.log10(255**2 / np.mean((levels(one) - levels(other)) ** 2)))


# ── tiled as untiled ────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache
def small(kind: str) -> Net:
    made = {
        "compact": lambda: upscalers.compact(1, convs=3),
        "compact x2": lambda: upscalers.compact(2, scale=2),
        "rrdb": lambda: upscalers.rrdb(3),
        "rrdb x2": lambda: upscalers.rrdb(4, fold=2),
        "rrdb x1": lambda: upscalers.rrdb(5, fold=4),
        "grey": lambda: upscalers.compact(6, convs=1, colours=1),
    }
    return placed(made[kind]())


@pytest.mark.parametrize("kind", ["compact", "compact x2", "rrdb", "rrdb x2", "rrdb x1", "grey"])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_tiled_is_untiled(kind: str, data: st.DataObject) -> None:
    """With a halo of the radius or more, whatever the tile and the picture: no level differs by more than one."""
    net = small(kind)
    size = st.integers(1, 70 if net.align == 1 else 230)
    width, height = data.draw(size, "width"), data.draw(size, "height")
    halo = net.radius + data.draw(st.integers(0, 5), "wider")
    room = 2 * (-(-halo // net.align) * net.align) + net.align
    tile = data.draw(st.integers(room, room + 60), "wide"), data.draw(st.integers(room, room + 60), "high")
    feather = data.draw(st.sampled_from([None, 0, 6]), "feather")
    picture = noise(width, height, data.draw(st.sampled_from(["RGB", "L"])), data.draw(st.integers(0, 9)))
    whole = up(picture, net, tile=(4096, 4096), halo=halo)
    assert np.ptp(levels(whole)) > 20 or width * height < 20, "a picture in which a difference would show"
    if feather:  # half of it is taken from the halo
        halo += -(-feather // 2)
        tile = tile[0] + feather + 2 * net.align, tile[1] + feather + 2 * net.align
    assert apart(up(picture, net, tile=tile, halo=halo, feather=feather), whole) <= 1


def test_too_narrow_a_halo_shows() -> None:
    """The property above can fail: one pixel less than the radius, and some level differs."""
    net = small("compact")
    picture = noise(60, 60)
    whole = up(picture, net, tile=(99, 99))
    assert apart(up(picture, net, tile=(24, 24), halo=2, feather=0), whole) > 1
    assert apart(up(picture, net, tile=(24, 24), halo=net.radius, feather=0), whole) <= 1


def test_feathering_hides_the_cut() -> None:
    """With too narrow a halo, the picture is nearer to the whole one."""
    picture = Image.new("RGB", (128, 128))
    for seed in range(4):
        picture.paste(art.picture(seed).reduce(4), (64 * (seed % 2), 64 * (seed // 2)))
    whole = levels(up(picture, mini(), tile=(999, 999)))
    cut, blended = (levels(up(picture, mini(), tile=(40, 40), halo=2, feather=feather)) for feather in (0, 4))
    assert np.abs(blended - whole).mean() < np.abs(cut - whole).mean()


@pytest.mark.parametrize("kind", ["compact", "compact x2"])
def test_tiles_are_blended_by_their_weights(kind: str) -> None:
    """Each tile enlarged for itself and added up by `tiling.weights`, where four meet, too; within a level, for what is
    shared down waits in bytes."""
    net, picture = small(kind), noise(61, 58)
    k, made = net.scale, np.zeros((58 * net.scale, 61 * net.scale, 3))
    for tile in tiling.tiles(picture.size, (24, 21), 3, 5):
        alone = levels(up(picture.crop(tile.read), net, tile=(99, 99)))
        (left, top), (right, bottom) = ((tile.keep[i] * k, tile.keep[i + 1] * k) for i in (0, 2))
        shares = tiling.weights(tile.y, k)[:, None, None] * tiling.weights(tile.x, k)[:, None]
        x, y = left - tile.x.start * k, top - tile.y.start * k
        made[top:bottom, left:right] += alone[y : y + bottom - top, x : x + right - left] * shares
    result = levels(up(picture, net, tile=(24, 21), halo=3, feather=5))
    assert np.abs(result - made).max() <= 1.5
    cut = levels(up(picture, net, tile=(24, 21), halo=3, feather=0))
    assert np.abs(cut - made).max() > 20


def test_every_pixel_is_blended_once() -> None:
    """A net that repeats pixels gives them back from any tiles, where four meet, too."""
    net = nets.SRVGGNetCompact(3, 2, 0, 3)
    for weight in net.parameters():
        weight.requires_grad_(False).zero_()
    picture = noise(53, 47)
    repeated = picture.resize((159, 141), Image.Resampling.NEAREST)
    for feather in (0, 1, 2, 5, 8, 30):
        assert apart(up(picture, placed(net), tile=(17, 13), halo=4, feather=feather), repeated) == 0


def test_bf16() -> None:
    picture = art.picture(0).reduce(4)
    net = placed(nets.load(MINI), torch.bfloat16)
    made = up(picture, net)
    assert next(net.parameters()).dtype == torch.bfloat16 and apart(made, up(picture, mini())) > 0
    assert psnr(made, up(picture, mini())) > 35


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="fp16"):
        placed(upscalers.compact(), torch.float16)


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("size", "count"),
    [(None, 1), ((80, 44), 1), ((30, 17), 1), ((20, 11), 1), ((7, 3), 1), ((81, 44), 2), ((99, 99), 2)],
)
def test_any_size(size: tuple[int, int] | None, count: int) -> None:
    picture = noise(20, 11)
    net = small("compact")
    made, told = run(picture, net, size=size)
    assert made.size == (size or (80, 44))
    assert told[-1].done == told[-1].of == count
    through = picture
    for _ in range(count):
        through = up(through, net)
    assert apart(made, through.resize(made.size, Image.Resampling.LANCZOS)) <= 1


def test_a_net_that_doesnt_enlarge() -> None:
    net = small("rrdb x1")
    made = up(noise(9, 6), net, size=(18, 12))
    assert apart(made, up(noise(9, 6), net).resize((18, 12), Image.Resampling.LANCZOS)) == 0
    assert up(noise(9, 6), net).size == (9, 6)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (1 << 20, 1 << 20)])
def test_sizes_that_cant_be(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest) as error:
        up(noise(4, 4), small("compact"), size=size)
    assert error.value.field == "size"


def test_large_on_the_way() -> None:
    with pytest.raises(InvalidRequest, match="on the way"):
        up(Image.new("L", (3000, 3000)), small("compact"), size=(12001, 12001))


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (30000, 1), (1, 3000), (3, 5)])
@pytest.mark.parametrize("kind", ["compact", "rrdb x2"])
def test_odd_pictures(size: tuple[int, int], kind: str) -> None:
    net = small(kind)
    made = up(noise(*size), net)
    assert made.size == (size[0] * net.scale, size[1] * net.scale) and made.mode == "RGB"


# ── pictures of all sorts ───────────────────────────────────────────────────────────────────────────────────────────


def test_grey_stays_grey() -> None:
    grey = noise(12, 10, "L")
    made = up(grey, mini())
    assert made.mode == "L"
    assert apart(made, up(grey.convert("RGB"), mini()).convert("L")) <= 1
    assert up(noise(12, 10, "LA"), mini()).mode == "LA"


def test_a_grey_net_enlarges_each_band() -> None:
    net = small("grey")
    picture = noise(14, 9)
    made = up(picture, net)
    assert apart(made, Image.merge("RGB", [up(band, net) for band in picture.split()])) <= 1


def clear(mode: str = "RGBA") -> Image.Image:
    picture = noise(24, 20, mode)
    alpha = Image.new("L", picture.size)
    alpha.paste(255, (6, 5, 18, 15))
    picture.putalpha(alpha)
    return picture


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha(mode: str) -> None:
    """Kept, resampled or through the net, and the colours are those without it."""
    picture = clear(mode)
    net = small("compact")
    plain = up(picture.convert("RGB" if mode == "RGBA" else "L"), net, size=(70, 50))
    made = up(picture, net, size=(70, 50))
    assert made.mode == mode
    assert apart(made.getchannel("A"), picture.getchannel("A").resize((70, 50), Image.Resampling.LANCZOS)) == 0
    assert apart(made.convert(plain.mode), plain) == 0
    made, told = run(picture, net, size=(70, 50), alpha="net")
    assert apart(made.getchannel("A"), up(picture.getchannel("A"), net, size=(70, 50))) == 0
    assert apart(made.convert(plain.mode), plain) == 0
    assert told[-1].done == told[-1].of == 2


def test_opaque_alpha_stays_opaque() -> None:
    picture = noise(8, 8).convert("RGBA")
    made, told = run(picture, small("compact"), alpha="net")
    assert made.getchannel("A").getextrema() == (255, 255) and told[-1].of == 1


def test_the_embedded_net_keeps_an_edge_of_alpha() -> None:
    made = up(clear(), mini(), alpha="net").getchannel("A")
    assert made.getpixel((48, 40)) > 250 and made.getpixel((4, 4)) < 5


def deep() -> Image.Image:
    return Image.fromarray(np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8))


def prepared_levels(picture: Image.Image) -> np.ndarray:
    return levels(pictures.prepare(picture))


def test_sixteen_bits_become_eight() -> None:
    assert deep().mode == "I;16"
    wanted = np.rint(np.arange(0, 65536, 1024) / 257).reshape(8, 8)
    assert (prepared_levels(deep()) == wanted).all()
    assert (prepared_levels(deep().convert("I")) == wanted).all()
    made = up(deep(), small("compact"))
    assert made.mode == "L" and made.size == (32, 32)


def test_float_levels() -> None:
    given = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    assert (prepared_levels(Image.fromarray(given)) == np.rint(given.astype(float) * 255)).all()
    for wrong in (given * 2, given - 1, np.full((2, 2), np.nan, np.float32)):
        with pytest.raises(InvalidRequest, match="levels"):
            pictures.prepare(Image.fromarray(wrong))
    with pytest.raises(InvalidRequest, match="levels"):
        pictures.prepare(Image.new("I", (2, 2), 70000))


def palette(transparent: bool) -> Image.Image:
    picture = noise(8, 8).quantize(8)
    if transparent:
        picture.info["transparency"] = 3
    return picture


@pytest.mark.parametrize(
    ("make", "mode"),
    [
        (lambda: noise(8, 8).convert("1"), "L"),
        (lambda: noise(8, 8, "L"), "L"),
        (lambda: noise(8, 8, "LA"), "LA"),
        (lambda: noise(8, 8, "LA").convert("La"), "LA"),
        (lambda: palette(False), "RGB"),
        (lambda: palette(True), "RGBA"),
        (lambda: noise(8, 8, "CMYK"), "RGB"),
        (lambda: noise(8, 8, "YCbCr"), "RGB"),
        (lambda: noise(8, 8, "HSV"), "RGB"),
        (lambda: noise(8, 8, "RGBX"), "RGB"),
        (lambda: noise(8, 8, "RGBA").convert("RGBa"), "RGBA"),
        (lambda: deep(), "L"),
    ],
)  # fmt: skip
def test_modes(make: Callable[[], Image.Image], mode: str) -> None:
    picture = make()
    before = (picture.mode, picture.size, picture.tobytes())
    made = up(picture, small("compact"))
    assert (made.mode, made.size) == (mode, (32, 32))
    assert before == (picture.mode, picture.size, picture.tobytes())


def test_transparent_colour_of_a_png() -> None:
    file = io.BytesIO()
    Image.new("RGB", (6, 6), (255, 0, 0)).save(file, "PNG", transparency=(255, 0, 0))
    assert pictures.prepare(Image.open(file)).getchannel("A").getextrema() == (0, 0)


def test_orientation() -> None:
    picture = noise(9, 5)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: the top is at the right
    picture.save(file, "PNG", exif=exif)
    made = pictures.prepare(Image.open(file))
    assert apart(made, picture.transpose(Image.Transpose.ROTATE_270)) == 0


def test_profiles() -> None:
    """An RGB picture's stays with it; a CMYK picture's is used up; a damaged one is passed over."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = noise(6, 6)
    picture.info["icc_profile"] = srgb
    assert up(picture, small("compact")).info.get("icc_profile") == srgb
    printed = noise(6, 6, "CMYK")
    printed.info["icc_profile"] = b"no profile"
    assert apart(pictures.prepare(printed), noise(6, 6, "CMYK").convert("RGB")) == 0


def test_animated() -> None:
    file = io.BytesIO()
    frames = [noise(6, 6, seed=seed).quantize(8) for seed in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidRequest, match="animated: it has 3 frames") as error:
        up(Image.open(file), small("compact"))
    assert error.value.hint


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF"])
def test_cut_short(kind: str) -> None:
    file = io.BytesIO()
    noise(64, 64).save(file, kind)
    content = file.getvalue()
    try:
        opened = Image.open(io.BytesIO(content[: len(content) // 2]))
    except OSError:  # it isn't even opened
        return
    with pytest.raises(InvalidRequest, match="can't be read") as error:
        up(opened, small("compact"))
    assert "\n" not in error.value.message


# ── on the way ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_progress() -> None:
    _, told = run(noise(50, 30), small("compact"), tile=(24, 24), halo=5, size=(201, 121))
    first = tiling.count((50, 30), (24, 24), 5) + tiling.count((200, 120), (24, 24), 5)
    assert told == [Progress(i, first) for i in range(first + 1)]


def test_stop() -> None:
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 4

    work = upscaling.upscale(noise(50, 50), small("compact"), CPU, tile=(24, 24), halo=5, stop=stop)
    told = []
    with pytest.raises(Stopped):
        told.extend(iter(lambda: next(work), None))
    assert len(asked) == 4


class _Small(torch.nn.Module):
    """A device that has no memory for more than so many pixels, as torch tells it."""

    def __init__(self, net: Net, pixels: int) -> None:
        super().__init__()
        self.net, self.pixels, self.seen = net, pixels, list[tuple[int, int]]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((x.shape[3], x.shape[2]))
        if x.shape[2] * x.shape[3] > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return self.net(x)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("net"), name)


@pytest.mark.parametrize(("pixels", "tries"), [(2500, 2), (1000, 3)])
def test_memory_that_runs_out(pixels: int, tries: int) -> None:
    """Once or more: smaller tiles, the same picture, and progress that says so."""
    net = small("compact")
    picture = noise(64, 64)
    device: Any = _Small(net, pixels)
    made, told = run(picture, device, tile=(64, 64), halo=net.radius)
    assert apart(made, up(picture, net, tile=(64, 64))) <= 1
    assert len({each.of for each in told}) == tries and [each.done for each in told].count(0) == tries
    assert told[-1].done == told[-1].of
    assert device.seen[0] == (64, 64) and device.seen[-1][0] * device.seen[-1][1] <= pixels


def test_memory_that_never_suffices() -> None:
    device: Any = _Small(small("compact"), 10)
    with pytest.raises(OutOfMemory) as error:
        run(noise(64, 64), device, tile=(64, 64), halo=5)
    assert error.value.hint
    assert max(device.seen[-1]) <= 2 * 5 + upscaling.INNER, "down to the smallest"
    assert device.seen == sorted(set(device.seen), reverse=True), "each once"


def test_another_failure_is_no_want_of_memory() -> None:
    class Broken(_Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("a kernel is missing")

    device: Any = Broken(small("compact"), 0)
    with pytest.raises(RuntimeError, match="kernel"):
        run(noise(8, 8), device)


def test_numbers_that_are_not_finite() -> None:
    net = upscalers.compact()
    net.body[0].bias.fill_(3e38)
    with pytest.raises(LoadError, match="not finite"):
        up(noise(8, 8), placed(net))


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    width=st.integers(1, 9000),
    height=st.integers(1, 9000),
    budget=st.integers(1 << 16, 1 << 32),
    halo=st.integers(0, 64),
    kind=st.sampled_from(["compact", "rrdb x2"]),
)
@settings(deadline=None)
def test_tiles_fit_their_budget(width: int, height: int, budget: int, halo: int, kind: str) -> None:
    net = small(kind)
    padded = -(-width // net.align) * net.align, -(-height // net.align) * net.align
    try:
        tile = upscaling.tile_for(net, (width, height), budget, halo)
    except OutOfMemory:
        least = upscaling.INNER + 2 * (halo + net.align)
        assert budget < upscaling.pixel_bytes(net) * max(min(least, padded[0]), min(least, padded[1])) ** 2
        return
    assert upscaling.need(net, (width, height), (1, 1), tile, halo).tile <= budget
    made = tiling.fitted(padded, tile, halo, net.align)
    assert tiling.count(padded, made, halo, net.align) == tiling.count(padded, tile, halo, net.align)
    smaller = upscaling.shrunk(tile, (width, height), halo, net.align)
    if smaller is not None:
        assert smaller != made and smaller[0] <= made[0] and smaller[1] <= made[1]
        tiling.fitted(padded, smaller, halo, net.align)  # can be made


def measured(*cases: Case, keeping: bool = True) -> list[dict[str, float]]:
    """What tests/memory_child.py tells of each, in MiB; `keeping` lets glibc keep what was freed, as it likes to."""
    root = Path(__file__).parent.parent
    asked = " , ".join(" ".join(map(str, case)) for case in cases)
    command = [sys.executable, str(root / "tests" / "memory_child.py"), *asked.split()]
    environment = os.environ | {"PYTHONPATH": str(root)} | ({} if keeping else {"MALLOC_MMAP_THRESHOLD_": "1048576"})
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


CASES: tuple[Case, ...] = (
    ("mini", "fp32", 1024, 544),
    ("mini", "bf16", 1024, 544),
    ("mini", "fp32", 1024, 272, 3000),  # and resampled
    ("rrdb", "fp32", 160, 160),
    ("rrdb", "bf16", 320, 192),
    ("rrdb2", "fp32", 320, 384),
    ("rrdb1", "fp32", 512, 512),
)
GROWING: tuple[Case, ...] = (("mini", "fp32", 512, 272), ("mini", "fp32", 1024, 272))


@pytest.fixture(scope="module")
def bare() -> dict[Case, dict[str, float]]:
    """What is taken where nothing is kept: one process can tell it of all, one after another."""
    cases = CASES + GROWING
    return dict(zip(cases, measured(*cases, keeping=False), strict=True))


needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux' /proc")


@needs_proc
@pytest.mark.timeout(300)  # the first one waits for what all take
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_memory_is_foretold(case: Case, bare: dict[Case, dict[str, float]]) -> None:
    """Within a quarter of what a process of its own takes at most, and within an eighth where nothing is kept."""
    tries = []
    for _ in range(3):  # what the allocator keeps differs from run to run
        (told,) = measured(case)
        tries.append(told)
        if abs(told["need"] - told["took"]) <= 0.25 * told["took"]:
            break
    else:
        raise AssertionError(tries)
    told = bare[case]
    # the last resample has more in memory than the tiles, so that nothing kept is counted there
    need = told["need"] - (0 if told["need"] == told["pictures"] else told["heap"])
    assert abs(need - told["took"]) <= 0.125 * told["took"], told


@needs_proc
def test_memory_doesnt_grow_with_the_picture(bare: dict[Case, dict[str, float]]) -> None:
    """From 512² to 2048² and from 1024² to 4096² through the same tiles: 51 MiB more of pictures, and nothing else."""
    small, large = (bare[case] for case in GROWING)
    assert large["pictures"] - small["pictures"] == 51
    assert abs(large["beyond"] - small["beyond"]) < 12, (small, large)
    assert large["beyond"] < 45


# ── what a trained network is worth ─────────────────────────────────────────────────────────────────────────────────


def test_the_embedded_net_beats_bicubic() -> None:
    """On art of shapes that it never saw, reduced by averaging: by 1 dB at least over twenty pictures, and on each."""
    gains = []
    for seed in range(20):
        whole = art.picture(seed)
        low = whole.reduce(4)
        gains.append(psnr(up(low, mini()), whole) - psnr(low.resize(whole.size, Image.Resampling.BICUBIC), whole))
    assert np.mean(gains) >= 1, gains
    assert min(gains) > 0, gains


@pytest.mark.parametrize(("halo", "most"), [(8, 1), (upscaling.HALO, 0)])
def test_default_halo(halo: int, most: int) -> None:
    """How far a trained network's tiles are from the whole picture at most, with the feathering that goes with it."""
    picture = Image.new("RGB", (128, 128))
    for seed in range(4):
        picture.paste(art.picture(seed).reduce(4), (64 * (seed % 2), 64 * (seed // 2)))
    whole = up(picture, mini(), tile=(999, 999))
    assert apart(up(picture, mini(), tile=(32 + 2 * halo,) * 2, halo=halo), whole) <= most
