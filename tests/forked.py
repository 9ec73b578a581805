"""The command line as a process of its own, without the two seconds in which Python imports torch.

A server that has imported what a command needs forks for every command: the child has its own arguments, environment,
folder and streams, and runs the real entry point. What is tested of the start itself, of imports, or of signals
that come in the middle of it is run by `subprocess`, as is one command of each kind somewhere in the tests.

Libraries read HF_… when they are imported, and Python its locale when it starts, so there is a server for each such
environment.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
_servers: dict[tuple[tuple[str, str], ...], _Server] = {}


def run(
    arguments: Sequence[str],
    stdin: str | None = "",
    environment: dict[str, str] | None = None,
    program: str = "tui.cli",
) -> subprocess.CompletedProcess[str]:
    """`safelight ARGUMENTS` in this process's environment and more; what it wrote, and how it ended. `program` names
    another module, whose `main` is run.
    """
    wanted = {**os.environ, **(environment or {})}
    key = tuple(sorted((k, v) for k, v in wanted.items() if k.startswith(("HF_", "LC_", "LANG"))))
    if key not in _servers:
        _servers[key] = _Server(wanted)
    return _servers[key].run(arguments, stdin or "", wanted, program)


class _Server:
    def __init__(self, environment: dict[str, str]) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()], env=environment, cwd=ROOT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        atexit.register(self.close)

    def run(
        self, arguments: Sequence[str], stdin: str, environment: dict[str, str], program: str
    ) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile() as into, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            into.write(stdin.encode())
            into.seek(0)
            wanted = {"program": program, "arguments": list(arguments), "environment": environment, "cwd": os.getcwd()}
            told = json.dumps(wanted).encode()
            files = array.array("i", [into.fileno(), out.fileno(), err.fileno()])
            self._socket.sendmsg(
                [struct.pack("!I", len(told))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files.tobytes())]
            )
            self._socket.sendall(told)
            answer = self._socket.recv(4)
            if len(answer) != 4:
                raise RuntimeError("the server of forked commands is gone")
            (code,) = struct.unpack("!i", answer)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(list(arguments), code, *texts)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(10)


def _serve(connection: socket.socket) -> None:
    """Imports, then forks for every request until the other end is closed."""
    sys.path.insert(0, str(ROOT))
    import compel  # noqa: F401
    import diffusers
    import transformers
    from PIL import Image

    import engines.diffusion.darkroom
    import engines.local  # noqa: F401
    import tui.commands
    import tui.listing
    import tui.report  # noqa: F401

    Image.init()
    for name in ("AutoencoderKL", "AutoencoderTiny", "UNet2DConditionModel", "EulerDiscreteScheduler"):
        getattr(diffusers, name)
    for name in ("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPTokenizer", "CLIPModel"):
        getattr(transformers, name)
    gc.freeze()  # what is here is the same in every child
    while True:
        head, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * 4))
        if len(head) != 4:
            return
        files = array.array("i")
        files.frombytes(ancillary[0][2])
        left, told = struct.unpack("!I", head)[0], b""
        while len(told) < left:
            told += connection.recv(left - len(told))
        child = os.fork()
        if child == 0:
            connection.close()
            _become(json.loads(told), list(files))
        for file in files:
            os.close(file)
        _, status = os.waitpid(child, 0)
        connection.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))


def _become(wanted: dict[str, object], files: list[int]) -> None:
    """The child, which never returns: as if it had been started with these."""
    code = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.environ.clear()
        os.environ.update(wanted["environment"])  # type: ignore[call-overload]
        os.chdir(str(wanted["cwd"]))
        sys.argv = ["safelight", *wanted["arguments"]]  # type: ignore[misc]
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(one, signal.SIG_DFL if one != signal.SIGINT else signal.default_int_handler)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
        code = importlib.import_module(str(wanted["program"])).main() or 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
