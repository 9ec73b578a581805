"""Text from outside, as bad as it gets, through every place that shows it: nothing is obeyed, nothing is markup, and no
column leaves its place."""

from __future__ import annotations

from tui.app import SafelightApp


def lines_of(app: SafelightApp) -> list[str]:
    """The screen as the terminal is sent it, behind all filters."""
    from textual.color import Color

    lines = []
    for strip in app.screen._compositor.render_strips():
        segments = list(strip)
        for one in app.get_line_filters():
            segments = one.apply(segments, Color(0, 0, 0))
        lines.append("".join(segment.text for segment in segments if not segment.control))
    return lines
