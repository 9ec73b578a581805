"""Cells of small pictures that scroll: those in sight are read, drawn, and held by the terminal, and hardly any others.

Every terminal gets half-blocks of the thumbnail that the history keeps. One with kitty's protocol then gets the picture
itself, 128 pixels a side, in the same cells: it is sent once, and scrolling sends it no more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

from rich.style import Style
from textual.geometry import Region
from textual.scroll_view import ScrollView
from textual.strip import Strip

from engines.errors import SafelightError
from engines.requests import Picture
from tui.pages import Shelf
from tui.pictures import graphics, kitty
from tui.pictures.images import load
from tui.pictures.view import colours_of, thumbnail_strips

SIZES = (8, 12, 16, 24, 36, 48)
"Cells that a picture is wide; half as many high."
CELLS = 60_000
"Cells of drawn pictures that are kept: three screens of the largest terminal, and 20 MB."
AT_ONCE, SENT_AT_ONCE = 12, 4
"Pictures that are drawn, or sent, before they are shown."
SIDES = (128, 256)
"Pixels a side that a terminal is sent; it enlarges a little by itself."
COLOURS = 256
BUSY = 0.02
"Seconds until a terminal that is still reading is looked at again."


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture as it is shown."""

    strips: Sequence[Strip]
    "Its lines."
    lost: str = ""
    "Why there is none, in a word or two."
    number: int = 0
    "The terminal's own, whose picture the lines show; 0 for half-blocks."


@dataclass(frozen=True, slots=True)
class _Sent:
    """What the terminal is to be sent."""

    png: bytes
    cells: tuple[int, int]
    "Columns and rows that it takes."
    lost: str = ""


class Gallery(ScrollView, can_focus=True, inherit_bindings=False):
    """Small pictures; whoever builds on it says which are in sight. The arrows are its screen's, not the scroll bars'.

    Args:
        shelf: where thumbnails are.
        id: the stylesheet's name of it.
        step: which of SIZES it begins with.
    """

    ALLOW_SELECT = False

    def __init__(self, shelf: Shelf, id: str, step: int = 2) -> None:
        super().__init__(id=id)
        self._shelf = shelf
        self.step = step
        "Which of SIZES."
        self._drawn: OrderedDict[tuple[int, int], Drawn] = OrderedDict()
        self._sent: OrderedDict[tuple[int, int], Hashable] = OrderedDict()
        "What the terminal holds for which (id, pixels), least recently seen first."
        self._reading = False

    # ── for those who build on it ───────────────────────────────────────────────────────────────────────────────

    def in_sight(self) -> Sequence[Picture]:
        """The pictures on the screen, the most urgent first."""
        raise NotImplementedError

    def unknown(self) -> Sequence[int]:
        """What has to be read before pictures can be drawn."""
        return ()

    async def learn(self, ids: Sequence[int]) -> None:
        """Reads it."""

    def redraw(self, ids: Collection[int]) -> None:
        """These pictures look otherwise now. A whole screen of half-blocks is 100 kB for the terminal: whoever knows
        where they are refreshes their cells alone."""
        self.refresh()

    def lost(self, picture: Picture) -> str:
        """Why a picture can't be shown, in a word or two; runs in a thread."""
        return ""

    @property
    def wide(self) -> int:
        """Cells of a picture."""
        return SIZES[self.step]

    @property
    def high(self) -> int:
        """Lines of a picture."""
        return SIZES[self.step] // 2

    def drawing(self, picture: Picture) -> Drawn | None:
        """A picture as it is drawn by now."""
        return self._drawn.get((picture.id, self.step))

    @property
    def busy(self) -> bool:
        """Whether anything in sight is being read or drawn."""
        return self._reading

    def forget_drawn(self) -> None:
        """Everything is drawn anew."""
        self._drawn.clear()

    def scale(self, by: int) -> bool:
        """Larger or smaller pictures; whether that was possible."""
        step = max(0, min(len(SIZES) - 1, self.step + by))
        if step == self.step:
            return False
        self.step = step
        # the terminal lays its pictures out anew for all cells that show them
        self._drawn = OrderedDict((key, drawn) for key, drawn in self._drawn.items() if not drawn.number)
        return True

    def look(self, redraw: bool = True) -> None:
        """Something may have come into sight."""
        if redraw:
            self.refresh()
        if not self._reading and self.is_attached and self.size.width and self._is_wanting:
            self._reading = True
            # not its coroutine, which would never be awaited where the screen is taken away at once
            self.run_worker(self._read, group="gallery")  # type: ignore[arg-type]

    def _ink(self, name: str) -> Style:
        """A component's colour alone, so that it can stand on any background."""
        return Style(color=self.get_component_rich_style(name).color)

    def _paper(self, name: str) -> Style:
        """A component's background alone, mixed with what it stands on."""
        return Style(bgcolor=self.get_component_rich_style(name).bgcolor, bold=True)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _side(self) -> int:
        """Pixels a side that are enough."""
        most = max(self.wide * graphics.current.decision.cell[0], self.high * graphics.current.decision.cell[1])
        return next((side for side in SIDES if most <= side * 1.5), SIDES[-1])

    def _key(self, picture: Picture) -> Hashable:
        return self, picture.id, self._side

    def _stands(self, picture: Picture) -> bool:
        """Whether it is drawn, and the terminal still has what that shows."""
        drawn = self.drawing(picture)
        if drawn is None or not drawn.number:
            return drawn is not None
        return graphics.current.uploads.number(self._key(picture)) == drawn.number and _is_kitty()

    def _is_held(self, picture: Picture) -> bool:
        """Whether the terminal has it already."""
        return _is_kitty() and graphics.current.uploads.number(self._key(picture)) is not None

    def _bare(self, pictures: Sequence[Picture]) -> list[Picture]:
        return [picture for picture in pictures if not self._stands(picture)]

    def _dull(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Those that the terminal could show better."""
        drawn = ((picture, self.drawing(picture)) for picture in pictures) if _is_kitty() else ()
        return [picture for picture, now in drawn if now is not None and not now.number and not now.lost]

    @property
    def _is_wanting(self) -> bool:
        seen = self.in_sight()
        return bool(self.unknown() or self._bare(seen) or self._dull(seen))

    async def _read(self) -> None:
        """Draws what is in sight, a few at a time, until nothing is missing."""
        try:
            while self.is_attached:
                unknown, seen = self.unknown(), self.in_sight()
                bare = self._bare(seen)
                if unknown:
                    await self.learn(unknown)
                    self.redraw(unknown)
                elif held := [picture for picture in bare if self._is_held(picture)]:
                    if changed := await self._send(held, seen):
                        self.redraw(changed)
                elif bare:
                    step = self.step
                    drawn = await asyncio.to_thread(self._draw, bare[:AT_ONCE], step)
                    for id, one in drawn:
                        self._keep((id, step), one)
                    self.redraw([id for id, _ in drawn])
                elif dull := self._dull(seen)[:SENT_AT_ONCE]:
                    if changed := await self._send(dull, seen):
                        self.redraw(changed)
                else:
                    break
        except SafelightError as e:
            self.notify(e.message, severity="error", markup=False)
        finally:
            self._reading = False

    def _draw(self, pictures: Sequence[Picture], step: int) -> list[tuple[int, Drawn]]:
        """In half-blocks; runs in a thread."""
        wide, high = SIZES[step], SIZES[step] // 2
        drawn: list[tuple[int, Drawn]] = []
        for picture in pictures:
            if lost := self.lost(picture):
                drawn.append((picture.id, Drawn((), lost)))
                continue
            pixels = self._shelf.thumbnail(picture.id)
            blank = [Strip.blank(wide)] * high
            strips = thumbnail_strips(pixels, wide, high, colours_of(self.app)) if pixels else blank
            drawn.append((picture.id, Drawn(strips)))
        return drawn

    def _keep(self, key: tuple[int, int], drawn: Drawn) -> None:
        self._drawn[key] = drawn
        self._drawn.move_to_end(key)
        size = sum(SIZES[step] ** 2 // 2 for _, step in self._drawn)
        while size > CELLS and len(self._drawn) > 1:
            (_, step), _ = self._drawn.popitem(last=False)
            size -= SIZES[step] ** 2 // 2

    # ── in the terminal's own pixels ────────────────────────────────────────────────────────────────────────────

    async def _send(self, pictures: Sequence[Picture], seen: Sequence[Picture]) -> list[int]:
        """The ids of those that look otherwise now."""
        terminal, step, side = graphics.current, self.step, self._side
        if terminal.busy(self.app):  # a slow line: keys come before pictures
            await asyncio.sleep(BUSY)
            return []
        known = {picture.id for picture in pictures if self._is_held(picture)}
        made = await asyncio.to_thread(_encoded, pictures, known, (self.wide, self.high), side)
        if not self.is_attached or (step, side) != (self.step, self._side) or not _is_kitty():
            return []
        written, changed = "", list[int]()
        arriving: list[tuple[int, Drawn]] = []
        for picture, sent in zip(pictures, made, strict=True):
            key: Hashable = (self, picture.id, side)
            if sent.lost:
                self._keep((picture.id, step), Drawn((), sent.lost))
                changed.append(picture.id)
                continue
            try:
                number, text = terminal.uploads.show(key, (self, picture.id), *sent.cells, sent.png or None)
            except KeyError:  # the terminal has let go of it meanwhile
                continue
            written += text
            strips = _centred(kitty.rows_of(number, *sent.cells), self.wide, self.high)
            arriving.append((picture.id, Drawn(strips, number=number)))
            self._sent[picture.id, side] = key
        for picture in seen:
            if (picture.id, side) in self._sent:
                self._sent.move_to_end((picture.id, side))
        while len(self._sent) > 2 * len(seen) + SENT_AT_ONCE:
            written += terminal.uploads.forget(self._sent.popitem(last=False)[1])
        # cells name a picture when the terminal has all of it: what comes later would not be seen in them
        await self._arrival(written)
        if self.parent is None or (step, side) != (self.step, self._side):
            return changed
        for id, drawn in arriving:
            self._keep((id, step), drawn)
        return changed + [id for id, _ in arriving]

    async def _arrival(self, written: str) -> None:
        """Sends it, and waits until it is written, or nobody looks any more."""
        arrived, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed
                loop.call_soon_threadsafe(arrived.set)

        graphics.current.send(self.app, written, tell)
        while not arrived.is_set() and self.is_attached:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(arrived.wait(), BUSY)

    def on_unmount(self) -> None:
        """Nothing is left in the terminal."""
        uploads = graphics.current.uploads
        graphics.current.send(self.app, "".join(uploads.forget(key) for key in self._sent.values()))
        self._sent.clear()

    def render_lines(self, crop: Region) -> list[Strip]:
        """What the terminal has lost meanwhile (it was suspended, or is another one now) is sent once more."""
        if not self._reading and any(one.number for one in self._drawn.values()) and self._bare(self.in_sight()):
            self.call_later(self.look, redraw=False)
        return super().render_lines(crop)


def _is_kitty() -> bool:
    return graphics.current.decision.mode == "kitty"


def _encoded(pictures: Sequence[Picture], known: set[int], room: tuple[int, int], side: int) -> list[_Sent]:
    """Runs in a thread; the terminal has the known ones."""
    made = []
    wide, high = graphics.current.decision.cell
    for picture in pictures:
        try:
            size, png = (picture.width, picture.height), b""
            if picture.id not in known:
                pixels = load(picture.path, side)
                size, png = (pixels.width, pixels.height), kitty.png(pixels, (side, side), COLOURS)
        except ValueError as error:
            made.append(_Sent(b"", (0, 0), "gone" if "gone" in str(error) else "damaged"))
            continue
        scale = min(room[0] * wide / size[0], room[1] * high / size[1])
        cols, rows = -(-round(size[0] * scale) // wide), -(-round(size[1] * scale) // high)
        made.append(_Sent(png, (max(1, min(room[0], cols)), max(1, min(room[1], rows)))))
    return made


def _centred(rows: Sequence[Strip], wide: int, high: int) -> list[Strip]:
    """Exactly so many lines and cells; the margins have no style of their own."""
    above = (high - len(rows)) // 2
    lines = [Strip.blank(wide)] * above
    for row in rows:
        left = (wide - row.cell_length) // 2
        lines.append(Strip.join([Strip.blank(left), row, Strip.blank(wide - row.cell_length - left)]))
    return lines + [Strip.blank(wide)] * (high - len(lines))
