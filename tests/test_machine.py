"""Facts of a machine: nvidia-smi in every mood, cgroups of both kinds, and which build of torch a GPU needs."""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path

import psutil
import pytest

from engines import builds, machine
from engines.builds import Advice
from engines.machine import Answer, Gpu

MIB = 2**20
H100 = "0, NVIDIA H100 80GB HBM3, 81559, 523, 580.65.06, 9.0"
HEADER = "| NVIDIA-SMI 580.65.06    Driver Version: 580.65.06    CUDA Version: 13.0     |"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that programs are looked for in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(machine, "ALSO_IN", ())
    return folder


def nvidia_smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def answering(rows: str, header: str = HEADER) -> str:
    return f'case "$1" in --query-gpu=*) echo "{rows}";; *) echo "{header}";; esac'


def test_a_gpu_is_told_as_its_driver_tells_it(path: Path, tmp_path: Path) -> None:
    nvidia_smi(path, answering(f"{H100}\n1, Tesla T4, 15360, [N/A], 580.65.06, 7.5"))
    found = machine.nvidia(root=tmp_path)
    assert found.gpus == (
        Gpu(0, "NVIDIA H100 80GB HBM3", 81559 * MIB, 523 * MIB, (9, 0)),
        Gpu(1, "Tesla T4", 15360 * MIB, None, (7, 5)),
    )
    assert (found.driver, found.cuda, found.problem) == ("580.65.06", (13, 0), "")


@pytest.mark.parametrize(
    ("header", "cuda"),
    [
        ("| NVIDIA-SMI 610.47   KMD Version: 610.47   CUDA UMD Version: 13.3 |", (13, 3)),
        ("| NVIDIA-SMI 535.104.05   Driver Version: 535.104.05   CUDA Version: 12.2 |", (12, 2)),
        ("CUDA Version: N/A", (13, 0)),  # then the driver's branch tells
    ],
)
def test_the_newest_cuda_is_read_from_the_header(
    path: Path, tmp_path: Path, header: str, cuda: machine.Version
) -> None:
    nvidia_smi(path, answering(H100, header))
    assert machine.nvidia(root=tmp_path).cuda == cuda


def test_an_old_driver_does_not_know_compute_capabilities(path: Path, tmp_path: Path) -> None:
    nvidia_smi(
        path,
        'case "$1" in *compute_cap*) echo \'Field "compute_cap" is not a valid field to query.\'; exit 2;; '
        "--query-gpu=*) echo '0, Tesla K80, 11441, 3, 470.82.01';; *) echo 'CUDA Version: 11.4';; esac",
    )
    found = machine.nvidia(root=tmp_path)
    assert found.gpus == (Gpu(0, "Tesla K80", 11441 * MIB, 3 * MIB, None),)
    assert (found.driver, found.cuda) == ("470.82.01", (11, 4))


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("printf '\\033]0;title\\007\\n\\001, ,\\n<html>'", "nvidia-smi failed (exit 0): <html>"),
        (
            'echo "NVIDIA-SMI has failed because it couldn\'t communicate with the NVIDIA driver."; exit 9',
            "nvidia-smi failed (exit 9): NVIDIA-SMI has failed because",
        ),
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "no longer fit"),
        ("exit 9", "nvidia-smi failed (exit 9)"),
        ("kill -SEGV $$", "nvidia-smi failed (exit -11)"),
    ],
)
def test_a_driver_that_fails_is_a_problem_with_a_hint(path: Path, tmp_path: Path, script: str, told: str) -> None:
    nvidia_smi(path, script)
    found = machine.nvidia(root=tmp_path)
    assert found.gpus == ()
    assert told in found.problem
    assert found.hint


def test_a_driver_that_hangs_is_not_waited_for(path: Path, tmp_path: Path) -> None:
    """The sleep is a grandchild that keeps the pipe open: who waits for that waits ten minutes."""
    nvidia_smi(path, f"/bin/sleep 600 & echo $! > {tmp_path}/pid; wait; echo '{H100}'")
    found = machine.nvidia(0.5, tmp_path)
    assert found.gpus == ()
    assert "hangs" in found.problem
    pid = int((tmp_path / "pid").read_text())
    for _ in range(500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.02)
    else:
        pytest.fail("the grandchild lives on")


def test_no_gpu_at_all_is_no_problem(path: Path, tmp_path: Path) -> None:
    assert machine.nvidia(root=tmp_path) == machine.Nvidia()
    nvidia_smi(path, "echo 'No devices were found'; exit 6")
    assert machine.nvidia(root=tmp_path) == machine.Nvidia()


def test_a_gpu_without_its_driver_is_seen_on_the_bus(path: Path, tmp_path: Path) -> None:
    slot = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    slot.mkdir(parents=True)
    (slot / "class").write_text("0x030000\n")
    (slot / "vendor").write_text("0x10de\n")
    (slot / "device").write_text("0x2684\n")
    assert "driver is not installed" in machine.nvidia(root=tmp_path).problem
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text("NVRM version: NVIDIA UNIX x86_64  550.54.14  Thu Feb 22\n")
    found = machine.nvidia(root=tmp_path)
    assert "nvidia-smi is missing" in found.problem
    assert (found.driver, found.cuda) == ("550.54.14", (12, 4))


def test_another_makers_gpu_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    slot = tmp_path / "sys/bus/pci/devices/0000:03:00.0"
    slot.mkdir(parents=True)
    for name, value in (("class", "0x038000"), ("vendor", "0x1002"), ("device", "0x740f")):
        (slot / name).write_text(value)
    assert machine.other_gpus(tmp_path) == ("AMD GPU 0x740f (no /dev/kfd: ROCm is not set up)",)


ALL = [(7, 0), (7, 5), (8, 6), (8, 9), (9, 0), (10, 3), (12, 0)]


@pytest.mark.parametrize(
    ("cuda", "capabilities", "arm", "advice"),
    [
        ((13, 0), [(9, 0)], False, Advice("cu130")),
        ((13, 3), [(7, 5)], False, Advice("cu130")),
        ((12, 4), [(9, 0)], False, Advice("cu126")),  # an older driver of the same major version will do
        ((12, 0), [(8, 9)], False, Advice("cu126")),
        ((13, 0), [(7, 0)], False, Advice("cu126")),  # Volta has no code in the builds for CUDA 13
        ((13, 0), [(6, 1)], False, Advice("cu126")),
        ((12, 8), [(12, 0)], False, Advice("cu130", 580)),  # Blackwell has none in those for CUDA 12
        ((12, 8), [(10, 3)], False, Advice("cu130", 580)),
        ((11, 4), [(8, 0)], False, Advice("cu130", 580)),
        ((11, 4), [(7, 0)], False, Advice("cu126", 525)),
        ((13, 0), [(3, 7)], False, Advice()),
        ((13, 0), [(9, 0), (7, 0)], False, Advice("cu126")),  # both, rather than the newer one alone
        ((13, 0), [(9, 0), (12, 0), (7, 0)], False, Advice("cu130")),
        (None, [(8, 0)], False, Advice("cu126")),
        ((13, 0), [None], False, Advice("cu130")),
        ((13, 0), [(11, 0)], True, Advice("cu130")),
        ((12, 6), [(7, 5)], True, Advice()),
    ],
)
def test_the_build_that_fits(
    cuda: machine.Version | None, capabilities: list[machine.Version | None], arm: bool, advice: Advice
) -> None:
    assert builds.advise(cuda, capabilities, arm) == advice


@pytest.mark.parametrize(
    ("archs", "runs"),
    [
        (["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"], ALL[1:]),
        (["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"], ALL[:5]),
        (["sm_80", "compute_80"], ALL[2:]),
        (["sm_90a"], [(9, 0)]),
        (["gfx942", ""], []),
    ],
)
def test_code_runs_on_its_own_major_version(archs: list[str], runs: list[machine.Version]) -> None:
    assert [capability for capability in ALL if builds.has_code(archs, capability)] == runs


def test_drivers_and_their_cuda() -> None:
    told = [machine.driver_cuda(d) for d in ("580.65.06", "579.1", "525.60.13", "470.82.01", "390.157", "", "new")]
    assert told == [(13, 0), (12, 9), (12, 0), (11, 4), (10, 0), None, None]


def cgroup(root: Path, lines: str, files: dict[str, str]) -> None:
    for name, value in {"proc/self/cgroup": lines, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(value)


def test_the_limit_of_a_container_counts_v2(tmp_path: Path) -> None:
    """The path is the host's, as it is seen from inside: only the mount itself is there."""
    cgroup(
        tmp_path,
        "0::/system.slice/box.scope\n",
        {
            "sys/fs/cgroup/memory.max": f"{64 * MIB}\n",
            "sys/fs/cgroup/memory.current": f"{40 * MIB}\n",
            "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {10 * MIB}\n",
            "sys/fs/cgroup/cpu.max": "150000 100000\n",
        },
    )
    assert machine.memory(tmp_path) == machine.Memory(64 * MIB, 34 * MIB, True)
    assert machine.cpu_quota(tmp_path) == 1.5


def test_the_limit_of_a_container_counts_v1(tmp_path: Path) -> None:
    cgroup(
        tmp_path,
        "4:memory:/outer/inner\n3:cpu,cpuacct:/outer\n0::/\n",
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/outer/memory.limit_in_bytes": f"{64 * MIB}\n",
            "sys/fs/cgroup/memory/outer/memory.usage_in_bytes": f"{80 * MIB}\n",
            "sys/fs/cgroup/memory/outer/inner/memory.limit_in_bytes": f"{128 * MIB}\n",
            "sys/fs/cgroup/cpu,cpuacct/outer/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/outer/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert machine.memory(tmp_path) == machine.Memory(64 * MIB, 0, True)
    assert machine.cpu_quota(tmp_path) == 0.5


@pytest.mark.parametrize("limit", ["max", "", "-1", "garbage"])
def test_no_limit_is_the_whole_machine(tmp_path: Path, limit: str) -> None:
    cgroup(tmp_path, "0::/\n\nnonsense\n", {"sys/fs/cgroup/memory.max": limit, "sys/fs/cgroup/cpu.max": "max 100000"})
    found = machine.memory(tmp_path)
    assert not found.limited
    assert found.total > 256 * MIB
    assert machine.cpu_quota(tmp_path) is None


def test_free_disk_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    deep = tmp_path / "not" / "there" / "yet"
    assert machine.existing(deep) == tmp_path
    free = machine.free_disk(deep)
    assert free is not None
    assert free > 0
    assert not (tmp_path / "not").exists()


def test_a_program_is_asked(capfd: pytest.CaptureFixture[str]) -> None:
    assert machine.ask([sys.executable, "-c", "print('hello'); raise SystemExit(3)"], 60) == Answer("hello\n", 3)
    assert machine.ask(["/no/such/program"], 1).code == 127
    looks: list[int] = []
    assert machine.ask(["/bin/sh", "-c", "echo begun; exec sleep 600"], 0.3, lambda: looks.append(1)).code is None
    assert looks


def test_this_machine() -> None:
    found = machine.look()
    assert found.cores >= 1
    assert found.cpu
    assert 0 < found.memory.available <= found.memory.total
