"""The collector runs when nobody types, and never waits for ever."""

from __future__ import annotations

import gc
import time

import pytest

from tui import tidying
from tui.tidying import Tidy


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda generation=2: seen.append(generation) or 0)
    return seen


def test_full_collections_wait_for_a_pause(collected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    young = [tidying.ENOUGH]
    monkeypatch.setattr(gc, "get_count", lambda: (young[0], 0, 0))
    tidy = Tidy()
    for _ in range(int(200 / tidying.PERIOD)):  # 200 seconds of typing
        now[0] += tidying.PERIOD
        tidy.key_pressed()
        tidy.look()
    assert set(collected) == {0}
    now[0] += tidying.QUIET
    tidy.look()
    assert collected[-1] == 2
    now[0] += tidying.PERIOD
    tidy.look()
    assert collected[-1] == 0
    looked, young[0] = len(collected), tidying.ENOUGH - 1
    now[0] += tidying.PERIOD
    tidy.look()
    assert len(collected) == looked, "a few are not worth it"


def test_without_a_pause_one_comes_all_the_same(collected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tidy = Tidy()
    while now[0] <= tidying.FULL_AT_MOST:
        now[0] += tidying.PERIOD
        tidy.key_pressed()
        tidy.look()
    assert collected.count(2) == 1


def test_it_takes_over_from_the_automatic_one() -> None:
    was = gc.isenabled()
    gc.unfreeze()  # what conftest.py has frozen
    try:
        Tidy().begin()
        assert not gc.isenabled() and gc.get_freeze_count() > 0
    finally:
        if was:
            gc.enable()
