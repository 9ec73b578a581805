"""Pictures in kitty's graphics protocol, by Unicode placeholders: the terminal is sent a picture once, and cells that
say which part of it they show (https://sw.kovidgoyal.net/kitty/graphics-protocol/, "Unicode placeholders").

Such cells are text. Whatever moves, covers or repaints them moves, covers or repaints the picture, and none of it sends
the picture again.
"""

from __future__ import annotations

import base64
import io
import random
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from engines.events import Pixels
from tui.pictures.halfblocks import to_image

PLACEHOLDER = "\U0010eeee"
CHUNK = 4096
"Characters of base64 in one sequence, at most."
KEPT = 16
"Pictures that the terminal keeps although no view shows them: to flip back to one costs no upload."
FIRST, LAST = 0x010101, 0xFFFFFE
"Numbers of pictures, which are colours of 24 bits."

# The protocol's own list (rowcolumn-diacritics.txt in kitty's repository): combining marks of class 230 without
# decompositions, as of Unicode 6.0; here as ranges, both ends included.
_RANGES = (
    "305 30d-30e 310 312 33d-33f 346 34a-34c 350-352 357 35b 363-36f 483-487 592-595 597-599 59c-5a1 5a8-5a9 "
    "5ab-5ac 5af 5c4 610-617 657-65b 65d-65e 6d6-6dc 6df-6e2 6e4 6e7-6e8 6eb-6ec 730 732-733 735-736 73a 73d "
    "73f-741 743 745 747 749-74a 7eb-7f1 7f3 816-819 81b-823 825-827 829-82d 951 953-954 f82-f83 f86-f87 "
    "135d-135f 17dd 193a 1a17 1a75-1a7c 1b6b 1b6d-1b73 1cd0-1cd2 1cda-1cdb 1ce0 1dc0-1dc1 1dc3-1dc9 1dcb-1dcc "
    "1dd1-1de6 1dfe 20d0-20d1 20d4-20d7 20db-20dc 20e1 20e7 20e9 20f0 2cef-2cf1 2de0-2dff a66f a67c-a67d "
    "a6f0-a6f1 a8e0-a8f1 aab0 aab2-aab3 aab7-aab8 aabe-aabf aac1 fe20-fe26 10a0f 10a38 1d185-1d189 1d1aa-1d1ad "
    "1d242-1d244"
)


def _marks() -> tuple[str, ...]:
    found: list[str] = []
    for part in _RANGES.split():
        low, _, high = part.partition("-")
        found += [chr(code) for code in range(int(low, 16), int(high or low, 16) + 1)]
    return tuple(found)


MARKS = _marks()
"How rows and columns are counted, from 0: a picture has at most so many."


def png(pixels: Pixels, size: tuple[int, int], colours: int = 256) -> bytes:
    """A picture as PNG, no larger than it is.

    Args:
        pixels: the picture.
        size: pixels that there is room for.
        colours: of its palette; 0 for all that it has. With 256 it has a fifth of the bytes.
    """
    from PIL import Image

    image = to_image(pixels)
    share = min(1.0, size[0] / image.width, size[1] / image.height)
    if share < 1:
        smaller = max(1, round(image.width * share)), max(1, round(image.height * share))
        image = image.resize(smaller, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if colours:
        image = image.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    made = io.BytesIO()
    image.save(made, "PNG", compress_level=6 if colours else 1)
    return made.getvalue()


def rows_of(number: int, cols: int, rows: int) -> tuple[Strip, ...]:
    """The cells that show a picture, a strip a row.

    Every cell says its row and column itself: what lies over some of them, or a terminal multiplexer that draws a part
    of a row anew, leaves the others right.
    """
    red, green, blue = number >> 16 & 255, number >> 8 & 255, number & 255
    style = Style.from_color(Color.from_rgb(red, green, blue))
    style._ansi = f"38;2;{red};{green};{blue}"
    made = []
    for row in range(rows):
        text = "".join([PLACEHOLDER + MARKS[row] + MARKS[column] for column in range(cols)])
        strip = Strip([Segment(text, style)], cols)
        strip._render_cache = f"\x1b[{style._ansi}m{text}\x1b[0m"
        made.append(strip)
    return tuple(made)


@dataclass(slots=True)
class _Sent:
    number: int
    size: tuple[int, int]
    users: set[Hashable]


class Uploads:
    """Which pictures the terminal has. It writes nothing itself: what to write is returned.

    Args:
        wrapped: whether tmux is to hand on what is written.
        first: the number of the first picture; drawn at random if not given, so that two programs in one terminal
            hardly ever meet.
    """

    def __init__(self, wrapped: bool = False, first: int | None = None) -> None:
        self.wrapped = wrapped
        "As above."
        self._next = random.randrange(FIRST, LAST) if first is None else first
        self._sent: OrderedDict[Hashable, _Sent] = OrderedDict()
        self.counts = {"uploads": 0, "swaps": 0, "deletes": 0}
        "What was sent so far: pictures, others in their place, and that they may go."

    def number(self, key: Hashable) -> int | None:
        """The number of a picture that the terminal has."""
        sent = self._sent.get(key)
        return None if sent is None else sent.number

    def show(self, key: Hashable, user: Hashable, cols: int, rows: int, data: bytes | None) -> tuple[int, str]:
        """What makes the terminal show a picture on so many cells: (its number, what to write).

        Args:
            key: which picture; one that the terminal has is only placed.
            user: who shows it; whatever they showed before may go.
            cols, rows: cells, len(MARKS) at most.
            data: a PNG; None for a picture that the terminal has. Other data under a key that it has takes its place.
        """
        sent = self._sent.get(key)
        written = self.leave(user, key)
        if sent is None or data is not None:
            if data is None:
                raise KeyError(key)
            self.counts["uploads" if sent is None else "swaps"] += 1
            if sent is None:
                sent = self._sent[key] = _Sent(self._new(), (cols, rows), set())
            sent.size = (cols, rows)
            written += self._transmission(sent.number, cols, rows, data)
        elif sent.size != (cols, rows):
            sent.size = (cols, rows)
            written += self._say(f"a=p,U=1,i={sent.number},p=1,c={cols},r={rows},q=2")
        sent.users.add(user)
        self._sent.move_to_end(key)
        return sent.number, written

    def leave(self, user: Hashable, but: Hashable = None) -> str:
        """Somebody shows nothing any more, or only `but`: what to write, so that the terminal lets go of what is too
        much."""
        for key, sent in self._sent.items():
            if key != but:
                sent.users.discard(user)
        idle = [key for key, sent in self._sent.items() if not sent.users and key != but]
        return "".join(self._delete(key) for key in idle[: max(0, len(idle) - KEPT)])

    def forget(self, key: Hashable) -> str:
        """A picture that will not be shown again: what to write, so that the terminal lets go of it."""
        return self._delete(key) if key in self._sent else ""

    def lose(self) -> None:
        """Another terminal is looked at now, which has none of them."""
        self._sent.clear()

    def clear(self) -> str:
        """What to write, so that nothing is left behind."""
        return "".join(self._delete(key) for key in list(self._sent))

    def _delete(self, key: Hashable) -> str:
        self.counts["deletes"] += 1
        return self._say(f"a=d,d=I,i={self._sent.pop(key).number},q=2")

    def _new(self) -> int:
        self._next = self._next + 1 if self._next < LAST else FIRST
        return self._next

    def _transmission(self, number: int, cols: int, rows: int, data: bytes) -> str:
        text = base64.standard_b64encode(data).decode("ascii")
        pieces = [text[i : i + CHUNK] for i in range(0, len(text), CHUNK)]
        return "".join(self._say(_keys(i, len(pieces), number, cols, rows), piece) for i, piece in enumerate(pieces))

    def _say(self, keys: str, payload: str = "") -> str:
        said = f"\x1b_G{keys}{';' if payload else ''}{payload}\x1b\\"
        return wrap(said) if self.wrapped else said


def _keys(piece: int, of: int, number: int, cols: int, rows: int) -> str:
    more = int(piece + 1 < of)
    if piece:
        return f"m={more},q=2"
    return f"a=T,U=1,i={number},p=1,c={cols},r={rows},f=100,q=2,m={more}"


def wrap(said: str) -> str:
    """What tmux hands on to its terminal (its manual, allow-passthrough)."""
    return "\x1bPtmux;" + said.replace("\x1b", "\x1b\x1b") + "\x1b\\"


def pieces(written: str) -> list[str]:
    """The sequences in a text of nothing else, each whole, wrapped or not."""
    start = "\x1bPtmux;" if written.startswith("\x1bPtmux;") else "\x1b_G"
    return [start + rest for rest in written.split(start)[1:]]


def unwrapped(written: str) -> Iterator[str]:
    """The sequences in what was wrapped, for whoever looks on."""
    for part in written.split("\x1bPtmux;")[1:]:
        yield part.removesuffix("\x1b\\").replace("\x1b\x1b", "\x1b")
