"""The contact sheet as a picture: full, found, and empty, at three sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_contact import LEAST, SMALL, WIDE, Desk, opened, settled
from test_snapshots import PROMPTS, Snap
from textual.pilot import Pilot


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same picture in every terminal."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def desk(home: Path) -> Iterator[Desk]:
    made = Desk(home)
    yield made
    made.engine.close()
    made.store.close()


@pytest.mark.parametrize("size", [LEAST, SMALL, WIDE], ids=str)
def test_pictures(snap_compare: Snap, desk: Desk, size: tuple[int, int]) -> None:
    for i in range(60):
        desk.add(i % 6 or None, prompt=PROMPTS[i % 3], model=("mini", "quick")[i % 2], score="fake-clip")
    Path(desk.files.made[57].path).unlink()

    async def before(pilot: Pilot[None]) -> None:
        await opened(pilot, desk)
        await pilot.press("m", "right", "right", "down", "m")
        await settled(pilot, desk)

    assert snap_compare(desk.app, terminal_size=size, run_before=before)


def test_words(snap_compare: Snap, desk: Desk) -> None:
    for i in range(12):
        desk.add(prompt=PROMPTS[i % 3])

    async def before(pilot: Pilot[None]) -> None:
        await opened(pilot, desk)
        await pilot.press("s", "slash", *"umbrella")
        await pilot.pause(0.3)
        await settled(pilot, desk)

    assert snap_compare(desk.app, terminal_size=SMALL, run_before=before)


def test_empty(snap_compare: Snap, desk: Desk) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await opened(pilot, desk)

    assert snap_compare(desk.app, terminal_size=SMALL, run_before=before)
