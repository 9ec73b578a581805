"""What NVIDIA's driver measures of its GPUs, asked through its own library (NVML).

A binding of the eight calls that are needed, in place of a package: nvidia-ml-py is not among what torch brings, and is
two hundred calls more to pin. The functions and structs are those of nvml.h, whose layout never changes under a name.

Nothing here raises: what can't be had is None. A call may take long where the driver hangs, so ask from a thread.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass
from typing import Any

LIBRARIES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1", "/usr/local/nvidia/lib64/libnvidia-ml.so.1")
"By name, and where it lies in WSL and in containers that don't tell the linker."
CORE_SENSOR = 0


class _Utilisation(ctypes.Structure):
    _fields_ = (("gpu", c_uint), ("memory", c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


@dataclass(frozen=True, slots=True)
class Card:
    """Which GPU is meant, by what no CUDA_VISIBLE_DEVICES changes."""

    uuid: str = ""
    "As torch or the driver writes it, with or without 'GPU-' before it."
    bus: str = ""
    "Its place on the PCI bus, as '00000000:01:00.0'; where the UUID isn't known."


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a GPU; None where its driver doesn't tell."""

    temperature: int | None = None
    "°C."
    utilisation: int | None = None
    "Percent of the driver's last period (up to a second) in which anything ran on it."
    power: float | None = None
    "W."
    used: int | None = None
    "Bytes that all programs hold together."
    total: int | None = None
    "Bytes."


class Nvml:
    """The driver's library, opened. For one thread."""

    def __init__(self, library: Any) -> None:
        self._library = library

    @classmethod
    def open(cls, libraries: Sequence[str] = LIBRARIES) -> Nvml | None:
        """None without NVIDIA's driver."""
        for name in libraries:
            try:
                nvml = cls(ctypes.CDLL(name))
            except OSError:
                continue
            return nvml if nvml._call("nvmlInit_v2") else None
        return None

    def close(self) -> None:
        """Lets go of the driver."""
        self._call("nvmlShutdown")

    def find(self, card: Card) -> c_void_p | None:
        """The handle of a GPU."""
        handle = c_void_p()
        bare = card.uuid.removeprefix("GPU-")
        for uuid in (f"GPU-{bare}", f"MIG-{bare}", card.uuid) if card.uuid else ():
            if self._call("nvmlDeviceGetHandleByUUID", c_char_p(uuid.encode()), byref(handle)):
                return handle
        if card.bus and self._call("nvmlDeviceGetHandleByPciBusId_v2", c_char_p(card.bus.encode()), byref(handle)):
            return handle
        return None

    def read(self, handle: c_void_p) -> Reading:
        """How the GPU is now."""
        degrees, milliwatts, busy, memory = c_uint(), c_uint(), _Utilisation(), _Memory()
        warm = self._call("nvmlDeviceGetTemperature", handle, c_uint(CORE_SENSOR), byref(degrees))
        works = self._call("nvmlDeviceGetUtilizationRates", handle, byref(busy))
        draws = self._call("nvmlDeviceGetPowerUsage", handle, byref(milliwatts))
        holds = self._call("nvmlDeviceGetMemoryInfo", handle, byref(memory))
        return Reading(
            degrees.value if warm else None,
            busy.gpu if works else None,
            milliwatts.value / 1000 if draws else None,
            memory.used if holds else None,
            memory.total if holds else None,
        )

    def all(self) -> dict[int, Reading]:
        """All GPUs, by the driver's number."""
        count, found = c_uint(), dict[int, Reading]()
        if self._call("nvmlDeviceGetCount_v2", byref(count)):
            for index in range(count.value):
                handle = c_void_p()
                if self._call("nvmlDeviceGetHandleByIndex_v2", c_uint(index), byref(handle)):
                    found[index] = self.read(handle)
        return found

    def _call(self, name: str, *arguments: Any) -> bool:
        try:
            return int(getattr(self._library, name)(*arguments)) == 0
        except AttributeError:  # a driver older than the function
            return False


def look(seconds: float, libraries: Sequence[str] = LIBRARIES) -> dict[int, Reading]:
    """All GPUs by the driver's number; none if the driver doesn't answer within so many seconds."""
    found: dict[int, Reading] = {}

    def ask() -> None:
        if (nvml := Nvml.open(libraries)) is not None:
            found.update(nvml.all())
            nvml.close()

    asking = threading.Thread(target=ask, name="safelight-nvml", daemon=True)
    asking.start()
    asking.join(seconds)
    return {} if asking.is_alive() else found
