"""Facts of this machine, found without torch: processor, memory, GPUs and their driver, free disk.

Nothing here raises, needs a network, or waits longer than a few seconds: what can't be found is None or empty.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from engines import nvml

Version: TypeAlias = tuple[int, int]
"(major, minor) of CUDA, or of a GPU's compute capability."

GPU_SECONDS = 6.0
"How long nvidia-smi may take, all calls together; without persistence mode it wakes every card first."
NVML_SECONDS = 3.0
"How long the driver's library may take."
ALSO_IN = ("/usr/lib/wsl/lib", "/usr/local/nvidia/bin", "/usr/bin")
"Where nvidia-smi lies when the path lacks it: in WSL and in containers."
POLL = 0.02
"Seconds between two looks at a child process."


@dataclass(frozen=True, slots=True)
class Memory:
    """The main memory that this process may use."""

    total: int
    "Bytes: the machine's, or the limit of its container (cgroup) where that is lower."
    available: int
    "Bytes that can be had without swapping."
    limited: bool
    "A container's limit is what counts."


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU as its driver tells it."""

    index: int
    "The driver's number; torch's differs where CUDA_VISIBLE_DEVICES or CUDA_DEVICE_ORDER says so."
    name: str
    "For instance 'NVIDIA H100 80GB HBM3'."
    total: int | None
    "Bytes of memory; None if the driver doesn't tell."
    used: int | None
    "Bytes that all programs hold together."
    capability: Version | None
    "Compute capability, for instance (9, 0)."
    temperature: int | None = None
    "°C; None if the driver doesn't tell."
    utilisation: int | None = None
    "Percent of the last second or less in which anything ran on it."


@dataclass(frozen=True, slots=True)
class Nvidia:
    """What NVIDIA's driver tells."""

    gpus: tuple[Gpu, ...] = ()
    "In the driver's order."
    driver: str = ""
    "For instance '580.65.06'; empty if unknown."
    cuda: Version | None = None
    "The newest CUDA that the driver can run."
    problem: str = ""
    "One line: why a GPU that seems to be there can't be asked; empty if all is well or there is none."
    hint: str = ""
    "One line: what to do about the problem."


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine."""

    system: str
    "For instance 'Linux 6.1 x86_64'."
    cpu: str
    "The processor's name."
    cores: int
    "Logical cores that this process may run on."
    quota: float | None
    "Cores' worth of time that a container gets; None if there is no such limit."
    memory: Memory
    "Main memory."
    nvidia: Nvidia
    "NVIDIA GPUs."
    others: tuple[str, ...]
    "GPUs of other makers, by name."


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child process said."""

    output: str
    "Its stdout."
    code: int | None
    "Its exit code (minus the signal's number if one ended it); None if it was ended for taking too long."


def look() -> Machine:
    """Everything at once; takes as long as nvidia-smi and its library do, GPU_SECONDS and NVML_SECONDS at most."""
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        quota=cpu_quota(),
        memory=memory(),
        nvidia=measured(nvidia()),
        others=other_gpus(),
    )


# ── processor and memory ────────────────────────────────────────────────────────────────────────────────────────────


def cpu_name(root: Path = Path("/")) -> str:
    """The processor's name; `root` is where /proc is looked for."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        if line.startswith(("model name", "Model")) and line.partition(":")[2].strip():
            return " ".join(line.partition(":")[2].split())
    if platform.system() == "Darwin":
        named = ask(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], 2).output.strip()
        if named:
            return named
    return platform.processor() or platform.machine() or "cpu"


def memory(root: Path = Path("/")) -> Memory:
    """Main memory, with the limits of cgroups v2 and v1 counted; `root` is where /proc and /sys are looked for."""
    import psutil

    whole = psutil.virtual_memory()
    total, available, limited = int(whole.total), int(whole.available), False
    for group, limit_name, used_name, cache_name in _memory_groups(root):
        limit = _number(group / limit_name)
        if limit is None or limit >= whole.total:  # v1 writes a number near 2^63 for "none"
            continue
        used = _number(group / used_name) or 0
        # the cache of files that nobody needs now counts as used there, but is given back when memory runs short
        idle = re.search(rf"^{cache_name} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
        left = max(limit - max(used - (int(idle[1]) if idle else 0), 0), 0)
        total, available, limited = min(total, limit), min(available, left), True
    return Memory(total, available, limited)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """How many cores' worth of time this process gets at most, from cgroups v2 and v1; None if that isn't limited."""
    quotas: list[float] = []
    for version, group in _groups(root, "cpu"):
        if version == 2:
            told = _text(group / "cpu.max").split()
        else:
            told = [_text(group / "cpu.cfs_quota_us").strip(), _text(group / "cpu.cfs_period_us").strip()]
        if len(told) == 2 and told[0].isdigit() and told[1].isdigit() and int(told[1]) > 0:
            quotas.append(int(told[0]) / int(told[1]))
    return min(quotas, default=None)


def _memory_groups(root: Path) -> list[tuple[Path, str, str, str]]:
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }
    return [(group, *names[version]) for version, group in _groups(root, "memory")]


def _groups(root: Path, controller: str) -> list[tuple[int, Path]]:
    """(version, folder) of every cgroup above this process that may limit it.

    A container often sees its own group as the root of the mount, while /proc names it by the host's path: so every
    ancestor up to the mount is taken, and those that aren't there say nothing.
    """
    found: list[tuple[int, Path]] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            version, mounts = 2, [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif controller in controllers.split(","):
            version, mounts = 1, [root / "sys/fs/cgroup" / controller, root / "sys/fs/cgroup" / controllers]
        else:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        for mount in dict.fromkeys(mounts):
            found += [(version, mount.joinpath(*parts[:depth])) for depth in range(len(parts), -1, -1)]
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    told = _text(path).strip()
    return int(told) if told.isdigit() else None


# ── GPUs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_FIELDS = ("index", "name", "memory.total", "memory.used", "driver_version", "compute_cap")


def nvidia(seconds: float = GPU_SECONDS, root: Path = Path("/")) -> Nvidia:
    """What `nvidia-smi` tells, in `seconds` at most; `root` is where /proc and /sys are looked for."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *ALSO_IN])
    program = shutil.which("nvidia-smi", path=places)
    module = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", _text(root / "proc/driver/nvidia/version"))
    driver = module[1] if module else ""
    if program is None:
        if driver:
            hint = "install the driver's tools (nvidia-utils), or in a container let them in: --gpus all"
            return Nvidia((), driver, driver_cuda(driver), "nvidia-smi is missing beside the NVIDIA driver", hint)
        if _on_the_bus(root, "0x10de"):
            hint = "install NVIDIA's driver, and restart"
            return Nvidia(problem="an NVIDIA GPU is built in, but its driver is not installed", hint=hint)
        return Nvidia()
    until = time.monotonic() + seconds
    told, gpus = Answer("", None), []
    for fields in (_FIELDS, _FIELDS[:-1]):  # drivers before 510 don't know compute_cap, and refuse the whole question
        command = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
        told = ask(command, max(until - time.monotonic(), 0.1))
        rows = [_gpu(line) for line in told.output.splitlines()] if told.code == 0 else []
        gpus = [row for row in rows if row is not None]
        if gpus or told.code is None:
            break
    if gpus:
        driver = gpus[0][1] or driver
        header = ask([program], max(until - time.monotonic(), 0.1)).output
        # "CUDA UMD Version" since driver 610
        named = re.search(r"\bCUDA(?: UMD)? Version\s*:\s*(\d{1,3})\.(\d{1,2})\b", header)
        cuda = (int(named[1]), int(named[2])) if named else driver_cuda(driver)
        return Nvidia(tuple(gpu for gpu, _ in gpus), driver, cuda)
    if "No devices were found" in told.output:
        return Nvidia(driver=driver, cuda=driver_cuda(driver))
    hint = "restart the machine"
    if told.code is None:
        problem = f"nvidia-smi did not answer within {seconds:g} s: the NVIDIA driver hangs"
    elif "mismatch" in told.output:
        problem = "the NVIDIA driver was updated under the running system: its halves no longer fit"
    else:
        lines = (line.strip() for line in told.output.splitlines())
        said = next((line for line in lines if line and line.isprintable()), "")
        problem = f"nvidia-smi failed (exit {told.code}){': ' + said[:120] if said else ''}"
        hint = "restart the machine; if that does not help, install NVIDIA's driver anew"
    return Nvidia((), driver, driver_cuda(driver), problem, hint)


def measured(told: Nvidia, libraries: Sequence[str] = nvml.LIBRARIES) -> Nvidia:
    """The same, with how warm and how busy each GPU is."""
    seen = nvml.look(NVML_SECONDS, libraries) if told.gpus else {}

    def more(gpu: Gpu) -> Gpu:
        now = seen.get(gpu.index, nvml.Reading())
        return replace(gpu, temperature=now.temperature, utilisation=now.utilisation)

    return replace(told, gpus=tuple(more(gpu) for gpu in told.gpus))


def _gpu(line: str) -> tuple[Gpu, str] | None:
    """One row of the answer, and the driver in it; None if it is no such row."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) == len(_FIELDS) - 1:
        cells.append("")
    if len(cells) != len(_FIELDS) or not cells[0].isdigit() or not cells[1]:
        return None
    total, used = (int(cell) * 2**20 if cell.isdigit() else None for cell in cells[2:4])  # "[N/A]" where unknown
    driver = cells[4] if re.fullmatch(r"\d+(\.\d+)+", cells[4]) else ""
    capability = re.fullmatch(r"(\d{1,2})\.(\d)", cells[5])
    known = (int(capability[1]), int(capability[2])) if capability else None
    return Gpu(int(cells[0]), cells[1], total, used, known), driver


_DRIVERS: tuple[tuple[int, Version], ...] = (
    (610, (13, 3)), (595, (13, 2)), (590, (13, 1)), (580, (13, 0)), (575, (12, 9)), (570, (12, 8)), (565, (12, 7)),
    (560, (12, 6)), (555, (12, 5)), (550, (12, 4)), (545, (12, 3)), (535, (12, 2)), (530, (12, 1)), (525, (12, 0)),
    (520, (11, 8)), (515, (11, 7)), (510, (11, 6)), (495, (11, 5)), (470, (11, 4)), (465, (11, 3)), (460, (11, 2)),
    (455, (11, 1)), (450, (11, 0)),
)  # fmt: skip
"The first driver branch that runs each CUDA."


def driver_cuda(driver: str) -> Version | None:
    """The newest CUDA that a driver runs, by its branch: '550.54.14' → (12, 4)."""
    branch = driver.partition(".")[0]
    if not branch.isdigit():
        return None
    return next((cuda for first, cuda in _DRIVERS if int(branch) >= first), (10, 0))


def other_gpus(root: Path = Path("/")) -> tuple[str, ...]:
    """GPUs that aren't NVIDIA's and that some build of torch could use, as far as that is easily seen."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return ("Apple GPU (Metal)",)
    names = []
    for card in _on_the_bus(root, "0x1002"):
        # the compute interface is what ROCm needs; a card without it is only a display
        names.append(f"AMD GPU {card}{'' if (root / 'dev/kfd').exists() else ' (no /dev/kfd: ROCm is not set up)'}")
    return tuple(names)


def _on_the_bus(root: Path, vendor: str) -> list[str]:
    """Device ids of the display controllers and accelerators that a maker has on the PCI bus."""
    try:
        slots = sorted((root / "sys/bus/pci/devices").iterdir())
    except OSError:
        return []
    kinds = ("0x0300", "0x0302", "0x0380", "0x1200")
    return [
        _text(slot / "device").strip()
        for slot in slots
        if _text(slot / "vendor").strip() == vendor and _text(slot / "class").strip()[:6] in kinds
    ]


# ── disk, and child processes ───────────────────────────────────────────────────────────────────────────────────────


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    for each in (path, *path.parents):
        try:
            if each.exists():
                return each
        except OSError:  # a parent that may not be entered
            continue
    return Path(path.anchor or ".")


def free_disk(path: Path) -> int | None:
    """Bytes that this user can still write where `path` is, or will be; None if that can't be told."""
    try:
        return shutil.disk_usage(existing(path)).free
    except OSError:
        return None


def ask(command: Sequence[str], seconds: float, waiting: Callable[[], object] | None = None) -> Answer:
    """Runs a program without input, and ends it and its children if it takes longer than `seconds`.

    Its stderr goes where this process's descriptor 2 does. Unlike subprocess.run it never waits for what can't be
    ended: a child that hangs inside a broken driver, or a grandchild that holds the pipe.

    Args:
        command: the program and its arguments.
        seconds: how long it may take.
        waiting: called some fifty times a second meanwhile.
    """
    with tempfile.TemporaryFile() as out:
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, start_new_session=True)
        except OSError as e:
            return Answer(e.strerror or str(e), 127)
        until = time.monotonic() + seconds
        code: int | None = None
        try:
            while (code := child.poll()) is None and time.monotonic() < until:
                if waiting is not None:
                    waiting()
                time.sleep(POLL)
        finally:
            if code is None:
                with contextlib.suppress(OSError):
                    os.killpg(child.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(1)
        out.seek(0)
        return Answer(out.read(1_000_000).decode(errors="replace"), code)
