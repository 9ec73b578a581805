"""Frames that a slow line has no room for.

While the terminal has not read what was drawn before, nothing more is drawn but a few cells at once, such as a key's;
which parts of the screen have changed is kept, and drawn once there is room, as they are by then. Where the line is
known to be slow a large frame goes in parts: what has the focus first, the rest from the top. So at most one frame is
on its way, whatever happens meanwhile: a key is as late as the line is, and what nobody could see in time is never
sent.
"""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import App
from textual.geometry import Region, Size

from tui.changes import Changes, Seen
from tui.writing import Writer, writer_of

SMALL = 800
"Cells of which most stay as they are: a prompt with its frame."
AGAIN = 0.02
"Seconds after which a frame is tried again that came while others were gathered."


class Frames:
    """What of an app's screen is not drawn yet."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._missed: set[Region] = set()
        self._seen = Seen()
        self._seen_by: tuple[Writer | None, Size] = None, Size()

    def due(self, renderable: RenderableType | None) -> RenderableType | None:
        """What of a frame is to be drawn now; the rest of it comes by itself, later."""
        writer = writer_of(self._app)
        if writer is None or renderable is None or self._app._batch_count:
            return renderable
        if not self._missed and not writer.slow and writer.has_room():
            return renderable
        if not (regions := _regions(renderable)):
            return renderable
        first, rest = (regions, set()) if _is_small(regions) else self._in_focus(regions)
        if not (writer.has_room(small=True) if first else writer.has_room()):
            self._miss(regions, writer)
            return None
        if not first or not rest or not isinstance(renderable, ChopsUpdate):
            return renderable
        self._miss(rest, writer)
        spans = sorted((region.y, region.x, region.right) for region in first)
        return ChopsUpdate(renderable.chops, spans, renderable.chop_ends)

    def _in_focus(self, regions: set[Region]) -> tuple[set[Region], set[Region]]:
        """The cells of what has the focus, if they are few, and the others."""
        focused = self._app.screen.focused
        found = (
            set() if focused is None else {one for region in regions if (one := region.intersection(focused.region))}
        )
        if not found or not _is_small(found):
            return set(), regions
        rest = set()
        for region in regions:
            part = region.intersection(focused.region) if focused is not None else Region()
            if not part:
                rest.add(region)
            else:
                rest |= {Region(region.x, region.y, part.x - region.x, region.height)} if part.x > region.x else set()
                rest |= {Region(part.right, region.y, region.right - part.right, region.height)}
        return found, {region for region in rest if region}

    def _miss(self, regions: set[Region], writer: Writer) -> None:
        if not self._missed:
            writer.when_room(lambda: self._app.call_later(self._catch_up))
        self._missed |= regions

    def forget(self) -> None:
        """The terminal may have lost what was drawn."""
        self._seen.forget()

    def watch(self, who: object, box: Region) -> None:
        """As in Seen."""
        self._seen.watch(who, box)

    def is_touched(self, who: object) -> bool:
        """As in Seen; cells that are to be drawn later count, too."""
        return bool(self._missed) or self._seen.is_touched(who)

    def changes(self, renderable: RenderableType | None) -> Any:
        """What of a frame is to be drawn."""
        writer = writer_of(self._app)
        if writer is None or self._app._batch_count or not isinstance(renderable, ChopsUpdate | LayoutUpdate):
            return renderable
        if self._seen_by != (writer, self._app.size):
            self._seen_by = writer, self._app.size
            self.forget()
        return Changes(renderable, self._seen, writer.budget, lambda regions: self._miss(regions, writer))

    def _catch_up(self) -> None:
        """Not by a refresh of the screen: beside that Textual forgets which of its widgets have changed, and what they
        show now would not be drawn before they change again."""
        if self._app._batch_count:
            self._app.set_timer(AGAIN, self._catch_up)
            return
        missed, self._missed = self._missed, set()
        screen, bounds = self._app.screen, self._app.size.region
        if seen := {part for region in missed if (part := region.intersection(bounds))}:
            screen._compositor.update_widgets(screen._dirty_widgets)
            screen._compositor._dirty_regions.update(seen)
            screen._compositor_refresh()


def _is_small(regions: set[Region]) -> bool:
    return sum(region.area for region in regions) <= SMALL


def _regions(renderable: RenderableType) -> set[Region]:
    """What a frame changes; nothing if it is of a kind that we don't know."""
    if isinstance(renderable, LayoutUpdate):
        return {renderable.region}
    if isinstance(renderable, ChopsUpdate):
        return {Region(left, y, right - left, 1) for y, left, right in renderable.spans}
    return set()
