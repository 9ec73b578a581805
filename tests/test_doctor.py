"""The doctor: what it finds, what it advises, and that it changes nothing and survives everything."""

from __future__ import annotations

import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import engines
from engines import catalogue as catalogues
from engines import folders, machine
from engines.catalogue import Catalogue
from engines.machine import Gpu, Machine, Memory, Nvidia
from engines.store import Store
from tui import doctor, equipment, surroundings
from tui import settings as settings_file
from tui.findings import Check
from tui.session import Session

GIB = 2**30
ROOT = Path(__file__).resolve().parent.parent

CPU_TORCH: dict[str, Any] = {"cuda": None, "hip": None, "available": False, "archs": [], "mps": False, "threads": 2}
CU126 = {**CPU_TORCH, "cuda": "12.6", "archs": ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]}
CU130 = {**CPU_TORCH, "cuda": "13.0", "archs": ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]}
VERSIONS = {"torch": "2.13.0+cpu", "diffusers": "0.42.1", "transformers": "5.23.0", "torchvision": None}
PLAIN: dict[str, Any] = {
    "versions": VERSIONS,
    "errors": {},
    "torch": CPU_TORCH,
    "devices": [],
    "device": {"name": "cpu", "title": "cpu, 2 threads", "note": ""},
    "hint": "",
    "model": "mini",
    "precision": "fp32",
}
HERE = Machine("Linux", "A CPU", 2, None, Memory(16 * GIB, 8 * GIB, False), Nvidia(), ())


def session(notices: tuple[str, ...] = (), catalogue: Catalogue | None = None, **values: Any) -> Session:
    where = folders.find()
    settings, problems = settings_file.load(where.settings)
    known = catalogue or catalogues.load(where.models)
    return Session(where, replace(settings, **values), known, (*problems, *known.problems, *notices), False)


def gpu(name: str, capability: machine.Version | None, used: int = 0, total: int = 24) -> Gpu:
    return Gpu(0, name, total * GIB, used * GIB, capability)


def by_id(checks: Any) -> dict[str, Check]:
    return {check.id: check for check in checks}


# ── GPUs and builds of torch ────────────────────────────────────────────────────────────────────────────────────────

H100, V100, RTX50 = gpu("NVIDIA H100", (9, 0)), gpu("Tesla V100", (7, 0)), gpu("NVIDIA GeForce RTX 5090", (12, 0))


def test_a_gpu_tells_how_warm_and_how_busy_it_is() -> None:
    warm = replace(H100, temperature=61, utilisation=94)
    checks = [c for c in equipment.gpus(PLAIN, replace(HERE, nvidia=Nvidia((warm, V100))), session()) if c.id == "gpu"]
    assert checks[0].message == "GPU 0: NVIDIA H100, 24.0 GiB, 24.0 GiB free, 61 °C, 94 %"
    assert (checks[0].data["temperature"], checks[0].data["utilisation"]) == (61, 94)
    assert checks[1].message == "GPU 0: Tesla V100, 24.0 GiB, 24.0 GiB free" and checks[1].data["temperature"] is None


@pytest.mark.parametrize(
    ("torch", "card", "driver", "cuda", "environ", "says", "advises"),
    [
        (CPU_TORCH, H100, "580.65.06", (13, 0), {}, "is a CPU build", "/whl/cu130"),
        (CPU_TORCH, H100, "550.54.14", (12, 4), {}, "is a CPU build", "/whl/cu126"),
        (CPU_TORCH, V100, "580.65.06", (13, 0), {}, "is a CPU build", "/whl/cu126"),
        (CPU_TORCH, RTX50, "570.86", (12, 8), {}, "is a CPU build", "driver to 580 or newer, then .*/whl/cu130"),
        (CPU_TORCH, H100, "470.82.01", (11, 4), {}, "is a CPU build", "driver to 580 or newer, then .*/whl/cu130"),
        (CPU_TORCH, gpu("Tesla K80", (3, 7)), "470.82.01", (11, 4), {}, "a CPU build", "no build of torch 2.13.0 has"),
        (CPU_TORCH, gpu("A card", None), "", None, {}, "is a CPU build", "/whl/cu126"),
        ({**CPU_TORCH, "hip": "6.4"}, H100, "580.65.06", (13, 0), {}, "is a ROCm build", "/whl/cu130"),
        (CU130, H100, "550.54.14", (12, 4), {}, "needs CUDA 13.0, but driver 550.54.14 runs CUDA up to 12.4",
         "/whl/cu126.*; or update the NVIDIA driver to 580 or newer"),
        (CU130, RTX50, "570.86", (12, 8), {}, "needs CUDA 13.0", "^update the NVIDIA driver to 580 or newer, then "),
        (CU126, H100, "470.82.01", (11, 4), {}, "needs CUDA 12.6", "driver to 580"),
        (CU126, H100, "580.65.06", (13, 0), {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES='' hides", "unset"),
        (CU126, H100, "580.65.06", (13, 0), {"CUDA_VISIBLE_DEVICES": "-1"}, "hides every GPU", "unset"),
        (CU126, H100, "580.65.06", (13, 0), {}, ": Unexpected error from cudaGetDeviceCount", "restart"),
        ({**CU130, "available": True}, V100, "580.65.06", (13, 0), {}, r"no code for Tesla V100 .*7\.0", "/whl/cu126"),
        ({**CU126, "available": True}, RTX50, "580.65.06", (13, 0), {}, r"no code for .*5090 .*12\.0", "/whl/cu130"),
        ({**CU126, "available": True}, RTX50, "570.86", (12, 8), {}, "no code for", "driver to 580.*/whl/cu130"),
        ({**CU130, "available": True}, H100, "580.65.06", (13, 0), {}, "", ""),
        ({**CU126, "available": True}, H100, "525.60.13", (12, 0), {}, "", ""),
        ({**CU126, "available": True}, gpu("RTX 4090", (8, 9)), "580.65.06", (13, 0), {}, "", ""),
    ],
)  # fmt: skip
def test_the_build_that_would_use_the_gpu(
    torch: dict[str, Any], card: Gpu, driver: str, cuda: machine.Version | None, environ: Mapping[str, str],
    says: str, advises: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    seen = {"index": 0, "name": card.name, "capability": list(card.capability or (0, 0))}
    found = {**PLAIN, "torch": torch, "devices": [seen] if torch["available"] else []}
    found["errors"] = {"cuda": "Unexpected error from cudaGetDeviceCount"}
    checks = list(equipment.unusable(found, Nvidia((card,), driver, cuda), "", environ))
    if not says:
        assert checks == []
        return
    (check,) = checks
    assert re.search(says, check.message)
    assert card.name in check.message
    assert re.search(advises, check.hint)
    assert not check.stops, "the CPU is still there"


def test_whoever_asked_for_the_cpu_has_no_problem() -> None:
    (check,) = equipment.unusable(PLAIN, Nvidia((H100,), "580.65.06", (13, 0)), "cpu", {})
    assert check.status == "note"


def test_another_build_is_had_the_way_safelight_was_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(ROOT / ".venv"))
    assert equipment.reinstall("cu126", "2.13.0+cpu") == "make setup TORCH_INDEX=https://download.pytorch.org/whl/cu126"
    monkeypatch.setattr(sys, "prefix", "/home/someone/.local/share/pipx/venvs/safelight")
    pipx = "pipx runpip safelight install 'torch==2.13.0+cu126' --index-url https://download.pytorch.org/whl/cu126"
    assert equipment.reinstall("cu126", "2.13.0") == pipx
    monkeypatch.setattr(sys, "prefix", "/opt/venv")
    assert equipment.reinstall("cpu", None).endswith(" -m pip install --force-reinstall torch --index-url "
                                                  "https://download.pytorch.org/whl/cpu")  # fmt: skip


@pytest.mark.parametrize(
    ("total", "used", "status", "says"),
    [
        (80, 1, "ok", "79.0 GiB free"),
        (24, 18, "note", "other programs hold 18.0 GiB, and SDXL needs about 8.0 GiB"),
        (24, 23, "problem", "other programs hold 23.0 GiB, and SDXL needs about 8.0 GiB"),
        (4, 0, "note", "too small for SDXL, which needs about 8.0 GiB"),
        (6, 5, "note", "too small for SDXL, which needs about 8.0 GiB; other programs hold 5.0 GiB of it"),
    ],
)
def test_a_filled_card_is_no_small_card(total: int, used: int, status: str, says: str) -> None:
    check = equipment.card("GPU 0: A card", total * GIB, used * GIB, {})
    assert (check.status, check.message.endswith(says)) == (status, True), check.message
    assert ("too small" in check.message) == (total < 8)
    assert bool(check.hint) == (status != "ok")
    assert equipment.card("GPU 0: A card", None, None, {}).status == "ok"


def test_gpus_that_only_torch_sees() -> None:
    """A container often has the driver's library without its tools."""
    seen = {"index": 0, "name": "Tesla T4", "total": 16 * GIB, "free": 15 * GIB, "capability": [7, 5]}
    found = {**PLAIN, "torch": {**CU130, "available": True}, "devices": [seen]}
    here = replace(HERE, nvidia=Nvidia((), "580.65.06", (13, 0), "nvidia-smi is missing", "install it"))
    checks = list(equipment.gpus(found, here, session()))
    assert [(check.id, check.status) for check in checks] == [("nvidia", "note"), ("gpu", "ok")]
    assert checks[1].message == "GPU 0: Tesla T4, 16.0 GiB, 15.0 GiB free"


def test_a_device_that_is_not_there_stops() -> None:
    found = {**PLAIN, "device": None, "errors": {"device": "no device 'gpu'"}, "hint": "one of cpu, cuda"}
    (check,) = equipment.device(found, HERE, session(device="gpu"))
    assert (check.status, check.stops, check.hint) == ("problem", True, "one of cpu, cuda")
    found["hint"] = "safelight doctor says why; --device cpu works"
    (check,) = equipment.device(found, HERE, session(device="cuda"))
    assert "safelight doctor" not in check.hint, "that is what is running"


@pytest.mark.parametrize(
    ("trouble", "hint"),
    [
        ("RuntimeError: CUDA error: no kernel image is available", "--device cpu works"),
        ("OutOfMemoryError: CUDA out of memory", "nvidia-smi"),
    ],
)
def test_a_device_that_does_not_compute_stops(trouble: str, hint: str) -> None:
    found = {**PLAIN, "device": {"name": "cuda:0", "title": "cuda:0 A card", "note": ""}, "errors": {"trial": trouble}}
    (check,) = equipment.device(found, HERE, session())
    assert check.stops
    assert hint in check.hint


def test_a_device_is_told_with_its_reason() -> None:
    says = {
        "there is no GPU": equipment.device(PLAIN, HERE, session()),
        "cpu was asked for": equipment.device(PLAIN, HERE, session(device="cpu")),
        "this torch can use no GPU": equipment.device(PLAIN, replace(HERE, nvidia=Nvidia((H100,))), session()),
    }
    for why, checks in says.items():
        (check,) = checks
        assert check.message == f"pictures are made on cpu, 2 threads ({why}), in fp32 for mini"


# ── a broken installation ───────────────────────────────────────────────────────────────────────────────────────────


def test_torchvision_beside_a_torch_of_another_build() -> None:
    error = "RuntimeError: operator torchvision::nms does not exist"
    found = {**PLAIN, "versions": {**VERSIONS, "torchvision": "0.28.0"}, "errors": {"clip": error, "engine": error}}
    checks = by_id(equipment.versions(found, HERE, session()))
    assert checks["torchvision"].stops
    assert "pip uninstall torchvision" in checks["torchvision"].hint
    assert "engine" not in checks, "one cause, one problem"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"failed": "importing torch brings Python down (SIGILL)"}, "SIGILL"),
        (
            {**PLAIN, "torch": None, "device": None, "errors": {"torch": "OSError: libcudart.so.13: cannot open"}},
            "libcudart",
        ),
    ],
)
def test_a_broken_torch_stops(found: dict[str, Any], says: str) -> None:
    check = by_id(equipment.versions(found, HERE, session()))["torch"]
    assert check.stops
    assert says in check.message
    assert "/whl/cpu" in check.hint
    assert list(equipment.device(found, HERE, session())) == []
    assert by_id(equipment.gpus(found, replace(HERE, nvidia=Nvidia((H100,))), session())).keys() == {"gpu"}


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os.abort()", "SIGABRT"),
        ("print('no JSON')", "exit 0"),
        ("raise SystemExit(3)", "exit 3"),
        ("print('[]')", "exit 0"),
        ("import time; time.sleep(600)", "not imported within"),
    ],
)
def test_a_torch_that_takes_its_process_down(
    code: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The survey's process is another program here; what it takes as its arguments doesn't matter to it."""
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(doctor, "SURVEY_SECONDS", 0.5 if "sleep" in code else 60)
    assert says in doctor.ask_torch(session())["failed"]


def test_other_owners_of_the_packages_names() -> None:
    assert equipment.other_owners({"tui": ["safelight"], "engines": ["safelight"], "rich": ["rich"]}) == []
    clash = {"tui": ["safelight", "python-tui"], "engines": ["search-engines", "safelight"]}
    assert equipment.other_owners(clash) == ["python-tui", "search-engines"]


def test_packages_from_two_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engines, "__file__", str(tmp_path / "engines" / "__init__.py"))
    check = next(equipment.installation())
    assert (check.id, check.status, check.stops) == ("packages", "problem", True)
    assert str(tmp_path) in check.message
    assert "environment of its own" in check.hint


def test_a_file_that_another_package_has_overwritten(tmp_path: Path) -> None:
    info = tmp_path / "safelight-0.1.0.dist-info"
    info.mkdir()
    for package in ("tui", "engines"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    empty = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    (info / "RECORD").write_text(f"engines/__init__.py,{empty},0\ntui/__init__.py,{empty},0\nother.py,sha256=x,0\n")
    dist = metadata.Distribution.at(info)
    assert equipment._overwritten(dist) == ""
    (tmp_path / "tui" / "__init__.py").write_text("# someone else's\n")
    assert equipment._overwritten(dist) == "tui/__init__.py"


# ── the terminal ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("environ", "colours", "hint"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor", ""),
        ({"TERM": "xterm-256color"}, "256", "export COLORTERM=truecolor"),
        ({"TERM": "xterm-kitty", "SSH_TTY": "/dev/pts/1"}, "256", "ssh does not pass it on"),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/tmux,1,0"}, "256", "terminal-features"),
        ({"TERM": "screen-256color", "STY": "1.pts"}, "256", "tmux passes on all"),
        ({"TERM": "xterm-direct"}, "truecolor", ""),
        ({"TERM": "linux"}, "16", "export COLORTERM"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "none", "unset NO_COLOR"),
        ({"TERM": "dumb"}, "none", ""),
        ({}, "none", ""),
    ],
)
def test_what_the_terminal_can_show(environ: dict[str, str], colours: str, hint: str) -> None:
    check = by_id(surroundings.terminal(session(), {"LANG": "C.UTF-8", **environ}))["pictures"]
    assert check.data["colours"] == colours
    assert hint in check.hint
    assert (check.status == "ok") == (not hint)


@pytest.mark.parametrize(
    ("environ", "good"),
    [
        ({"LANG": "de_DE.UTF-8"}, True),
        ({"LANG": "en_US.utf8"}, True),
        ({"LC_CTYPE": "UTF-8"}, True),
        ({"LANG": "C.UTF-8", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),  # what Python itself sets where there is nothing
        ({"LANG": "de_DE@euro"}, False),
        ({}, False),
    ],
)
def test_the_locale(environ: dict[str, str], good: bool) -> None:
    assert surroundings.utf8(environ) == good
    assert ("locale" in by_id(surroundings.terminal(session(), environ))) == (not good)


# ── folders, store, models, settings ────────────────────────────────────────────────────────────────────────────────


def test_folders_are_tried_and_left_as_they_were(home: Path) -> None:
    (home / "pictures").mkdir()
    before = sorted(home.rglob("*"))
    checks = by_id([*surroundings.folders(session()), *surroundings.store(session())])
    assert {check.status for check in checks.values()} <= {"ok", "note"}
    assert "made when it is needed" in checks["folder.cache"].message
    assert "made when" not in checks["folder.pictures"].message
    assert sorted(home.rglob("*")) == before == [home / "pictures"]


def test_a_folder_that_cannot_be_written(home: Path) -> None:
    """A file in the way refuses everyone; permissions don't refuse root, as whom tests may run."""
    (home / "pictures").write_text("no folder")
    checks = by_id(surroundings.folders(session()))
    assert checks["folder.pictures"].stops
    assert "--out" in checks["folder.pictures"].hint
    checks = by_id(surroundings.folders(session(folder="/proc/self/pictures")))
    assert checks["folder.pictures"].stops
    assert not checks["folder.data"].stops


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(home: Path) -> None:
    (home / "pictures").mkdir(mode=0o500)
    assert by_id(surroundings.folders(session()))["folder.pictures"].stops


@pytest.mark.parametrize(
    ("free", "status", "stops"),
    [
        (100_000_000, "problem", True),
        (499_999_999, "problem", True),
        (600_000_000, "note", False),
        (10**10, "ok", False),
    ],
)
def test_free_disk(free: int, status: str, stops: bool) -> None:
    check = surroundings.disk(["pictures", "cache"], free)
    assert (check.status, check.stops) == (status, stops)
    assert not surroundings.disk(["cache"], free).stops


def test_the_store_is_read_and_not_touched() -> None:
    path = session().folders.store
    Store(path).close()
    (check,) = surroundings.store(session())
    assert (check.status, check.data["pictures"], check.data["jobs"]) == ("ok", 0, 0)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    (check,) = surroundings.store(session())
    assert check.stops
    assert "newer" in check.message
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(b"this is no database" * 1000)
    (check,) = surroundings.store(session())
    assert (check.status, check.stops) == ("problem", False)
    assert path.read_bytes() == b"this is no database" * 1000


def test_the_users_own_files(home: Path) -> None:
    config = home / "config"
    config.mkdir()
    (config / "settings.toml").write_text('model = "no-such"\ntheme = "../x"\nsteps = 3\nfile_name = "{what}"\n')
    (config / "models.toml").write_text('[[model]]\nid = "Mine \x1b"\n')
    checks = list(surroundings.settings(session()))
    ids = [check.id for check in checks]
    assert sorted(ids) == ["catalogue", "settings", "settings", "settings.model", "settings.theme"]
    assert all(check.status == "problem" and check.hint for check in checks)
    (config / "settings.toml").write_text("= garbage")
    (config / "models.toml").write_bytes(b"\xff\xfe\x00")
    assert sorted(check.id for check in surroundings.settings(session())) == ["catalogue", "settings"]


def test_no_model_stops() -> None:
    checks = by_id(surroundings.models(session(catalogue=Catalogue({}, {}, {}, {}))))
    assert checks["models"].stops
    assert checks["scorer"].status == "problem"
    assert {check.status for check in surroundings.models(session())} == {"ok"}


# ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine and a torch that are told, not looked at."""
    monkeypatch.setattr(machine, "look", lambda: replace(HERE, nvidia=Nvidia((H100,), "580.65.06", (13, 0))))
    monkeypatch.setattr(doctor, "ask_torch", lambda *_: PLAIN)


@pytest.mark.usefixtures("still")
def test_people_are_told_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.examine(session(notices=("a file: \x1b]0;owned\x07bad\nline",)), as_json=False) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    assert "  !!  NVIDIA H100 can't be used: torch 2.13.0+cpu is a CPU build" in out
    assert "  !!  a file: ]0;ownedbad line\n      hint: mend it in " in out
    assert out.endswith("\n2 problems; pictures can be made all the same\n")
    marks = {line[2:4] for line in out.splitlines() if line.startswith("  ") and not line.startswith("      ")}
    assert marks <= {"ok", "..", "!!"}


@pytest.mark.usefixtures("still")
def test_programs_are_told_in_objects(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    (home / "pictures").write_text("no folder")
    assert doctor.examine(session(), as_json=True) == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for each in told:
        assert each.keys() >= {"check", "status", "message", "hint"}
        assert each["status"] in ("ok", "note", "problem")
        assert each["hint"] or each["status"] != "problem" or each["check"] == "summary"
    assert told[-1]["check"] == "summary"
    assert told[-1]["problems"] == sum(each["status"] == "problem" for each in told[:-1]) >= 2
    assert told[-1]["stops"] is True
    ids = [each["check"] for each in told]
    known = {
        "safelight",
        "versions",
        "cpu",
        "memory",
        "gpu",
        "gpu.torch",
        "device",
        "terminal",
        "pictures",
        "disk",
        "log",
    }
    assert known <= set(ids)


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SAFELIGHT_HOME": str(home)}
    command = [sys.executable, "-m", "tui", "doctor", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_this_machine(home: Path) -> None:
    """The real thing, once: torch is looked at, and nothing but the log is left behind."""
    done = run(home, "--json", "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    told = {each["check"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert told["versions"]["versions"]["torch"]
    assert told["device"]["device"] == "cpu"
    assert told["device"]["precision"] == "fp32"
    assert told["models"]["default"] == "mini"
    assert not any(each["stops"] for each in told.values())
    assert sorted(path.relative_to(home).as_posix() for path in home.rglob("*")) == ["data", "data/safelight.log"]


def test_a_device_that_nobody_has(home: Path) -> None:
    done = run(home, "--device", "cuda:99")
    assert done.returncode == 1
    assert "  !!  " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
