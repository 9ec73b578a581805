"""How warm and how busy the device is: a driver's library of our own making, a /proc and a /sys of our own, silence."""

from __future__ import annotations

import ctypes
import queue
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from doing import do

from engines import catalogue, folders, gauges, nvml
from engines import machine as machines
from engines.events import Gauged
from engines.gauges import Gauge, steadied
from engines.local import LocalEngine
from engines.nvml import Card, Nvml, Reading
from engines.options import Options
from engines.requests import Warm
from engines.store import Store

GIB = 2**30
FIRST = Reading(61, 94, 312.4, 12 * GIB, 80 * GIB)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libnvidia-ml.so.1 with three GPUs."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("nvml.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    return library


def machine(root: Path, busy: int = 100, idle: int = 100) -> Path:
    """What a machine of two cores tells of itself under a root."""
    (root / "proc").mkdir(parents=True, exist_ok=True)
    (root / "proc/stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 7 7\ncpu0 1 1 1 1\n")
    for number, (name, degrees) in enumerate([("nvme", 80_000), ("k10temp", 55_600)]):
        sensor = root / f"sys/class/hwmon/hwmon{number}"
        sensor.mkdir(parents=True, exist_ok=True)
        (sensor / "name").write_text(f"{name}\n")
        (sensor / "temp1_input").write_text(f"{degrees}\n")
    return root


def heard(gauge: Gauge, told: queue.SimpleQueue[Gauged], seconds: float = 0.3) -> list[Gauged]:
    """All that is told within a time."""
    with gauge.listened():
        time.sleep(seconds)
    return [told.get() for _ in range(told.qsize())]


# ── a GPU ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("card", "found"),
    [
        (Card("GPU-aaaa-0"), FIRST),
        (Card("aaaa-0"), FIRST),  # as torch writes it
        (Card("bbbb-1", "00000000:41:00.0"), Reading(62, 94, 312.4, 12 * GIB, 80 * GIB)),  # a UUID that isn't known
        (Card("bbbb-1"), None),
        (Card(), None),
    ],
)
def test_a_gpu_is_found_by_what_no_variable_reorders(driver: Path, card: Card, found: Reading | None) -> None:
    opened = Nvml.open([str(driver)])
    assert opened is not None
    handle = opened.find(card)
    assert (None if handle is None else opened.read(handle)) == found
    opened.close()


def test_a_doctor_sees_all_gpus_and_what_one_does_not_tell(driver: Path) -> None:
    told = nvml.look(5, ["nowhere.so", str(driver)])
    assert told[0] == FIRST and list(told) == [0, 1, 2]
    assert told[2] == Reading(None, None, None, 12 * GIB, 80 * GIB)
    assert ctypes.CDLL(str(driver)).times_open() == 0  # and the driver is let go of


def test_a_doctors_gpus_are_measured_by_the_drivers_number(driver: Path) -> None:
    asked = machines.Nvidia(tuple(machines.Gpu(i, "NVIDIA", None, None, None) for i in (2, 1, 5)), "580.65.06")
    told = machines.measured(asked, [str(driver)])
    assert [(gpu.index, gpu.temperature, gpu.utilisation) for gpu in told.gpus] == [
        (2, None, None),
        (1, 62, 94),
        (5, None, None),
    ]
    assert machines.measured(asked, ["nowhere.so"]) == asked


def test_without_the_driver_nothing_is_told(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Nvml.open(["nowhere.so"]) is None and nvml.look(5, ["nowhere.so"]) == {}
    monkeypatch.setenv("NVML_REFUSES", "1")  # the library is there, and its driver is not
    assert Nvml.open([str(driver)]) is None


def test_a_library_that_lacks_a_function_tells_the_rest() -> None:
    class Old:
        def nvmlDeviceGetTemperature(self, handle: object, sensor: object, degrees: object) -> int:  # noqa: N802
            degrees._obj.value = 40  # type: ignore[attr-defined]
            return 0

    assert Nvml(Old()).read(ctypes.c_void_p(1)) == Reading(temperature=40)


def test_a_driver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nvml, "open", lambda *_: time.sleep(2))
    began = time.monotonic()
    assert nvml.look(0.05) == {}
    assert time.monotonic() - began < 1


def test_a_gpu_that_is_still_tells_once(driver: Path) -> None:
    told: queue.SimpleQueue[Gauged] = queue.SimpleQueue()
    gauge = Gauge(told.put, 0.02, libraries=[str(driver)])
    gauge.over(Card("aaaa-0"))
    (only,) = heard(gauge, told)
    assert (only.temperature, only.utilisation, only.power) == (61, 95, 310)
    assert only.memory_used == pytest.approx(12 * GIB, abs=0.5e9) and only.memory_total == 80 * GIB


def test_a_gpu_without_a_driver_that_tells_is_silent() -> None:
    told: queue.SimpleQueue[Gauged] = queue.SimpleQueue()
    gauge = Gauge(told.put, 0.02, libraries=["nowhere.so"])
    gauge.over(Card("aaaa-0"))
    assert heard(gauge, told, 0.1) == []


def test_torch_tells_which_card_it_means() -> None:
    from engines.diffusion.device import _card

    new = SimpleNamespace(uuid="AAAA-0", pci_bus_id=0x41, pci_domain_id=0, pci_device_id=0)
    assert _card(new) == Card("aaaa-0", "00000000:41:00.0")
    assert _card(SimpleNamespace(uuid="aaaa-0")) == Card("aaaa-0")
    assert _card(SimpleNamespace()) == Card()


# ── the processor ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_processor_tells_how_busy_all_cores_are(tmp_path: Path) -> None:
    told: queue.SimpleQueue[Gauged] = queue.SimpleQueue()
    gauge = Gauge(told.put, 0.05, machine(tmp_path))
    gauge.over(None)
    with gauge.listened():
        first = told.get(timeout=5)
        assert first.utilisation is None and first.temperature == 56  # the processor's, not the disk's
        machine(tmp_path, busy=160, idle=140)
        second = told.get(timeout=5)
        assert second.utilisation == 60 and second.power is None
        assert second.memory_total and 0 < second.memory_used <= second.memory_total
        assert second.load is None or second.load % 0.5 == 0


@pytest.mark.parametrize("stat", ["", "cpu  x\n", "cpu  1 2\n", "intr 1\n"])
def test_a_proc_that_is_none_tells_nothing(tmp_path: Path, stat: str) -> None:
    assert gauges.cpu_times(tmp_path) is None and gauges.cpu_temperature(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(stat)
    assert gauges.cpu_times(tmp_path) is None


def test_a_sensor_that_sleeps_or_lies_is_left_out(tmp_path: Path) -> None:
    zones = tmp_path / "sys/class/thermal"
    for number, text in enumerate(["-274000", "N/A", "48000"]):
        (zones / f"thermal_zone{number}").mkdir(parents=True)
        (zones / f"thermal_zone{number}/type").write_text("x86_pkg_temp\n")
        (zones / f"thermal_zone{number}/temp").write_text(text)
    assert gauges.cpu_temperature(tmp_path) == 48


# ── silence ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_moves_by_less_than_is_shown_is_told_as_it_was() -> None:
    told = steadied(Gauged(60.4, 41.0, 301.0, 12.0e9, 80e9, 1.2), None)
    assert told == Gauged(60, 40, 300, pytest.approx(12.0e9, abs=0.2e9), 80e9, 1.0)
    assert steadied(Gauged(60.6, 43.0, 303.0, 12.2e9, 80e9, 1.3), told) == told
    assert steadied(Gauged(61.0, 44.0, 304.0, 12.6e9, 80e9, 1.5), told) == Gauged(
        61, 45, 305, pytest.approx(12.6e9, abs=0.3e9), 80e9, 1.5
    )
    idle = steadied(Gauged(utilisation=0.0), Gauged(utilisation=5))
    assert idle.utilisation == 0  # nothing at all is told as that


def test_nobody_who_listens_no_thread_and_nothing_measured_before_the_device_is_known(tmp_path: Path) -> None:
    told: queue.SimpleQueue[Gauged] = queue.SimpleQueue()
    gauge = Gauge(told.put, 0.02, machine(tmp_path))
    assert heard(gauge, told, 0.1) == []
    gauge.over(None)
    time.sleep(0.1)
    assert told.empty()
    assert heard(gauge, told, 0.1) != []  # and it begins anew for the next who listens
    time.sleep(0.1)
    machine(tmp_path, busy=500)
    time.sleep(0.1)
    assert told.empty()


def test_a_sensor_that_fails_ends_the_gauge_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: queue.SimpleQueue[Gauged] = queue.SimpleQueue()
    gauge = Gauge(told.put, 0.02, machine(tmp_path))
    gauge.over(None)
    monkeypatch.setattr(gauges, "cpu_temperature", lambda root: 1 / 0)
    assert heard(gauge, told, 0.1) == []


def test_a_workbenchs_engine_tells_and_a_commands_does_not(home: Path) -> None:
    where = folders.find()
    for kind in ("workbench", "command"):
        store = Store(where.store)
        engine = LocalEngine(catalogue.load(), where, Options(where.pictures, device="cpu"), store, kind)  # type: ignore[arg-type]
        seen = do(engine, Warm("mini"))
        if kind == "workbench":
            assert isinstance(next(e for e in engine.events() if isinstance(e, Gauged)), Gauged)
        engine.close()
        left = [*seen, *engine.events()]
        assert kind == "workbench" or not any(isinstance(event, Gauged) for event in left)
        store.close()
