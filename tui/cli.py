"""The `safelight` command: where it starts, how it ends, and how it says what went wrong.

Importing this takes a millisecond, so that Ctrl+C is met from the beginning. `safelight` alone goes straight to the
workbench; everything else is a typer command in `tui.commands`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn


class Interrupted(BaseException):
    """A signal that ends the program in order. `code` is what the shell gets: 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


_interrupted: Interrupted | None = None
"What a signal has raised."


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and ends the process with its exit code, whatever threads are still doing."""
    _open_closed_streams()
    _catch_signals()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(given)
    except Interrupted as e:
        _say_goodbye()
        code = e.code
    except BrokenPipeError:
        code = 0  # whoever read our output has seen enough
    except SystemExit as e:  # typer's own way of meeting a closed pipe
        code = e.code if isinstance(e.code, int) else 1
    end(code)


def _run(given: list[str]) -> int:
    from engines.errors import SafelightError

    debug = "--debug" in given
    try:
        if not given:
            from tui.opening import open_workbench

            return open_workbench()
        from tui.commands import run

        return run(given)
    except SafelightError as e:
        if debug:
            import traceback

            traceback.print_exc()
        complain(e.message, e.hint)
        return e.exit_code
    except BrokenPipeError:
        raise
    except OSError as e:
        _log(given)
        if debug:
            import traceback

            traceback.print_exc()
        what = f"{e.filename}: " if e.filename else "the output can't be written: "
        complain(f"{what}{e.strerror or e}", "make room, or choose another place; the log has more")
        return 1
    except Exception as e:
        if _interrupted is not None:  # Python makes a RuntimeError of it in the middle of a class, 3.11 at least
            raise _interrupted from None
        _log(given)
        if debug:
            import traceback

            traceback.print_exc()
        said = str(e).strip().splitlines()
        complain(
            f"unexpected: {type(e).__name__}{': ' + said[0] if said else ''}",
            "run it again with --debug, or look into the log that safelight doctor names",
        )
        return 1


def _log(given: list[str]) -> None:
    """Writes the exception at hand to the log, also if it came before the log was opened."""
    import logging

    if not logging.getLogger().handlers:
        from engines import folders
        from tui import streams

        streams.open_log(folders.find().log, False)
    logging.getLogger(__name__).exception("safelight %s", given[:1])


def _say_goodbye() -> None:
    """Whatever was printed as a path is on disk; nothing else is."""
    try:
        print("interrupted", file=sys.stderr)
    except (OSError, ValueError):
        pass


def complain(message: str, hint: str) -> None:
    """One line `error: …` and one `hint: …` on stderr."""
    from tui.clean import one_line

    try:
        print(f"error: {one_line(message, 500)}", file=sys.stderr)
        print(f"hint: {one_line(hint or 'safelight --help', 500)}", file=sys.stderr)
    except (OSError, ValueError):
        pass  # nobody can be told; the exit code tells


def end(code: int) -> NoReturn:
    """Ends the process at once.

    A thread may still be inside torch's import or one of its kernels, and an interpreter that is torn down under it
    can crash; whatever must be kept is on disk by now.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    import logging

    logging.shutdown()
    os._exit(code)


def _open_closed_streams() -> None:
    """Puts something where the caller left descriptors 0, 1 or 2 closed: else the next file that is opened would get
    the number, and be written into by whatever prints."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        if getattr(sys, name) is None:
            stream = open(number, mode, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _catch_signals() -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        # a second one means at once
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, lambda number, frame: os._exit(128 + number))
        global _interrupted
        _interrupted = Interrupted(number)
        raise _interrupted

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, interrupt)


if __name__ == "__main__":
    main()
