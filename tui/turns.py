"""Keys one after another: the next one waits until what the last one did is done.

Textual hands every key at once to whoever has the focus, and runs most bindings only when the key has bubbled up to the
app: of `Tab x`, which a slow line delivers together, the x goes to the field that Tab leaves, and of `Enter x` it is in
the text before the picture is asked for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from textual.app import App
from textual.events import Event

PASSES = 3
"How often all queues from the focus up are waited for: a key posts a message, and that may post another."
PATIENCE = 0.25
"Seconds that a key may take; what takes longer does not keep the keyboard."


class Turns:
    """Takes keys as they come, and delivers them in turn."""

    def __init__(self, app: App[Any], deliver: Callable[[Event], Awaitable[None]]) -> None:
        self._app = app
        self._deliver = deliver
        self._waiting: deque[Event] = deque()
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether keys are on their way."""
        return self._busy

    def take(self, event: Event) -> None:
        """Delivers at once if nothing is on its way."""
        self._waiting.append(event)
        if not self._busy:
            self._busy = True
            self._app.run_worker(self._go_on(), group="keys")

    async def _go_on(self) -> None:
        try:
            while self._waiting:
                await self._deliver(self._waiting.popleft())
                until = asyncio.get_running_loop().time() + PATIENCE
                for _ in range(PASSES):
                    await self._settle(until)
        finally:
            self._busy = False

    async def _settle(self, until: float) -> None:
        """Until the queues of the focus and of all around it are rid of what is in them now, or it is late."""
        for node in (self._app.focused or self._app.screen).ancestors_with_self:
            done = asyncio.Event()
            left = until - asyncio.get_running_loop().time()
            if left > 0 and node.call_later(done.set):
                with suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), left)
