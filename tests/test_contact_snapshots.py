"""The contact sheet as a picture: full, found, and empty, at three sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_contact import LEAST, Desk, opened, settled
from test_snapshots import PROMPTS, SIZES, Shots, shots  # noqa: F401


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


async def test_contact_pictures(shots: Shots, desk: Desk) -> None:  # noqa: F811
    for i in range(60):
        desk.add(i % 6 or None, prompt=PROMPTS[i % 3], model=("mini", "quick")[i % 2], score="fake-clip")
    Path(desk.files.made[57].path).unlink()

    async with desk.app.run_test(size=SIZES[-1]) as pilot:
        await opened(pilot, desk)
        await pilot.press("m", "right", "right", "down", "m")
        await settled(pilot, desk)
        await shots(pilot, [*SIZES, LEAST])


async def test_contact_words(shots: Shots, desk: Desk) -> None:  # noqa: F811
    for i in range(12):
        desk.add(prompt=PROMPTS[i % 3])

    async with desk.app.run_test(size=SIZES[-1]) as pilot:
        await opened(pilot, desk)
        await pilot.press("s", "slash", *"umbrella")
        await pilot.pause(0.3)
        await settled(pilot, desk)
        await shots(pilot)


async def test_contact_empty(shots: Shots, desk: Desk) -> None:  # noqa: F811
    async with desk.app.run_test(size=SIZES[-1]) as pilot:
        await opened(pilot, desk)
        await shots(pilot)
