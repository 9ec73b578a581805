"""How warm and how busy the device is that pictures are made on, while somebody listens.

A thread looks every PERIOD seconds: at a GPU through its driver, else at the processor and main memory. It tells only
what moved by a unit that people are shown, so that a screen over a slow line is left alone.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engines.events import Gauged

if TYPE_CHECKING:  # ctypes takes ten milliseconds, which the first paint would wait for: the gauge's thread imports it
    from engines.nvml import Card

log = logging.getLogger(__name__)

PERIOD = 2.0
"Seconds between two looks."
DEGREE, PERCENT, WATTS, LOAD = 1, 5, 5, 0.5
"Units in which values are told."
LEAST_MEMORY = 10**8
"Bytes: the unit of memory where that is more than a 200th of all."
STICKY = 0.75
"Units by which a value has to be off before another is told; half of one would flicker between two."
SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "x86_pkg_temp", "cpu-thermal", "soc_thermal")
"Names of the sensors that are the processor's, in hwmon and among the thermal zones."


class Gauge:
    """Measures one device, and tells what changed.

    Args:
        tell: takes what is told, in the gauge's own thread.
        period: seconds between two looks.
        root: where /proc and /sys are looked for.
        libraries: where NVIDIA's is looked for; None for where it usually lies.
    """

    def __init__(
        self,
        tell: Callable[[Gauged], object],
        period: float = PERIOD,
        root: Path = Path("/"),
        libraries: Sequence[str] | None = None,
    ) -> None:
        self._tell = tell
        self._period = period
        self._root = root
        self._libraries = libraries
        self._lock = threading.Lock()
        self._known = threading.Event()
        self._card: Card | None = None
        self._listeners = 0
        self._ending = threading.Event()

    def over(self, card: Card | None) -> None:
        """What is measured from now on: a GPU, or the processor. Before it is known nothing is."""
        self._card = card
        self._known.set()

    @contextmanager
    def listened(self) -> Iterator[None]:
        """While anybody is in here, it measures."""
        with self._lock:
            self._listeners += 1
            if self._listeners == 1:
                self._ending = threading.Event()
                args = (self._ending,)
                threading.Thread(target=self._run, args=args, name="safelight-gauge", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._listeners -= 1
                if not self._listeners:
                    self._ending.set()

    def _run(self, ending: threading.Event) -> None:
        while not self._known.wait(self._period):
            if ending.is_set():
                return
        try:
            look = self._over_gpu(self._card) if self._card is not None else self._over_cpu()
            told: Gauged | None = None
            for seen in look:
                if ending.is_set():
                    break
                now = steadied(seen, told)
                if now != told and now != Gauged():
                    self._tell(now)
                    told = now
                ending.wait(self._period)
            look.close()
        except Exception:  # whatever a sensor does, it is not worth a picture
            log.exception("measuring the device")

    def _over_gpu(self, card: Card) -> Generator[Gauged, None, None]:
        from engines.nvml import LIBRARIES, Nvml

        nvml = Nvml.open(LIBRARIES if self._libraries is None else self._libraries)
        if nvml is None:
            return
        try:
            handle = nvml.find(card)
            while handle is not None:
                seen = nvml.read(handle)
                yield Gauged(seen.temperature, seen.utilisation, seen.power, seen.used, seen.total)
        finally:
            nvml.close()

    def _over_cpu(self) -> Generator[Gauged, None, None]:
        from engines import machine

        before = cpu_times(self._root)
        while True:
            now = cpu_times(self._root)
            busy = None
            if now and before and now[1] > before[1]:
                busy = min(100.0, max(0.0, 100 * (now[0] - before[0]) / (now[1] - before[1])))
            before = now
            memory = machine.memory(self._root)
            used = max(memory.total - memory.available, 0)
            yield Gauged(cpu_temperature(self._root), busy, None, used, memory.total, load())


def steadied(seen: Gauged, told: Gauged | None) -> Gauged:
    """What was seen in the units that are told, and as it was told before where it hardly moved."""
    before = told or Gauged()
    memory = max(LEAST_MEMORY, (seen.memory_total or 0) // 200)
    return Gauged(
        _steady(seen.temperature, before.temperature, DEGREE),
        _steady(seen.utilisation, before.utilisation, PERCENT),
        _steady(seen.power, before.power, WATTS),
        _steady(seen.memory_used, before.memory_used, memory),
        seen.memory_total,
        _steady(seen.load, before.load, LOAD),
    )


def _steady(seen: float | None, before: float | None, unit: float) -> float | None:
    if seen is None:
        return None
    if before is not None and abs(seen - before) < STICKY * unit:
        return before
    return round(seen / unit) * unit


# ── the processor ───────────────────────────────────────────────────────────────────────────────────────────────────


def cpu_times(root: Path = Path("/")) -> tuple[float, float] | None:
    """Time that all cores together have worked since the machine was started, and worked or waited; None where the
    system doesn't tell."""
    try:
        lines = (root / "proc/stat").read_text().splitlines()
        fields = [int(field) for field in lines[0].split()[1:9]]  # what follows is counted in user and nice already
    except (OSError, ValueError, IndexError):
        return None
    if len(fields) < 5:
        return None
    return float(sum(fields) - fields[3] - fields[4]), float(sum(fields))  # less idle and iowait


def cpu_temperature(root: Path = Path("/")) -> float | None:
    """°C of the hottest of the processor's sensors; None where there is none, as in most virtual machines."""
    found = []
    for pattern, name, values in (
        ("sys/class/hwmon/hwmon*", "name", "temp*_input"),
        ("sys/class/thermal/thermal_zone*", "type", "temp"),
    ):
        for sensor in root.glob(pattern):
            try:
                if (sensor / name).read_text().strip() in SENSORS:
                    found += [int(value.read_text()) / 1000 for value in sensor.glob(values)]
            except (OSError, ValueError):
                continue  # one that sleeps, or is gone again
    return max((degrees for degrees in found if 0 < degrees < 150), default=None)


def load() -> float | None:
    """How many programs wanted a core, on average over a minute; None where the system doesn't tell."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None
