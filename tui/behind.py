"""How far behind a terminal is, by what it answers.

ssh takes whatever it is given: what was drawn waits in its buffers and in those of the network, and so does the key
that is drawn next, for seconds on a line of 256 kbit/s. Nothing here can look into those buffers, but every terminal
answers a question when it has read what was sent before it. So a question goes with what is drawn, and the time to its
answer, beyond what an answer takes when nothing waits, is what a key would wait.

The question is DSR, `CSI 5 n`, answered by `CSI 0 n` (ECMA-48 8.3.35; xterm's ctlseqs). How much may be on its way is
what the line carries in most of its round trip and TARGET, nearly as in BBR (Cardwell et al., ACM Queue 14(5), 2016)
and LEDBAT (RFC 6817), and grows only while it is used up, as in RFC 7661.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

QUESTION = "\x1b[5n"
ANSWER = "\x1b[0n"
TARGET = 0.06
"Seconds that a key may wait for what was drawn before it; what is beyond that holds back what comes next."
SHARE = 0.75
"Of a round trip that what is on its way may fill."
LEAST = 2048
"Bytes that are worth sending, however slow the line is: less than a screen, more than a key."
BEGINNING = 1 << 15
"Bytes that may be on their way as long as nothing is known: most frames are less."
FAST = 400_000
"Bytes a second from which on a line is no slow one: the largest frames are a tenth of that."
EVERY = 1000
"Bytes after which another question is asked while one is on its way."
SAMPLES = 10
"Answers of which the one that came over the quickest line counts: the others had less to wait for."
CAREFULLY = 4
"Once it was too much, what may be on its way grows by a part of what came across, and not by all of it."
KEYS = 6 * LEAST
"Bytes that may be on their way beyond the rest, if they are small."
TRIP_FOR = 30.0
"Seconds after which a round trip that no answer was as quick as since is measured anew, with nothing in the way."
PATIENCE = 2.0
"Seconds without an answer after which more is sent all the same: the line stands still, or an answer was lost."
TRIES = 4
"So often; then the terminal is asked no more until it has answered all that it was asked."
LOST = 1.0
"Seconds beyond a round trip after which answers are taken for lost while next to nothing is sent."


class Behind:
    """What is on its way to a terminal. Not for several threads at once.

    Args:
        asks: whether the terminal is known to answer questions; one that is not is never behind.
        clock: seconds.
    """

    def __init__(self, asks: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._asks = asks
        self._clock = clock
        self._known = False
        "Whether it has answered one of these questions."
        self._tries = 0
        self._sent = self._read = self._asked = 0
        "Bytes since the beginning: sent, read for sure, and before the last question."
        self._questions: deque[tuple[int, int, float]] = deque()
        "For each that isn't answered: bytes before it, how many of them were on their way, and when it was asked."
        self._owed = 0
        "Answers that may still come to questions that were given up."
        self._owed_until = 0.0
        self._moved_at = clock()
        "When it answered, was asked after a pause, or was sent more without an answer."
        self._trip = 0.0
        self._trip_at = clock()
        "When an answer took no longer than that."
        self._empties = 0.0
        "Since when the line is left to become empty; 0 if it isn't."
        self._window = BEGINNING
        "Bytes that may be on their way."
        self._growth = 1
        self._rates: deque[float] = deque(maxlen=SAMPLES)
        "Bytes a second that came across while an answer was waited for."

    @property
    def waits(self) -> bool:
        """Whether an answer is expected."""
        return bool(self._questions)

    @property
    def slow(self) -> bool:
        """Whether a key would wait for a large frame."""
        return self._known and self._window < FAST * self._full

    @property
    def trip(self) -> float:
        """Seconds to the terminal and back, when nothing is in the way."""
        return self._trip

    @property
    def _full(self) -> float:
        """Seconds of the line that may be on their way. On an idle one all of it may be sent at once, right before a
        key: so it is a part of the round trip, with which the line is not used up, and what a key may wait."""
        return self._trip * SHARE + TARGET

    # ── what is sent, and what comes back ───────────────────────────────────────────────────────────────────────

    def ask(self, count: int) -> bool:
        """So many bytes are about to be sent: whether a question is to be sent after them."""
        now = self._clock()
        self._sent += count
        if not self._known and len(self._questions) >= TRIES:
            self._give_up(float("inf"))
        if self._owed and now < self._owed_until:
            return False
        self._owed = 0
        if not self._asks or (self._questions and self._sent - self._asked < EVERY):
            return False
        if not self._questions:
            self._moved_at = now
        self._sent += len(QUESTION)
        self._asked = self._sent
        self._questions.append((self._sent, self._sent - self._read, now))
        return True

    def hear(self) -> float:
        """An answer has come. Returns the seconds that the line was busy with what it is the answer to."""
        now = self._clock()
        self._tries, self._moved_at = 0, now
        if not self._questions:
            self._owed = max(0, self._owed - 1)
            return 0.0
        before, count, asked = self._questions.popleft()
        read, self._read = self._read, before
        took = now - asked
        self._note_trip(took, count, now)
        self._known = True
        late = max(0.0, took - self._trip)
        if count >= EVERY or not self._rates:
            self._rates.append(count / max(took, 1e-4))
        if late > TARGET:
            self._window = min(self._window, max(LEAST, int(max(self._rates) * self._full)))
            self._growth = CAREFULLY
        elif count * 2 > self._window:
            self._window += (before - read) // self._growth
        return (before - read) / self._window * self._full if self.slow else late

    def _note_trip(self, took: float, count: int, now: float) -> None:
        """The shortest; where none was as short for long, what it takes once the line was left to become empty."""
        if not self._known or took <= self._trip + TARGET / 4 or (self._empties and count < EVERY):
            self._trip = took if not self._known or self._empties else min(took, self._trip)
            self._trip_at, self._empties = now, 0.0
        elif now - self._trip_at > TRIP_FOR and not self._empties:
            self._empties = now

    # ── what may be sent ────────────────────────────────────────────────────────────────────────────────────────

    def has_room(self, count: int = LEAST, small: bool = False) -> bool:
        """Whether more may be sent now.

        Args:
            count: so many bytes.
            small: whether it is little, such as a key, which is let through where a picture isn't.
        """
        if not self._known:
            return True
        now, flying = self._clock(), self._sent - self._read
        if self._questions:
            if now - self._moved_at > self._trip + PATIENCE:
                self._tries, self._moved_at = self._tries + 1, now
                if self._tries >= TRIES:
                    self._give_up(float("inf"))
                return True
            if self._empties and now - self._empties > self._trip + LOST:
                self._give_up(now + self._trip + LOST)
                self._trip_at = now
        elif not self._owed:
            return True
        if small:
            return flying <= self._window + (KEYS if self.slow else self._window)
        if self._empties or flying + count > self._window:
            return False
        return self.slow or not self._questions or now - self._questions[0][2] <= self._trip + 2 * TARGET

    def _give_up(self, until: float) -> None:
        """Nothing is asked until all that was asked is answered after all, or until a time."""
        self._owed, self._owed_until = len(self._questions), until
        self._known = self._known and until < float("inf")
        self._questions.clear()
        self._read, self._empties = self._sent, 0.0

    @property
    def budget(self) -> int | None:
        """Bytes that may be drawn at once; None where it is no matter."""
        if not self.slow:
            return None
        return max(LEAST, self._window - (self._sent - self._read))

    @property
    def patience(self) -> float | None:
        """Seconds after which there may be room although nothing was heard; None if that isn't waited for."""
        if not self._known or not (self._questions or self._owed):
            return None
        until = self._moved_at + self._trip + PATIENCE
        if self._empties or self._owed:
            until = min(until, max(self._empties + self._trip + LOST, self._owed_until))
        return max(0.0, until - self._clock()) + 0.001
