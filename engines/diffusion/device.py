"""Which device computes, in what precision, and how much memory it has."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engines import files, machine
from engines.errors import InvalidRequest, LoadError, OutOfMemory, SafelightError
from engines.nvml import Card
from engines.options import check_device
from engines.requests import Precision

log = logging.getLogger(__name__)

DRIVER_SECONDS = 3.0
"How long nvidia-smi may take."
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

BF16_MUST_BE = 1.3
"How much quicker bf16 must be than fp32 on a CPU to be worth its eight bits of precision."
SMALL_WIDTH = 256
"""Channels below which a CPU isn't asked: time goes into calling the layers then, not into computing them. Measured on
two cores with bf16 units: a UNet of 128 channels takes 19.8 ms in fp32 and 19.2 in bf16, while its layers alone look
two to four times quicker."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where tensors live."""

    torch: torch.device
    "For instance device('cuda', 1)."
    title: str
    "For people: 'cuda:1 NVIDIA H100' or 'cpu, 2 threads'."
    note: str = ""
    "Why this one, where that isn't plain."
    card: Card | None = None
    "Which of the driver's GPUs it is; None for none."


def choose(wanted: str = "") -> Device:
    """The device to compute on: the one that was named, else the GPU with most free memory, else MPS, else the CPU.

    `wanted` is cpu, cuda, cuda:N or mps; N counts within CUDA_VISIBLE_DEVICES, as torch does.

    Raises:
        InvalidRequest: no device is written so.
        LoadError: this machine or this build of torch doesn't have it.
    """
    check_device(wanted)
    wanted = wanted.strip().lower()
    if wanted == "cpu":
        return _cpu()
    if wanted == "mps" or (not wanted and not torch.cuda.is_available() and torch.backends.mps.is_available()):
        if not torch.backends.mps.is_available():
            raise LoadError("this machine or this build of torch has no mps device", "leave the device out")
        return Device(torch.device("mps"), "mps")
    if not torch.cuda.is_available():
        if wanted:
            raise LoadError(
                f"torch {torch.__version__} can't use a GPU here", "safelight doctor says why; --device cpu works"
            )
        return _cpu()
    count = torch.cuda.device_count()
    if ":" in wanted:
        index = int(wanted.partition(":")[2])
        if index >= count:
            raise LoadError(f"there is no {wanted}: {count} GPU(s) are visible", "mind CUDA_VISIBLE_DEVICES")
        return _cuda(index, "")
    if count == 1:
        return _cuda(0, "")
    free = _free_of_all(count)
    if not free:
        return _cuda(0, f"the first of {count} GPUs: none tells its free memory")
    return _cuda(max(free, key=lambda i: free[i]), f"most free memory of {count} GPUs")


def _free_of_all(count: int) -> dict[int, int]:
    """Free bytes by torch's index, of the GPUs that tell.

    The driver's own tool is asked first: torch can only look at a card by opening a context on it, which holds some
    hundred megabytes of every card for as long as this process lives, and fails on one that is full.
    """
    command = ("nvidia-smi", "--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits")
    told: dict[str, int] = {}
    for line in machine.ask(command, DRIVER_SECONDS).output.splitlines():
        uuid, _, mebibytes = line.partition(",")
        if mebibytes.strip().isdigit():
            told[uuid.strip().removeprefix("GPU-").lower()] = int(mebibytes) << 20
    free = {}
    for i in range(count):
        try:
            uuid = str(getattr(torch.cuda.get_device_properties(i), "uuid", "")).lower()
            free[i] = told[uuid] if uuid in told else torch.cuda.mem_get_info(i)[0]
        except RuntimeError as e:
            log.warning("cuda:%d can't be asked for its memory: %s", i, e)
    return free


def _cuda(index: int, note: str) -> Device:
    title = f"cuda:{index} {torch.cuda.get_device_name(index)}"
    return Device(torch.device("cuda", index), title, note, _card(torch.cuda.get_device_properties(index)))


def _card(properties: Any) -> Card:
    """What the driver knows a GPU by: torch's number is another where CUDA_VISIBLE_DEVICES or CUDA_DEVICE_ORDER says
    so, and torch before 2.8 doesn't tell the bus."""
    bus = ""
    if hasattr(properties, "pci_bus_id"):
        domain, number = getattr(properties, "pci_domain_id", 0), getattr(properties, "pci_device_id", 0)
        bus = f"{domain:08x}:{properties.pci_bus_id:02x}:{number:02x}.0"
    return Card(str(getattr(properties, "uuid", "")).lower(), bus)


def _cpu() -> Device:
    threads = torch.get_num_threads()
    return Device(torch.device("cpu"), f"cpu, {threads} thread{'s' if threads != 1 else ''}")


def dtype_for(device: Device, wanted: Precision, width: int, cache: Path | None = None) -> torch.dtype:
    """What the denoiser and the text encoders compute in.

    Args:
        device: where.
        wanted: a precision that was asked for, or auto: fp16 on CUDA and MPS; on a CPU bf16 if a probe with layers of
            `width` channels (SMALL_WIDTH at least) runs BF16_MUST_BE times quicker in it than in fp32. The probe's
            answer is kept in `cache`, so that the same seed gives the same pixels on later days.

    Raises:
        InvalidRequest: the device can't compute in what was asked for.
    """
    if wanted not in ("auto", "fp8"):  # fp8 says how the weights are stored, not what is computed in
        dtype = DTYPES[wanted]
        if device.torch.type == "cpu" and dtype == torch.float16:
            raise InvalidRequest("fp16 is slow and inexact on a CPU", "use bf16 or fp32", "precision")
        return dtype
    if device.torch.type in ("cuda", "mps"):
        return torch.float16
    return _cpu_dtype(width, cache) if width >= SMALL_WIDTH else torch.float32


def vae_dtype(device: Device, dtype: torch.dtype, force_upcast: bool) -> torch.dtype:
    """What the VAE computes in: SDXL's own (`force_upcast`) overflows in fp16, so it gets bf16 where the GPU has it,
    else fp32."""
    if dtype != torch.float16 or not force_upcast:
        return dtype
    if device.torch.type == "cuda" and torch.cuda.get_device_capability(device.torch)[0] >= 8:
        return torch.bfloat16
    return torch.float32


def _cpu_dtype(width: int, cache: Path | None) -> torch.dtype:
    path = None if cache is None else cache / "cpu-precision.json"
    key = f"{machine.cpu_name()} torch {torch.__version__} threads {torch.get_num_threads()} width {width}"
    known: dict[str, str] = {}
    if path is not None:
        try:
            known = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            known = {}
    if known.get(key) not in DTYPES:
        quicker = _probe(torch.float32, width) / _probe(torch.bfloat16, width)
        known[key] = "bf16" if quicker >= BF16_MUST_BE else "fp32"
        if path is not None:
            try:
                files.replace(path, json.dumps(known, indent=1).encode())
            except SafelightError:
                pass  # without a cache folder the probe runs again next time
    return DTYPES[known[key]]


@torch.inference_mode()
def _probe(dtype: torch.dtype, width: int) -> float:
    """Seconds for one residual block and one attention block of a denoiser, the best of seven."""
    nn = torch.nn
    residual = nn.Sequential(
        nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
        nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
    )  # fmt: skip
    norm, qkv, out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
    feed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
    for module in (residual, norm, qkv, out, feed):
        module.to(dtype)
    x = torch.randn(2, width, 16, 16, dtype=dtype)
    heads = max(width // 64, 1)
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        tokens = (x + residual(x)).flatten(2).transpose(1, 2)
        q, k, v = qkv(norm(tokens)).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + out(attended)
        feed(tokens)
        best = min(best, time.perf_counter() - start)
    return best


def memory(device: Device) -> tuple[int, int]:
    """(used, total) bytes: of the whole GPU, or of this process and this machine on a CPU."""
    if device.torch.type == "cuda":
        free, total = torch.cuda.mem_get_info(device.torch)
        return total - free, total
    import psutil

    return psutil.Process().memory_info().rss, machine.memory().total


class Peak:
    """The most memory that is used from now on.

    Of a GPU it is what torch has allocated; of a CPU what this process has resident, on Linux (proc(5): writing 5 to
    clear_refs sets VmHWM back); of Apple's GPUs what the driver holds in the end, for torch gives nothing back to it.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        if device.torch.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device.torch)
        elif device.torch.type == "cpu":
            self._reset = False
            try:
                Path("/proc/self/clear_refs").write_text("5")
                self._reset = True
            except OSError:
                pass  # not Linux, or not allowed

    def read(self) -> int:
        """Bytes; 0 where that can't be known."""
        if self._device.torch.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device.torch))
        if self._device.torch.type == "mps":
            return int(torch.mps.driver_allocated_memory())
        if self._reset:
            try:
                found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
            except OSError:
                found = None
            if found:
                return int(found[1]) * 1024
        return 0


def free_memory(device: Device) -> int:
    """Bytes that can still be had: the GPU's free ones and those that torch holds without using, or the machine's."""
    if device.torch.type == "cuda":
        idle = torch.cuda.memory_reserved(device.torch) - torch.cuda.memory_allocated(device.torch)
        return int(torch.cuda.mem_get_info(device.torch)[0] + idle)
    return machine.memory().available


def release(device: Device) -> None:
    """Hands memory that nothing uses any more back to the device."""
    import gc

    gc.collect()
    if device.torch.type == "cuda":
        torch.cuda.empty_cache()
    elif device.torch.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and (
        "not enough memory" in str(error) or "out of memory" in str(error) or "alloc_cpu" in str(error)
    )


def out_of_memory(device: Device) -> OutOfMemory:
    """The error to tell, with the reason told apart: a card that is too small, or one that others fill."""
    if device.torch.type != "cuda":
        return OutOfMemory("the machine's memory is used up", "make the picture smaller, or close other programs")
    free, total = torch.cuda.mem_get_info(device.torch)
    return blame(device.title, free, total, torch.cuda.memory_reserved(device.torch))


def blame(title: str, free: int, total: int, ours: int) -> OutOfMemory:
    """OutOfMemory for a card with `free` of `total` bytes, of which this process holds `ours`."""
    others = max(total - free - ours, 0)
    if others > 0.25 * total:
        return OutOfMemory(
            f"{title} is out of memory: other programs hold {_gb(others)} of its {_gb(total)}",
            "free it (nvidia-smi shows who holds it), or choose another with --device cuda:N",
        )
    return OutOfMemory(
        f"{title} is too small for this: all of its {_gb(total)} are used", "make the picture or the batch smaller"
    )


def _gb(n: int) -> str:
    return f"{n / 2**30:.1f} GiB"


def set_threads(threads: int) -> None:
    """CPU threads for torch; 0 takes OMP_NUM_THREADS, else one for every core that this process, or its container, may
    use."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if quota := machine.cpu_quota():
        available = max(min(available, math.ceil(quota)), 1)
    said = os.environ.get("OMP_NUM_THREADS", "")
    wanted = threads or (int(said) if said.isascii() and said.isdecimal() else 0)
    torch.set_num_threads(min(wanted, available) if wanted > 0 else available)


class Pace:
    """Keeps the host at most one step ahead of a GPU, so that a step that is told is done, times are true, and a stop
    takes effect within a step. Waiting for the step before the last costs nothing: the GPU has the last one to do."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._before: torch.cuda.Event | None = None

    def step(self) -> None:
        """A step was launched."""
        if self._device.torch.type == "cuda":
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self._device.torch))
            if self._before is not None:
                self._before.synchronize()
            self._before = event
        elif self._device.torch.type == "mps":
            torch.mps.synchronize()

    def finish(self) -> None:
        """Waits for the last step."""
        if self._before is not None:
            self._before.synchronize()
