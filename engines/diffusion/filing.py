"""Model files that are made of model files: merged, converted. Events on the way, a Saved at the end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

from engines import blocks
from engines.diffusion import converting, merging
from engines.diffusion.merging import Progress
from engines.events import Event, Loading, Noted, Saved
from engines.requests import Convert, JobId, Merge

_T = TypeVar("_T")


def merge(job_id: JobId, request: Merge, digest: Callable[[Path], str], stop: Callable[[], bool]) -> Iterator[Event]:
    """Mixes checkpoint files into a new one. Raises what `merging.to_file` raises."""
    formula = blocks.Formula(request.method, request.weights, blocks.parse(request.blocks))
    parents = [Path(parent) for parent in request.parents]
    mixing = merging.to_file(parents, formula, Path(request.out), dtype=request.dtype, digest=digest, stop=stop)
    made = yield from _told(job_id, mixing)
    for note in made.notes:
        yield Noted("warning", note, job_id)
    yield Saved(job_id, str(made.path), made.bytes)


def convert(job_id: JobId, request: Convert, stop: Callable[[], bool]) -> Iterator[Event]:
    """Makes a .safetensors file of a pickled one. Raises what `converting.convert` raises."""
    out = Path(request.out)
    for step in converting.convert(Path(request.file), out, stop):
        yield Loading(job_id, step.text, step.done / step.total)
    yield Saved(job_id, str(out), out.stat().st_size)


def _told(job_id: JobId, work: Generator[Progress, None, _T]) -> Generator[Event, None, _T]:
    """The progress of some work as events; returns what it returns."""
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        yield Loading(job_id, step.what, step.fraction)
