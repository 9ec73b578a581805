"""Score against seconds: which contender is worth its time. Drawn by plotext, in the terminal's characters."""

from __future__ import annotations

import asyncio
import importlib
import logging
import math
from collections.abc import Sequence
from typing import Any

from textual.color import Color
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui.boards import Standing
from tui.clean import one_line

MOST = 120
"Contenders that are drawn, the best ones: more would be a cloud."

log = logging.getLogger(__name__)


class Scatter(Vertical):
    """Every contender at its seconds and its mean, under its place on the board, with the mean's interval."""

    def __init__(self) -> None:
        super().__init__(id="scatter")
        self.border_title = "score against seconds a picture"
        self._plot: Any = None
        self._shown: tuple[Sequence[Standing], int | None] = ((), None)

    def compose(self) -> Any:
        """A word until there is something to draw."""
        yield Static("nothing to draw yet", id="scatter-none", markup=False)

    def on_mount(self) -> None:
        """plotext takes a fifth of a second to be imported."""
        self.run_worker(self._prepare(), group="scatter")

    async def _prepare(self) -> None:
        try:
            module = await asyncio.to_thread(importlib.import_module, "textual_plotext")
        except Exception as e:  # a plot is not worth a crash
            log.warning("textual-plotext: %r", e)
            self.query_one("#scatter-none", Static).update(Content(f"no plot here: {one_line(repr(e), 60)}"))
            return
        if self.is_attached:
            self._plot = module.PlotextPlot()
            self._plot.display = False
            await self.mount(self._plot)
            self.show(*self._shown)

    def show(self, standings: Sequence[Standing], chosen: int | None) -> None:
        """What is known now; the chosen one stands out."""
        self._shown = (standings, chosen)
        known = [one for one in standings if one.rank is not None and math.isfinite(one.rank.seconds)]
        known.sort(key=lambda one: one.rank.place if one.rank else 0)
        if self._plot is None:
            return
        self._plot.display = bool(known)
        self.query_one("#scatter-none").display = not known
        if known:
            self._draw(known[:MOST], chosen)

    def _draw(self, known: Sequence[Standing], chosen: int | None) -> None:
        plt = self._plot.plt
        plt.clear_figure()
        title = "score against seconds a picture"
        inks = self.app.theme_variables
        mine, others, paper = (Color.parse(inks[name]).rgb for name in ("primary", "secondary", "surface"))
        # the chosen one last, so that nothing covers it
        for one in sorted(known, key=lambda one: one.number == chosen):
            rank = one.rank
            assert rank is not None
            colour = mine if one.number == chosen else others
            if math.isfinite(rank.low) and math.isfinite(rank.high):
                plt.plot([rank.seconds] * 2, [rank.low, rank.high], marker="│", color=colour)
            else:
                plt.scatter([rank.seconds], [rank.mean], marker="•", color=colour)
            plt.text(str(rank.place), rank.seconds, rank.mean, colour, paper, "bold", alignment="center")
            if one.number == chosen:
                title = f"{rank.place}: {one_line(one.name, max(10, self.size.width - 26))} · score against seconds"
        most = max(one.rank.seconds for one in known if one.rank)
        plt.xlim(0, most * 1.1 or 1)
        self.border_title = Content(title)
        self._plot.refresh()
