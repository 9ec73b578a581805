"""How far behind a line is, by the answers of the terminal at its end: lines of any kind, on a clock of their own."""

from __future__ import annotations

from collections import deque

import pytest

from tui.behind import EVERY, LEAST, PATIENCE, QUESTION, TARGET, TRIES, Behind


class Line:
    """A line that swallows everything, as ssh does, and a terminal that answers at its end.

    Args:
        rate: bytes a second.
        trip: seconds to the terminal and back.
    """

    def __init__(self, rate: float, trip: float, asks: bool = True) -> None:
        self.rate, self.trip = rate, trip
        self.now = 100.0
        self.free = 0.0
        "When it has carried all that it was given."
        self.answers: deque[float] = deque()
        self.asked = 0
        self.behind = Behind(asks, lambda: self.now)

    def send(self, count: int) -> float:
        """Seconds until the last of it is there."""
        asked = self.behind.ask(count)
        self.asked += asked
        self.free = max(self.now, self.free) + (count + len(QUESTION) * asked) / self.rate
        if asked:
            self.answers.append(self.free + self.trip)
        return self.free + self.trip / 2 - self.now

    def go_on(self, seconds: float) -> None:
        """Time, and what is answered in it."""
        end = self.now + seconds
        while self.answers and self.answers[0] <= end:
            self.now = max(self.now, self.answers.popleft())
            self.behind.hear()
        self.now = end


def used(line: Line, seconds: float, frame: int = 30_000) -> list[float]:
    """Somebody types ten keys a second while as much is drawn as there is room for; how late each key is."""
    late, left, key_at = [], frame, line.now
    until = line.now + seconds
    while line.now < until:
        line.go_on(0.005)
        if line.now >= key_at and line.behind.has_room(small=True):
            late.append(line.now - key_at + line.send(250))
            key_at += 0.1
        if line.behind.has_room():
            part = min(left, line.behind.budget or left)
            line.send(part)
            left = left - part or frame
    return late


@pytest.mark.parametrize("rate", [16_000, 32_000, 100_000, 1_000_000])
@pytest.mark.parametrize("trip", [0.02, 0.2, 0.5])
def test_a_key_waits_a_moment_whatever_is_drawn(rate: float, trip: float) -> None:
    """The first frame may teach it; without questions the line would be minutes behind after a minute."""
    line = Line(rate, trip)
    line.send(100)
    line.go_on(2 * trip)
    used(line, 10)
    late = sorted(used(line, 60))
    most = trip / 2 + 4 * TARGET + 3 * LEAST / rate
    assert late[len(late) * 99 // 100] < most and late[-1] < most + 0.1 + trip / 2
    assert line.free - line.now < 3 * TARGET + 2 * LEAST / rate


def test_a_slow_line_is_used_nevertheless() -> None:
    line = Line(32_000, 0.2)
    line.send(100)
    line.go_on(1)
    used(line, 10)
    before, began = line.behind._sent, line.now
    used(line, 30)
    assert (line.behind._sent - before) / (line.now - began) > 16_000


@pytest.mark.parametrize("trip", [0.001, 0.3])
def test_a_fast_line_is_none_the_slower_for_it(trip: float) -> None:
    """However long it is: all of a frame at once, and one after the other."""
    line = Line(5_000_000, trip)
    line.send(100)
    line.go_on(2 * trip)
    used(line, 5)
    line.go_on(1)
    for _ in range(600):
        assert line.behind.has_room() and line.behind.budget is None and not line.behind.slow
        line.send(30_000)
        line.go_on(1 / 60)


def test_a_line_that_has_become_slow_and_quick_again() -> None:
    line = Line(800_000, 0.05)
    line.send(100)
    line.go_on(1)
    used(line, 5)
    assert not line.behind.slow
    line.rate = 20_000
    used(line, 10)
    assert line.behind.slow
    line.rate = 800_000
    used(line, 5)
    assert not line.behind.slow


def test_a_reader_that_stalls_gets_little_meanwhile_and_is_back_at_once() -> None:
    line = Line(32_000, 0.2)
    line.send(100)
    line.go_on(1)
    used(line, 10)
    line.free, before, line.rate = line.now + 4, line.behind._sent, 20_000
    used(line, 4)
    assert line.behind._sent - before < 40_000, "it had taken 80 000"
    used(line, 3)
    assert max(used(line, 20)) < 0.6


def test_a_terminal_that_answers_nothing_is_never_behind() -> None:
    """A handful of questions, and no more."""
    line = Line(10, 1000.0)
    for _ in range(50):
        assert line.behind.has_room() and line.behind.budget is None
        line.send(5000)
        line.go_on(0.1)
    assert line.asked == TRIES and not line.behind.waits
    silent = Line(10, 1000.0, asks=False)
    silent.send(5000)
    assert not silent.asked and silent.behind.has_room() and silent.behind.patience is None


def test_one_that_answers_no_more_is_waited_for_a_while_each_time_and_then_no_more() -> None:
    line = Line(32_000, 0.1)
    line.send(100)
    line.go_on(1)
    used(line, 5)
    line.answers.clear()
    line.free = line.now + 10_000
    line.send(2 * EVERY)
    gaps, at = [], line.now
    while line.now < at + 60 and len(gaps) < TRIES:
        line.go_on(0.05)
        if line.behind.has_room():
            gaps.append(line.now - at)
            at = line.now
            line.send(30_000)
    assert len(gaps) == TRIES and max(gaps) < PATIENCE + 0.3
    for _ in range(100):
        line.go_on(0.1)
        line.send(30_000)
        assert line.behind.has_room(), "it is what it was before it was asked"
    asked = line.asked
    line.answers.clear()
    for _ in range(TRIES + 20):  # everything that it owed comes at last
        line.behind.hear()
    line.free = line.now
    line.send(100)
    assert line.asked == asked + 1


def test_an_answer_that_was_lost_is_made_up_for() -> None:
    """All answers are alike: the next one is taken for it, and every one after that."""
    line = Line(32_000, 0.2)
    line.send(100)
    line.go_on(1)
    used(line, 10)
    line.send(2 * EVERY)
    line.answers.pop()
    used(line, 60)
    used(line, 5)
    late = used(line, 20)
    assert sum(late) / len(late) < 0.5
