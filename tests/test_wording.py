"""Numbers in words: the borders between units, and what no number should break."""

from __future__ import annotations

from datetime import datetime

import pytest

from engines.events import Gauged
from tui import wording


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.00 s"), (0, "0.00 s"), (0.041, "0.04 s"), (0.0994, "0.10 s"), (0.0996, "0.1 s"), (0.8, "0.8 s"),
        (9.94, "9.9 s"), (9.96, "10 s"), (12.3, "12 s"), (59.6, "1 min"), (60, "1 min"), (200, "3 min 20 s"),
        (3599.7, "1 h"), (7500, "2 h 5 min"), (86399, "1 d"), (273600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"), (512, "512 B"), (999, "999 B"), (1000, "1.0 kB"), (9949, "9.9 kB"), (9951, "10 kB"),
        (999_499, "999 kB"), (999_500, "1.0 MB"), (1_234_567_890, "1.2 GB"), (80e9, "80 GB"), (5e18, "5000 PB"),
        (-2048, "-2.0 kB"),
    ],
)  # fmt: skip
def test_bytes(n: float, text: str) -> None:
    assert wording.bytes_(n) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, ""), (-1, ""), (0.0002, "5000 steps/s"), (0.0357, "28 steps/s"), (0.3125, "3.2 steps/s"),
        (0.99, "1.0 steps/s"), (1.0, "1.0 s/step"), (1.8, "1.8 s/step"), (125, "2 min 5 s/step"),
    ],
)  # fmt: skip
def test_pace(seconds: float, text: str) -> None:
    assert wording.pace(seconds) == text


def test_a_gauge_tells_what_is_known() -> None:
    card = Gauged(61, 94, 312, 12e9, 80e9)
    assert wording.gauge(card) == ["61 °C", "94 %", "12 GB of 80 GB", "312 W"]
    assert wording.gauge(Gauged(utilisation=0, memory_used=1.5e9, memory_total=8e9, load=1.5)) == [
        "0 %",
        "1.5 GB of 8.0 GB",
        "load 1.5",
    ]
    assert wording.gauge(Gauged()) == [] and wording.gauge(Gauged(memory_used=3e9)) == []


NOON = datetime(2026, 3, 18, 12).astimezone().timestamp()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3600, "now"), (0, "now"), (44, "now"), (46, "1 min ago"), (300, "5 min ago"), (3569, "59 min ago"),
        (3571, "1 h ago"), (3 * 3600, "3 h ago"), (13 * 3600, "yesterday"), (4 * 86400, "4 days ago"),
        (30 * 86400, "2026-02-16"),
    ],
)  # fmt: skip
def test_ago(seconds: float, text: str) -> None:
    assert wording.ago(NOON - seconds, NOON) == text


def test_shortly_after_midnight_an_hour_is_an_hour() -> None:
    midnight = datetime(2026, 3, 18, 0, 30).astimezone().timestamp()
    assert wording.ago(midnight - 3 * 3600, midnight) == "3 h ago"


def test_plural() -> None:
    assert wording.plural(1, "picture") == "1 picture"
    assert wording.plural(0, "picture") == "0 pictures"
    assert wording.plural(12000, "entry", "entries") == "12,000 entries"


@pytest.mark.parametrize("width", [0, 1, 7, 20])
@pytest.mark.parametrize("fraction", [None, float("nan"), -1, 0, 0.01, 0.5, 0.999, 1, 7, float("inf")])
def test_a_bar_is_as_wide_as_it_was_asked_for(fraction: float | None, width: int) -> None:
    text = wording.bar(fraction, width)
    assert len(text) == width
    assert (text == "█" * width) == (width == 0 or (fraction is not None and fraction >= 1))


def test_a_bar_grows_by_eighths() -> None:
    bars = [wording.bar(n / 32, 4) for n in range(33)]
    assert len(set(bars)) == 33
    assert bars[12] == "█▌  "
