"""The command line's side of the seam: submit, follow the events, print.

It is the same loop as the workbench's, printing. Progress goes to stderr, and only to a terminal.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.engine import Engine
from engines.errors import DiskFull, SafelightError, StorageError
from engines.events import (
    Cancelled,
    Closed,
    Done,
    Event,
    Failed,
    Finishing,
    Gauged,
    Kept,
    Loading,
    Noted,
    Previewed,
    Pulling,
    Queued,
    Saved,
    Scored,
    Sketched,
    Started,
    Stepped,
    Vitals,
)
from engines.requests import Finish, Generate, Picture, Pull, Request
from engines.store import Store
from tui import shares, wording
from tui.clean import one_line

if TYPE_CHECKING:
    from tui.session import Session


class JobFailed(SafelightError):
    """A job ended in `Failed`; it is told like any other error."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message, failed.hint)
        self.exit_code = failed.exit_code
        self.trace = failed.trace


class Progress:
    """One line on stderr that is written over and over, if stderr is a terminal; else nothing."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()
        self._last = 0.0
        self._open = False

    def show(self, text: str, now: bool = False) -> None:
        """Puts the text on the line, at most ten times a second unless `now`."""
        if not self.shown or (not now and time.monotonic() - self._last < 0.1):
            return
        self._last = time.monotonic()
        import shutil

        print(f"\r\x1b[K{one_line(text, shutil.get_terminal_size().columns - 1)}", end="", file=sys.stderr, flush=True)
        self._open = True

    def clear(self) -> None:
        """Takes the line away."""
        if self._open:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._open = False

    def say(self, text: str) -> None:
        """A line that stays, above the progress; also where stderr is no terminal."""
        self.clear()
        print(one_line(text), file=sys.stderr)


def emit(value: dict[str, Any]) -> None:
    """One JSON object on one line of stdout; ASCII only, so that nothing in it can move a terminal's cursor."""
    print(json.dumps(value, ensure_ascii=True, allow_nan=False), flush=True)


def say(notes: Sequence[str]) -> None:
    """Notes on stderr, a line each."""
    for note in notes:
        print(f"note: {one_line(note)}", file=sys.stderr)


def check_folder(session: Session, folder: Path, named: bool) -> None:
    """Sees that pictures can be saved in a folder, which the command line may have `named`.

    Raises:
        DiskFull, StorageError: they can't.
    """
    from engines import files

    try:
        files.check_folder(folder)
    except StorageError as e:
        if (named or session.settings.folder) and not isinstance(e, DiskFull):
            e.hint = f"choose another folder with --out{'' if named else ', or mend folder in settings.toml'}"
        raise


@contextmanager
def closing(store: Store) -> Iterator[Store]:
    """Closes the store whatever happens."""
    try:
        yield store
    finally:
        store.close()


def follow(
    session: Session,
    requests: Sequence[Request],
    as_json: bool,
    then: Callable[[Sequence[Picture]], Sequence[Request]] | None = None,
) -> int:
    """`run` by an engine of a session, which is closed at the end."""
    with closing(session.store()) as store:
        try:
            return run(session.engine("command", store), requests, as_json, then)
        except JobFailed as e:
            if session.debug:
                print(e.trace, file=sys.stderr)
            raise


def run(
    engine: Engine,
    requests: Sequence[Request],
    as_json: bool,
    then: Callable[[Sequence[Picture]], Sequence[Request]] | None = None,
) -> int:
    """Submits requests and follows them to the end; returns the exit code.

    Args:
        then: what is asked for when all of these have ended, by the pictures that came of them.

    A request that fails is told, and the rest goes on; the code is then that of the first failure. When the program
    is interrupted, what is running is cancelled within a step and a save in progress finished before this is left.
    """
    progress = Progress()
    of = len(requests)
    ended = 0
    failures: list[Failed] = []
    made: list[Picture] = []
    kept: set[int] = set()
    started = time.monotonic()
    try:
        group = uuid.uuid4().hex[:12] if of > 1 else None
        progress.show("starting", now=True)
        mine = {engine.submit(_unseen(request), group): request for request in requests}
        for event in engine.events():
            match event:
                case Queued():
                    pass
                case Kept(job_id, picture) if job_id in mine:
                    progress.clear()
                    _print(picture, as_json)
                    kept.add(picture.id)
                case Done(job_id, pictures) if job_id in mine:
                    progress.clear()
                    for picture in pictures:
                        if picture.id not in kept:
                            _print(picture, as_json)
                    made += pictures
                    ended += 1
                case Failed(job_id=job_id) if job_id in mine:
                    progress.clear()
                    told = any(f.message == event.message for f in failures)
                    failures.append(event)
                    ended += 1
                    # of files that were named one by one, each may be wrong by itself
                    if event.lasting and not (event.exit_code == 2 and isinstance(mine[job_id], Finish)):
                        break
                    if ended < of and not told:
                        what = "download" if isinstance(mine[job_id], Pull) else "picture"
                        progress.say(f"note: a {what} failed, the rest goes on: {event.message}")
                case Cancelled(job_id) if job_id in mine:
                    ended += 1
                case Scored(path=path, scorer=scorer, score=score):
                    progress.clear()
                    if as_json:
                        emit({"path": path, "scorer": scorer, "score": score})
                    else:
                        print(f"{score:7.3f}  {scorer}  {one_line(path)}", flush=True)
                case Saved(path=path, bytes=size):
                    progress.clear()
                    if as_json:
                        emit({"path": path, "bytes": size})
                    else:
                        print(one_line(path), flush=True)
                case Noted(level, text):
                    progress.say(f"{'note' if level == 'info' else 'warning'}: {text}")
                case Closed():
                    break
                case _:
                    progress.show(_words(event, ended, of, started), now=isinstance(event, Loading))
            if ended >= of and then is not None:
                more, then = then(made) if made else (), None
                of += len(more)
                mine |= {engine.submit(_unseen(request), group): request for request in more}
            if ended >= of:
                break
    finally:
        progress.clear()
        engine.close()
    if failures:
        raise JobFailed(failures[0])
    return 0


def _unseen(request: Request) -> Request:
    """Without previews, which nobody looks at here: they take their time from the picture."""
    return replace(request, preview_every=0) if isinstance(request, Generate) else request


def _words(event: Event, ended: int, of: int, started: float) -> str:
    """What the progress line says after an event."""
    which = f"picture {ended + 1} of {of} · " if of > 1 else ""
    match event:
        case Loading(what=what, fraction=fraction):
            return f"{which}loading {what} {wording.bar(fraction, 10)}"
        case Stepped(step=step, of=steps, seconds=seconds):
            # what is known of this picture, and of those that follow it if they go on like this
            left = (steps - step) * seconds + (of - ended - 1) * steps * seconds
            return (
                f"{which}step {step}/{steps} {wording.bar(step / steps, 16)} "
                f"{wording.duration(seconds)}/step · {wording.duration(left)} left"
            )
        case Pulling():
            return _pulled(event)
        case Finishing(what=what, fraction=fraction):
            return f"{which}{what}" if fraction is None else f"{which}{what} {wording.bar(fraction, 16)}"
        case Started() | Kept() | Previewed() | Sketched() | Vitals() | Gauged():
            return f"{which}working · {wording.duration(time.monotonic() - started)}"
        case _:
            return which


def _pulled(event: Pulling) -> str:
    """'3/17 unet/model.safetensors 41 % · 2.1 of 6.9 GB ███▏      · 85 MB/s · 57 s left'."""
    share = event.done / event.of if event.of else None
    left = f" · {wording.duration((event.of - event.done) / event.rate)} left" if event.rate > 0 else ""
    rate = f" · {wording.bytes_(event.rate)}/s" if event.rate > 0 else ""
    file = f"{100 * event.file_done // event.file_of if event.file_of else 100} %"
    return (
        f"{event.number}/{event.files} {event.file} {file} · {wording.bytes_(event.done)} of "
        f"{wording.bytes_(event.of)} {wording.bar(share, 16)}{rate}{left}"
    )


def _print(picture: Picture, as_json: bool) -> None:
    if as_json:
        emit(picture.to_json())
        return
    # a script is given the path as it is, a terminal without what it would obey
    print(one_line(picture.path) if sys.stdout.isatty() else picture.path, flush=True)
    score = "".join(f" · {k} {v:.2f}" for k, v in picture.scores.items())
    r = picture.request
    took = wording.duration(picture.seconds.total)
    if r.finish:
        print(f"  {r.finish[-1].told} · {picture.width}x{picture.height}{score} · {took}", file=sys.stderr)
        return
    seed = f"seed {r.seed}"
    if r.variation_strength > 0:
        seed += f" · variation {r.variation_strength:g} to seed {r.variation_seed}"
    model = f"{r.model} · mix {shares.told(r.mix)}" if r.mix else r.model
    print(
        f"  {seed} · {model} · {wording.plural(r.num_inference_steps, 'step')} · guidance {r.guidance_scale:g}"
        f"{score} · {took}",
        file=sys.stderr,
    )
