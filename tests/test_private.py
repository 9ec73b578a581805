"""What of Textual and rich is used though they don't promise it: another version may lack it, and is told of here."""

from __future__ import annotations

import inspect

from rich.style import Style
from textual import _compositor, _xterm_parser, constants
from textual.app import App
from textual.command import CommandPalette
from textual.drivers import linux_driver
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.strip import Strip
from textual.widgets import TextArea


def test_what_is_put_in_the_place_of_textuals_own_is_there() -> None:
    for name in ("WriterThread", "XTermParser", "getincrementaldecoder"):
        assert hasattr(linux_driver, name), name
    source = inspect.getsource(linux_driver.LinuxDriver)
    assert "WriterThread(" in source and "XTermParser(" in source
    for name in ("_sigtstp_application", "_sigcont_application", "suspend_application_mode"):
        assert hasattr(linux_driver.LinuxDriver, name), name
    assert hasattr(constants, "COLOR_SYSTEM")


def test_what_is_overridden_or_read_is_there() -> None:
    for owner, names in {
        App: (
            "_display",
            "_fatal_error",
            "panic",
            "copy_to_clipboard",
            "_close_messages_no_wait",
            "_check_bindings",
            "_unnotify",
        ),
        Screen: ("_compositor_refresh",),
        CommandPalette: ("_GATHER_COMMANDS_GROUP", "_select_or_command"),
        MessagePump: ("_get_dispatch_methods",),
        _compositor.Compositor: ("render_update",),
        _xterm_parser.XTermParser: ("_sequence_to_key_events", "feed", "tick"),
        TextArea: ("_build_highlight_map", "_replace_via_keyboard", "_on_paste", "_on_key"),
        Strip: ("render",),
    }.items():
        for name in names:
            assert hasattr(owner, name), (owner, name)
    for name in ("ChopsUpdate", "LayoutUpdate", "CompositorUpdate"):
        assert hasattr(_compositor, name), name
    for name in ("_batch_count", "_driver", "_exit_renderables"):
        assert f"self.{name}" in inspect.getsource(App), name
    assert "_ansi" in Style.__slots__ and "_render_cache" in Strip.__slots__
