"""The other side of `safelight bench wire`: the same session with the stock picture widget, in a small Textual app.

It has a list, a picture of as many cells, and a dialog, and it shows what it finds in a folder: previews one after the
other at `n`, the picture at `f`, and those of the list when one walks over it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Center, Horizontal, Middle
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static


class Help(ModalScreen[None]):
    """A dialog over all."""

    CSS = "Help { align: center middle; } Static { width: 60%; height: 80%; border: round white; }"
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        yield Static("\n".join(f"F{number}  what the key does" for number in range(1, 30)))


class Stock(App[None]):
    """The session.

    Args:
        folder: has `preview-*.png`, `picture.png` and `past-*.png`.
        cells: columns and rows of the picture.
    """

    CSS = "OptionList { width: 36; } Middle { width: 1fr; } Center { height: auto; }"
    BINDINGS: ClassVar[list[BindingType]] = [("n", "next"), ("f", "final"), ("h", "help")]

    def __init__(self, folder: Path, cells: tuple[int, int]) -> None:
        super().__init__()
        self._previews = sorted(folder.glob("preview-*.png"))
        self._final = folder / "picture.png"
        self._past = sorted(folder.glob("past-*.png"))
        self._cells = cells
        self._at = 0

    def compose(self) -> ComposeResult:
        from textual_image.widget import Image

        self._image = Image()
        self._image.styles.width, self._image.styles.height = self._cells
        with Horizontal():
            with Middle(), Center():
                yield self._image
            yield OptionList(*(path.name for path in self._past))

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Whoever walks over the list sees its pictures; at first nothing."""
        if self._at:
            self._image.image = self._past[event.option_index]

    def action_next(self) -> None:
        """A preview."""
        self._image.image = self._previews[self._at % len(self._previews)]
        self._at += 1

    def action_final(self) -> None:
        """The picture."""
        self._image.image = self._final

    def action_help(self) -> None:
        """The dialog."""
        self.push_screen(Help())


def main() -> None:
    """`FOLDER COLUMNS ROWS`; the terminal is asked what it is before the app has it, as the widget's manual says."""
    import textual_image.widget  # noqa: F401

    Stock(Path(sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3]))).run()
