"""Who imports whom: what is heavy stays out of what must start quickly, and the contracts that say so can fail."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ["accelerate", "compel", "diffusers", "peft", "torch", "torchvision", "transformers"]
SCREEN = ["textual", "textual_image"]


def in_a_process(code: str) -> list[str]:
    """The list that `code` prints as JSON, run by a Python that has imported nothing yet."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: list[str] = json.loads(done.stdout)
    return answer


def modules(package: str, but: str = "no such") -> list[str]:
    """The names of a package's modules, without those in the folder `but`."""
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if but not in file.parts]
    return [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("tui.cli", [*HEAVY, *SCREEN, "typer"]),
        ("tui.opening", [*HEAVY, *SCREEN, "typer"]),
        ("tui.commands", HEAVY + SCREEN),
        ("tui.plain.opening", HEAVY + SCREEN),
        ("engines.local", [*HEAVY, *SCREEN, "rich", "typer", "ctypes"]),
        ("tui.app", [*HEAVY, "typer"]),
    ],
)
def test_starts_light(module: str, banned: list[str]) -> None:
    """Importing torch takes 1.6 s and diffusers 4 s; the first screen and `--help` don't wait for them."""
    code = f"import json, sys, {module}; print(json.dumps([name for name in {banned} if name in sys.modules]))"
    assert in_a_process(code) == []


@pytest.mark.parametrize(("package", "but"), [("engines", "diffusion"), ("tui", "no such")])
def test_torch_lives_in_one_room(package: str, but: str) -> None:
    """Every module but those of engines.diffusion is imported; the first that brings something heavy is named."""
    names = modules(package, but)
    assert len(names) > 5
    code = f"""
import importlib, json, sys
guilty = []
for name in {names}:
    importlib.import_module(name)
    if found := [heavy for heavy in {HEAVY} if heavy in sys.modules]:
        guilty = [name, *found]
        break
print(json.dumps(guilty))
"""
    assert in_a_process(code) == []


def test_the_exceptions_are_three() -> None:
    """A fourth deferred import is a decision, not a line to add while nobody looks."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    ignored = {rule for contract in contracts for rule in contract.get("ignore_imports", [])}
    assert ignored == {
        "engines.local -> engines.diffusion.darkroom", "tui.opening -> tui.app", "tui.doctor -> tui.pictures.card",
    }  # fmt: skip
    alerts = [contract["unmatched_ignore_imports_alerting"] for contract in contracts if "ignore_imports" in contract]
    assert set(alerts) == {"error"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code and its contracts, to be broken one at a time."""
    folder = tmp_path_factory.mktemp("contracts")
    for package in ("engines", "tui"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("mini", "__pycache__", "*.tcss")
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(
    ("contract", "file", "line"),
    [
        ("engines is headless", "engines/events.py", "import rich"),
        ("engines is headless", "engines/diffusion/device.py", "from tui import wording"),
        ("torch lives in engines.diffusion", "engines/metadata.py", "import torch"),
        ("torch lives in engines.diffusion", "tui/workbench.py", "from diffusers import StableDiffusionXLPipeline"),
        ("torch lives in engines.diffusion", "tui/app.py", "from engines.diffusion import device"),
        ("the command line starts without Textual", "tui/wording.py", "import textual"),
        ("engines reads downwards", "engines/errors.py", "from engines import store"),
        ("engines reads downwards", "engines/a_new_module.py", ""),
        ("diffusion reads downwards", "engines/diffusion/device.py", "from engines.diffusion import loading"),
        ("tui reads downwards", "tui/clean.py", "from tui import draft"),
        ("panes do not know each other", "tui/panes/queue.py", "from tui.panes import history"),
    ],
)
def test_a_contract_breaks(copy: Path, contract: str, file: str, line: str) -> None:
    """A contract that no import can break would prove nothing. That none is broken as it stands, `make lint` says."""
    broken = copy / file
    before = broken.read_text() if broken.exists() else None
    broken.write_text(f"{before or ''}\n{line}\n")
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from importlinter.cli import lint_imports_command as run; run()",
                "--no-logo",
                "--no-cache",
            ],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        if before is None:
            broken.unlink()
        else:
            broken.write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout
