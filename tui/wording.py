"""Numbers in words: times, bytes, counts and bars, the same in the workbench and on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.events import Gauged

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


def gauge(told: Gauged) -> list[str]:
    """How the device is, the most telling first, what isn't known left out: '61 °C', '94 %', '12 GB of 80 GB', '310 W',
    'load 1.5'."""
    parts = []
    if told.temperature is not None:
        parts.append(f"{told.temperature:.0f} °C")
    if told.utilisation is not None:
        parts.append(f"{told.utilisation:.0f} %")
    if told.memory_used is not None and told.memory_total:
        parts.append(f"{bytes_(told.memory_used)} of {bytes_(told.memory_total)}")
    if told.power is not None:
        parts.append(f"{told.power:.0f} W")
    if told.load is not None:
        parts.append(f"load {told.load:.1f}")
    return parts


def pace(seconds: float) -> str:
    """How fast steps go, from the seconds that one takes: '3.2 steps/s', '28 steps/s', '1.8 s/step'."""
    if seconds <= 0:
        return ""
    if seconds > 0.995:
        return f"{duration(seconds)}/step"
    rate = 1 / seconds
    return f"{rate:.1f} steps/s" if rate < 9.95 else f"{rate:.0f} steps/s"


def bar(fraction: float | None, width: int) -> str:
    """A progress bar exactly `width` cells wide, in eighths of a cell.

    A fraction of None, where progress can't be known, is an empty bar. Only what is finished looks full.
    """
    if width <= 0:
        return ""
    share = 0.0 if fraction is None or fraction != fraction else min(1.0, max(0.0, fraction))
    full, part = divmod(int(share * width * 8), 8)
    return ("█" * full + _EIGHTHS[part] if full < width else "█" * width).ljust(width)
