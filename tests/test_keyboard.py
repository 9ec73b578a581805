"""Keys that arrive together are the keys that were pressed."""

from __future__ import annotations

import itertools

import pytest
from textual import events
from textual.drivers import linux_driver

import tui.app  # noqa: F401
from tui import keys as table
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


def test_every_key_of_the_table_with_alt_is_what_a_terminal_sends_for_it() -> None:
    signs = {"full_stop": ".", "comma": ",", "slash": "/", "minus": "-", "equals_sign": "=", "semicolon": ";"}
    wanted = [key for action in table.TABLE for key in action.keys.split(",") if key.startswith("alt+")]
    plain = [(key, key.removeprefix("alt+")) for key in wanted]
    letters = [(key, signs.get(name, name)) for key, name in plain if len(signs.get(name, name)) == 1]
    assert len(letters) > 10 and ("alt+full_stop", ".") in letters
    for key, letter in letters:
        assert keys(f"\x1b{letter}") == [key]
        assert keys(f"\x1b{letter}\x1b[C") == [key, "right"]


def test_alt_with_a_sign_writes_nothing() -> None:
    parser = Keyboard()
    assert not list(parser.feed("\x1b."))
    parser._timeout_time = 0.0
    (event,) = parser.tick()
    assert isinstance(event, events.Key) and event.key == "alt+full_stop" and not event.is_printable


def test_a_paste_is_a_paste() -> None:
    parser = Keyboard()
    (paste,) = [e for e in parser.feed("\x1b[200~a cat\non a mat\x1b[201~") if isinstance(e, events.Paste)]
    assert paste.text == "a cat\non a mat"


@pytest.mark.parametrize("at", range(1, 4))
def test_answers_of_a_terminal_that_has_read_are_no_keys(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, among keys, in two reads; each is told."""
    told: list[str] = []
    monkeypatch.setattr(Keyboard, "hear", [lambda: told.append("read")])
    monkeypatch.setattr(Keyboard, "awaits", [lambda: True])
    assert keys("a\x1b[0nb\x1b[0n\x1b[C") == ["a", "b", "right"] and len(told) == 2
    assert keys("\x1b[0n", "\x1b[0n") == [] and len(told) == 4
    assert keys("a" + "\x1b[0n"[:at], "\x1b[0n"[at:] + "\x1b[A") == ["a", "up"] and len(told) == 5


def test_a_key_that_begins_like_an_answer_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keyboard, "awaits", [lambda: True])
    parser = Keyboard()
    assert list(parser.feed("\x1b")) == []
    found = list(parser.tick())
    parser._timeout_time = 0.0
    found += list(parser.tick())
    assert [event.key for event in found if isinstance(event, events.Key)] == ["escape"]
    assert keys("\x1b[", "A") == ["up"]
