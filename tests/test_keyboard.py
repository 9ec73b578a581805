"""Keys that arrive together are the keys that were pressed."""

from __future__ import annotations

import itertools

import pytest
from textual import events
from textual.drivers import linux_driver

import tui.app  # noqa: F401
from tui.keyboard import Keyboard

KEYS = {
    "\x1bw": "alt+w",
    "\x1b[C": "right",
    "\x1b[1;2D": "shift+left",
    "a": "a",
    "\x1b[A": "up",
    "\x1bOP": "f1",
    "\r": "enter",
}


def keys(*reads: str) -> list[str]:
    """What comes of these reads, and of a tenth of a second afterwards."""
    parser, found = Keyboard(), []
    for read in reads:
        found += list(parser.feed(read))
    if parser._timeout_time is not None:
        parser._timeout_time = 0.0
        found += list(parser.tick())
    return [event.key for event in found if isinstance(event, events.Key)]


def test_the_app_reads_keys_with_it() -> None:
    assert linux_driver.XTermParser is Keyboard


@pytest.mark.parametrize("pressed", itertools.product(KEYS, repeat=3), ids=repr)
def test_keys_in_one_read_and_in_several_are_the_same_keys(pressed: tuple[str, ...]) -> None:
    wanted = [KEYS[key] for key in pressed]
    assert keys("".join(pressed)) == wanted
    assert keys(*pressed) == wanted


def test_escape_by_itself_and_before_a_sequence() -> None:
    assert keys("\x1b") == ["escape"]
    assert keys("\x1b", "\x1b[C") == ["escape", "right"]


def test_a_paste_is_a_paste() -> None:
    parser = Keyboard()
    (paste,) = [e for e in parser.feed("\x1b[200~a cat\non a mat\x1b[201~") if isinstance(e, events.Paste)]
    assert paste.text == "a cat\non a mat"
