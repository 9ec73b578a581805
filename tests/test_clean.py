"""Nothing that a terminal would obey gets out: not from `clean`, and not from a real Textual app."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence

import pytest
from rich.segment import ControlType, Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.color import Color
from textual.driver import Driver
from textual.drivers.headless_driver import HeadlessDriver
from textual.filter import LineFilter
from textual.widgets import DataTable, Input, OptionList, Static, TextArea

from tui.clean import clean, ending, one_line
from tui.filters import CleanFilter

ATTACKS = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;b3duZWQ=\x1b\\",
    "colour": "\x1b[31m",
    "c1 csi": "\x9b31m",
    "c1 osc": "\x9d0;owned\x9c",
    "direction": "\u202egnp.exe\u202c",
    "isolate": "\u2066a\u2069",
    "marks": "\u200e\u200f",
    "nul": "a\x00b",
    "backspace": "a\x08b",
    "return": "good\rbad",
    "delete": "a\x7fb",
    "surrogate": "a\ud800b",
}
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_clean(attack: str) -> None:
    assert not FORBIDDEN.search(clean(attack))
    assert FORBIDDEN.sub("", attack.replace("\r", "\n")) == clean(attack)


def test_clean_leaves_the_rest_alone() -> None:
    text = "ein Äpfelchen\tund\nçöñ 木 🍎 a\u0301 \xa0 👩\u200d🎨"
    assert clean(text) == text


def test_one_line() -> None:
    assert one_line(" a\tred\r\n\n apple\x1b[0m ", 80) == "a red apple[0m"
    assert one_line("a red apple", 11) == "a red apple"
    assert one_line("a red apple", 10) == "a red app…"
    assert one_line("a red apple", 3) == "a…"
    assert one_line("a red apple", 1) == "…"
    assert one_line("a red apple") == "a red apple"
    assert one_line("\x00", 5) == ""


def test_ending_keeps_the_end() -> None:
    assert ending("sdxl-lightning-4step", 20) == "sdxl-lightning-4step"
    assert ending("sdxl-lightning-4step", 6) == "…4step"
    assert ending("a red  apple", 6) == "…apple" and ending("abc", 0) == ""


def test_clean_needs_no_textual() -> None:
    code = "import sys, tui.clean, tui.wording; sys.exit('textual' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_filter_gives_clean_lines_back_as_they_are() -> None:
    segments = [Segment("a red apple"), Segment("▀▀", Style(color="red"))]
    assert CleanFilter().apply(segments, Color(0, 0, 0)) is segments


def test_the_filter_keeps_the_width_of_a_line_and_textuals_own_controls() -> None:
    control = Segment("\x1b[2J", None, [(ControlType.CLEAR,)])
    segments = [Segment("a\x1bb\tc\nd\ud800e"), control]
    filtered = CleanFilter().apply(segments, Color(0, 0, 0))
    assert filtered == [Segment("abcd�e"), control]
    assert Segment.get_line_length(filtered) == Segment.get_line_length(segments)


def test_the_filter_drops_links_with_sequences() -> None:
    good, bad = Style(link="https://example.org"), Style(link="x\x1b\\\x1b]0;owned\x07")
    filtered = CleanFilter().apply([Segment("good", good), Segment("bad", bad)], Color(0, 0, 0))
    assert [segment.style.link for segment in filtered if segment.style] == ["https://example.org", None]


class Recorder(HeadlessDriver):
    """A driver that is not headless to Textual, so that everything is written, and into a list."""

    written: list[str]

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        data.encode()  # as the real driver does: a lone surrogate would end the program
        self.written.append(data)


class Hostile(App[None]):
    """Shows one text through every widget that shows texts."""

    def __init__(self, text: str, driver: type[Driver], filters: bool = True) -> None:
        super().__init__(driver_class=driver)
        self.text, self.filters = f"before{text}after", filters

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), *([CleanFilter()] if self.filters else [])]

    def compose(self) -> ComposeResult:
        yield Static(self.text, markup=False)
        yield TextArea(self.text)
        yield Input(self.text)
        yield OptionList(self.text, markup=False)
        yield DataTable()

    def on_mount(self) -> None:
        for widget in self.query("Static, TextArea, Input, OptionList, DataTable"):
            widget.styles.height = 4
        table = self.query_one(DataTable)
        table.add_column(self.text)
        table.add_row(self.text)
        self.query_one(Static).border_title = None
        self.notify(self.text, title=self.text, markup=False)


async def written_by(text: str, filters: bool = True) -> str:
    driver = type("Fresh", (Recorder,), {"written": []})
    app = Hostile(text, driver, filters)
    async with app.run_test(headless=False, size=(100, 40), notifications=True) as pilot:
        await pilot.pause()
        await pilot.pause(0.1)
    return "".join(driver.written)  # type: ignore[attr-defined]


OWN = re.compile(
    r"\x1b\[[\d;?]*[A-Za-z]"  # colours, the cursor, modes
    r"|\x1b\[[<>=][\d;]*[a-z]"  # the keyboard protocol
    r"|\x1b\]22;[a-z-]+\x07"  # the shape of the mouse pointer
    r"|\n"
)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_nothing_of_it_leaves_a_textual_app(attack: str) -> None:
    sent = OWN.sub("", await written_by(attack))
    assert sent.count("before") >= 7  # five widgets, the table's heading, and the toast
    assert not FORBIDDEN.search(sent)
    if attack == ATTACKS["colour"]:  # looks like Textual's own: what remains of it must be there, harmless
        assert sent.count("before[31mafter") >= 7


async def test_without_the_filter_it_does() -> None:
    """Else the test above would prove nothing."""
    assert "\x1b]0;owned" in await written_by(ATTACKS["title"], filters=False)
