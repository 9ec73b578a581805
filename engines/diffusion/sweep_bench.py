"""`python -m engines.diffusion.sweep_bench FILE` measures what a sweep costs beside a bare loop, in JSON lines.

FILE has the requests of the cells, one a line as `engines.requests.to_json` writes them. A round is the bare loop over
all of them, then a sweep of them: written down, queued as `safelight sweep` queues them, every picture decoded, scored,
saved and entered into its cell. A first round loads and warms everything, and is not told; every round has a prompt of
its own. `safelight bench sweep` runs this in a process of its own and does the statistics.

    {"progress": [sides done, sides in all]}
    {"result": {device, precision, threads, scorer, models, size, bare, sweep, held, difference}}
    {"error": one line, "hint": one line, "exit_code": 1 or 2}, and the process ends with that code

`models` has the model of each cell, in the order in which they are made. `bare` and `sweep` are lists by round of lists
by cell of {total, encode, denoise, decode, score, save} in seconds; a sweep's totals are from one `Done` to the next,
and the first one's from before the sweep was written down. The bare side is `engines.diffusion.bench.bare`, in the
sweep's thread: model after model, and what the same encoders would make of the same prompt is made once, as the engine
does. `held` is whether all models stayed in memory: if not, the sweep loaded some of them in its time, and the bare
loop outside of it. `difference` is how far the pixels of both are apart at most, 0 … 255.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines import catalogue as catalogues
from engines import requests, sweep
from engines.diffusion.bench import PHASES, Bench, apart, carry_out, judge, opened, parser
from engines.errors import InvalidRequest, SafelightError
from engines.events import Cancelled, Closed, Done, Failed, Queued, Vitals
from engines.requests import Generate
from engines.running import Run
from engines.store import Store
from engines.sweep import Cell


class Sweeps(Bench):
    """An engine over a rigged darkroom, and both ways to make the cells of a grid."""

    held = True
    "Whether all models were in memory all through the last sweep."

    def loop(self, cells: Sequence[Cell], folder: Path) -> tuple[list[dict[str, float]], list[Path]]:
        """Seconds by phase of each cell in the bare loop, and their files."""
        self.texts = {}
        spent, paths = [], []
        for cell in cells:
            self.bare_path = folder / f"bare-{cell.number}.png"
            spent.append(self.bare(cell.request))
            paths.append(self.bare_path)
        return spent, paths

    def sweep(self, store: Store, cells: Sequence[Cell]) -> tuple[list[dict[str, float]], list[Path]]:
        """The same of a sweep."""
        spent, paths = [], []
        self.held = True
        models = {cell.request.model for cell in cells}
        last = time.perf_counter()
        written = sweep.begin(store, cells, "bench")
        run = Run(written)
        self._hand_over(run)
        for event in self.events:
            match event:
                case Queued(job):
                    run.queued(job)
                case Done(job_id, (picture,)) if run.cell(job_id):
                    now = time.perf_counter()
                    run.done(job_id)
                    spent.append({**{name: getattr(picture.seconds, name) for name in PHASES}, "total": now - last})
                    paths.append(Path(picture.path))
                    if len(paths) == len(cells):
                        return spent, paths
                    last = now
                    self._hand_over(run)
                case Vitals(resident=resident):
                    self.held = self.held and models <= set(resident)
                case Failed(message=message, hint=hint):
                    raise SafelightError(message, hint)
                case Cancelled() | Closed():
                    break
                case _:
                    pass
        raise SafelightError("the engine ended before its sweep was done", "its log tells why")

    def _hand_over(self, run: Run) -> None:
        while (more := run.next()) is not None:
            cell, group = more
            self.engine.submit(cell.request, group)


def measure(
    bench: Sweeps,
    store: Store,
    asked: Sequence[Generate],
    rounds: int,
    folder: Path,
    tell: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """The result object above, but for what the requests say; `tell` gets the progress objects."""
    bare, swept = [], []
    held, difference = True, 0
    for number in range(rounds + 1):
        # numbers of three digits: every prompt has as many tokens as the others, and none was encoded before
        cells = sweep.in_order(
            (
                (("model", request.model), ("seed", str(request.seed))),
                replace(request, prompt=f"{request.prompt}, {100 + number}"),
            )
            for request in asked
        )
        loop, plain = bench.loop(cells, folder)
        tell({"progress": [2 * number + 1, 2 * rounds + 2]})
        through, pictures = bench.sweep(store, cells)
        tell({"progress": [2 * number + 2, 2 * rounds + 2]})
        if number:
            bare.append(loop)
            swept.append(through)
            held = held and bench.held
            difference = max(difference, *(apart(a, b) for a, b in zip(plain, pictures, strict=True)))
    models = [cell.request.model for cell in cells]
    return {**bench.told, "models": models, "bare": bare, "sweep": swept, "held": held, "difference": difference}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures as the command line says, and returns the exit code."""
    options = parser("engines.diffusion.sweep_bench", __doc__)
    options.add_argument("file", type=Path, help="the requests of the cells, one a line")
    options.add_argument("--runs", type=int, default=5)
    return carry_out(options.parse_args(arguments), _run)


def _run(given: argparse.Namespace, home: Path, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    catalogue = catalogues.load(given.models)
    scorer = judge(catalogue)
    read = [requests.from_json(line) for line in given.file.read_text(encoding="utf-8").splitlines()]
    asked = [replace(request, score=scorer) for request in read if isinstance(request, Generate)]
    if not asked or len(asked) < len(read):
        raise InvalidRequest("pictures are needed, one or more", "", "file")
    with opened(Sweeps, given, catalogue, home) as (bench, store):
        found = measure(bench, store, asked, given.runs, home, tell)
    return {"scorer": scorer, "size": f"{asked[0].width}x{asked[0].height}", **found}


if __name__ == "__main__":
    sys.exit(main())
