"""Makes docs/safelight.gif, `safelight --demo` in a real terminal, and docs/workbench.png, a still of it.

    .venv/bin/python docs/recording.py [--size 136x38] [--gif FILE] [--still FILE] [--frames FOLDER]

Needs Debian's xvfb, xterm and fonts-dejavu-core, and a checkout that is set up (make setup). Nothing else may keep the
processors busy meanwhile: the recording is as quick as the machine. Pictures are sixels. The frames are read from the
file that Xvfb keeps its screen in; one is taken when nothing has changed for a moment, so none is half drawn.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tui.tour import TOUR  # noqa: E402

SCREEN = (1400, 900)
LOOK = 0.025
"Seconds between two looks at the screen."
SETTLED = 0.6
"Seconds after which a screen that does not come to rest is taken all the same."
LONGEST = 240.0
EFFORTS = ((0.07, 255), (0.1, 255), (0.1, 192), (0.12, 128), (0.16, 96))
"(seconds that a frame is seen at least, colours): the first of which the animation is small enough is taken."
MOST_BYTES = 4 << 20
MOST_WIDE = 1000
LAST = 3.0
"Seconds that the last frame is shown before it begins anew."
STILL = "goes to the sliders"
"What the caption of the still says."
PACKAGES = {"Xvfb": "xvfb", "xterm": "xterm", "fc-match": "fontconfig"}


@dataclass(frozen=True, slots=True)
class Frame:
    """What was seen from a moment on."""

    at: float
    image: Image.Image


def main() -> int:
    """Records, and writes both files."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--size", default="136x38", help="columns and rows of the terminal")
    options.add_argument("--font", default="8", help="size of DejaVu Sans Mono in points")
    options.add_argument("--gif", type=Path, default=ROOT / "docs" / "safelight.gif")
    options.add_argument("--still", type=Path, default=ROOT / "docs" / "workbench.png")
    options.add_argument("--frames", type=Path, help="a folder for every frame as a PNG, named by its second")
    options.add_argument("command", nargs="*", default=[sys.executable, "-m", "tui", "--demo"])
    chosen = options.parse_args()
    if missing := [package for name, package in PACKAGES.items() if shutil.which(name) is None]:
        print(f"error: a program is missing\nhint: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    rows = int(chosen.size.partition("x")[2])
    frames = cut(record(chosen.size, chosen.font, chosen.command))
    if len(frames) < 20:
        print("error: nothing was seen\nhint: run it by hand: safelight --demo", file=sys.stderr)
        return 1
    if chosen.frames is not None:
        chosen.frames.mkdir(parents=True, exist_ok=True)
        for frame in frames:
            frame.image.save(chosen.frames / f"{frame.at - frames[0].at:06.2f}.png")
    still(frames, rows).save(chosen.still, optimize=True)
    size = write(frames, chosen.gif)
    print(f"{chosen.gif}: {size / 1e6:.2f} MB, {len(frames)} frames, {frames[-1].at - frames[0].at:.0f} s")
    print(f"{chosen.still}: {chosen.still.stat().st_size / 1e3:.0f} kB")
    if size > MOST_BYTES:
        print(f"error: the recording has more than {MOST_BYTES} bytes\nhint: a smaller --size", file=sys.stderr)
        return 1
    return 0


def record(size: str, font: str, command: Sequence[str]) -> list[Frame]:
    """All that is seen while the command runs in a terminal, each change once."""
    with tempfile.TemporaryDirectory(prefix="safelight-recording-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        started: list[subprocess.Popen[bytes]] = []
        reading, writing = os.pipe()
        screen = f"{SCREEN[0]}x{SCREEN[1]}x24"
        try:
            server = subprocess.Popen(
                ["Xvfb", "-displayfd", str(writing), "-screen", "0", screen, "-fbdir", folder, "-nocursor",
                 "-nolisten", "tcp", "-noreset"],
                pass_fds=(writing,), stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            started.append(server)
            os.close(writing)
            display = os.read(reading, 16).decode().strip()
            environment = {
                **os.environ, "DISPLAY": f":{display}", "SAFELIGHT_HOME": str(place / "home"), "TMPDIR": folder,
                "HF_HOME": str(place / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT),
            }  # fmt: skip
            for name in ("NO_COLOR", "SAFELIGHT_PICTURES", "TMUX"):
                environment.pop(name, None)
            # xterm's own sixels hold a picture of a thousand pixels
            resources = ("maxGraphicSize: 2000x2000", "numColorRegisters: 1024", "cursorBlink: false")
            terminal = subprocess.Popen(
                ["xterm", "-ti", "vt340", "-b", "0", "-bw", "0", "-fa", "DejaVu Sans Mono", "-fs", font, "-geometry",
                 f"{size}+0+0", "+sb", *(word for line in resources for word in ("-xrm", f"XTerm*{line}")),
                 "-e", "env", "COLORTERM=truecolor", "TERM=xterm-256color", *command],
                env=environment, start_new_session=True,
            )  # fmt: skip
            started.append(terminal)
            return watch(place / "Xvfb_screen0", terminal)
        finally:
            os.close(reading)
            for process in reversed(started):
                try:
                    os.killpg(process.pid, signal.SIGTERM)
                    process.wait(10)
                except ProcessLookupError:
                    pass
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def watch(screen: Path, terminal: subprocess.Popen[bytes]) -> list[Frame]:
    """Looks at the screen until the terminal is closed. A change is taken when it has come to rest."""
    frames: list[Frame] = []
    taken, before, since = b"", b"", time.monotonic()
    end = since + LONGEST
    while terminal.poll() is None and time.monotonic() < end:
        time.sleep(LOOK)
        now, seen = time.monotonic(), screen.read_bytes()
        if seen == taken:
            since = now
        elif seen == before or now - since > SETTLED:
            frames.append(Frame(since, picture_of(seen)))
            taken, since = seen, now
        before = seen
    return frames


def picture_of(dump: bytes) -> Image.Image:
    """The picture in an XWD file, as X11/XWDFile.h has it: a header, its colours, 32 bits a pixel."""
    head = struct.unpack(">25I", dump[:100])
    size, width, height, order, stride, colours = head[0], head[4], head[5], head[7], head[12], head[19]
    start = size + 12 * colours
    return Image.frombuffer(
        "RGB", (width, height), dump[start : start + stride * height], "raw", "XRGB" if order else "BGRX", stride
    ).copy()  # fmt: skip


def cut(frames: Sequence[Frame]) -> list[Frame]:
    """Only the terminal, and only while the workbench is in it; what is equal to the frame before is left out."""
    boxes = [box for frame in frames if (box := frame.image.getbbox())]
    if not boxes:
        return []
    box = (0, 0, max(b[2] for b in boxes), max(b[3] for b in boxes))
    found: list[Frame] = []
    for frame in frames:
        image = frame.image.crop(box)
        if image.width > MOST_WIDE:
            image = image.resize((MOST_WIDE, round(image.height * MOST_WIDE / image.width)), Image.Resampling.LANCZOS)
        if not found or ImageChops.difference(found[-1].image, image).getbbox():
            found.append(Frame(frame.at, image))
    while found and is_empty(found[0].image):
        del found[0]
    while found and is_empty(found[-1].image):
        del found[-1]
    return found


def is_empty(image: Image.Image) -> bool:
    """Whether it is of one colour nearly everywhere, as a terminal without a workbench is."""
    return max(image.convert("L").histogram()) > 0.99 * image.width * image.height


def still(frames: Sequence[Frame], rows: int) -> Image.Image:
    """The last frame under the caption that STILL is of: captions are counted in the row above the last."""
    captions = [step.says for step in TOUR]
    wanted = next(i for i, says in enumerate(captions) if STILL in says)
    number = sum(1 for i in range(1, wanted + 1) if captions[i] != captions[i - 1])
    high = frames[0].image.height / rows
    row = (0, round(high * (rows - 2)) + 1, round(frames[0].image.width * 0.6), round(high * (rows - 1)) - 1)
    paper: tuple[int, ...] | None = None
    last, count = None, -1
    chosen = frames[-1].image
    for frame in frames:
        line = frame.image.crop(row)
        left = line.getpixel((1, 1))
        assert isinstance(left, tuple)
        if paper is None and max(left) > 100:  # the caption's own colour; what a dialog dims is none
            paper = left
        if paper is None or left != paper:
            continue
        if line.tobytes() != last:
            last, count = line.tobytes(), count + 1
        if count == number:
            chosen = frame.image
    return chosen


def write(frames: Sequence[Frame], path: Path) -> int:
    """As good an animation as MOST_BYTES hold; how many it has."""
    size = 0
    for shortest, colours in EFFORTS:
        size = animate(frames, path, shortest, colours)
        if size <= MOST_BYTES:
            break
    return size


def animate(frames: Sequence[Frame], path: Path, shortest: float, colours: int) -> int:
    """An animation with one palette, in which only what changes is drawn; how many bytes it has."""
    kept = [one for one, after in itertools.pairwise(frames) if after.at - one.at >= shortest] + [frames[-1]]
    some = kept[:: max(1, len(kept) // 60)]
    width, height = kept[0].image.size
    sheet = Image.new("RGB", (width, height * len(some)))
    for i, frame in enumerate(some):
        sheet.paste(frame.image, (0, i * height))
    palette = sheet.quantize(colours, Image.Quantize.MEDIANCUT)
    drawn = [frame.image.quantize(palette=palette, dither=Image.Dither.NONE) for frame in kept]
    # in hundredths, as the format has them, without the error adding up
    marks = [round((frame.at - kept[0].at) * 100) for frame in kept]
    lasting = [max(2, after - at) * 10 for at, after in itertools.pairwise(marks)] + [round(LAST * 1000)]
    drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=lasting, loop=0, optimize=False, disposal=1)
    return path.stat().st_size


if __name__ == "__main__":
    raise SystemExit(main())
