"""Numbers in words: times, bytes, counts and bars, the same in the workbench and on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def duration(seconds: float) -> str:
    """'0.04 s', '0.8 s', '12 s', '3 min 20 s', '2 h 5 min', '3 d 4 h'."""
    seconds = max(0.0, seconds)
    if seconds < 0.0995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole // 60, "min", whole % 60, "s")
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return _two(minutes // 60, "h", minutes % 60, "min")
    hours = round(seconds / 3600)
    return _two(hours // 24, "d", hours % 24, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"


def bytes_(n: float) -> str:
    """'0 B', '512 B', '1.5 kB', '14 MB', '1.2 GB': powers of 1000, as drives and downloads are sold."""
    sign = "-" if n < 0 else ""
    size = abs(n)
    if size < 999.5:
        return f"{sign}{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        size /= 1000
        if size < 999.5 or unit == "PB":
            break
    return f"{sign}{size:.1f} {unit}" if size < 9.95 else f"{sign}{size:.0f} {unit}"


def ago(timestamp: float, now: float) -> str:
    """'now', '5 min ago', '3 h ago', 'yesterday', '4 days ago', then the date; both are seconds since 1970."""
    seconds = now - timestamp
    if seconds < 45:  # a clock that was set back counts as now
        return "now"
    if seconds < 59.5 * 60:
        return f"{max(1, round(seconds / 60))} min ago"
    then, today = (datetime.fromtimestamp(moment, UTC).astimezone() for moment in (timestamp, now))
    days = (today.date() - then.date()).days
    if days == 0 or seconds < 6 * 3600:
        return f"{round(seconds / 3600)} h ago"
    if days == 1:
        return "yesterday"
    return f"{days} days ago" if days < 7 else then.strftime("%Y-%m-%d")


def plural(count: int, one: str, many: str = "") -> str:
    """'1 picture', '3 pictures'; give the plural where it is not the singular with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def bar(fraction: float | None, width: int) -> str:
    """A progress bar exactly `width` cells wide, in eighths of a cell.

    A fraction of None, where progress can't be known, is an empty bar. Only what is finished looks full.
    """
    if width <= 0:
        return ""
    share = 0.0 if fraction is None or fraction != fraction else min(1.0, max(0.0, fraction))
    full, part = divmod(int(share * width * 8), 8)
    return ("█" * full + _EIGHTHS[part] if full < width else "█" * width).ljust(width)
