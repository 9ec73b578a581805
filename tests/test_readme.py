"""The documents are true: every command in the README runs, every command and setting is in it, every link leads."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
import tiny
from hub import Hub

ROOT = Path(__file__).parent.parent
MODELS = (ROOT / "engines" / "models.toml").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """The lines of all shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    lines = (line.partition("  #")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def pictures(arguments: list[str]) -> int:
    """How many pictures a generate makes."""
    if "--guidance-series" in arguments:
        return len(arguments[arguments.index("--guidance-series") + 1].split(","))
    steps = sum(step in arguments for step in ("--hires", "--restore-faces", "--upscale"))
    return (int(arguments[arguments.index("--count") + 1]) if "--count" in arguments else 1) + steps


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run(arguments)


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """What the day's use fetches, under its true names, with random weights of small widths."""
    base = tiny.folder(tmp_path / "base", variant="fp16", seed=1)
    unet = tiny.unet_file(tmp_path / "unet.safetensors", seed=2).read_bytes()
    names = [f"sdxl_lightning_{steps}step_unet.safetensors" for steps in (2, 4, 8)]
    shipped = re.findall(r"(\[\[model\]\]\nid = \"sdxl-lightning-4step-unet\".*?)\n\[\[", MODELS, re.S)
    (home / "config").mkdir()
    # the catalogue's hash is that of the true file
    (home / "config" / "models.toml").write_text(re.sub(r', sha256 = "\w+"|, bytes = \d+', "", shipped[0]))
    served = {
        "stabilityai/stable-diffusion-xl-base-1.0": base,
        "ByteDance/SDXL-Lightning": dict.fromkeys(names, unet),
    }
    with Hub(served) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.mark.timeout(300)  # thirty programs one after another, most of which import torch
def test_the_commands_of_a_days_use_run_in_order(home: Path, hub: Hub, tmp_path: Path) -> None:
    programs = [shlex.split(line)[1:] for line in commands() if line.startswith("safelight ")]
    assert len(programs) >= 12
    for arguments in programs:
        if "--report" in arguments:
            arguments[arguments.index("--report") + 1] = str(tmp_path / "sweep.html")
        done = run(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        assert done.stdout, arguments
        if "--json" in arguments:
            assert all(json.loads(line) for line in done.stdout.splitlines())
    made = sum(pictures(a) for a in programs if a[0] == "generate" and "list" not in a)
    made += sum(a[0] in ("upscale", "restore") for a in programs)
    swept = [json.loads(line) for line in run("sweep", "--list", "--json").stdout.splitlines()]
    assert [(row["cells"], row["made"]) for row in swept] == [(6, 6), (8, 8), (12, 12)]
    assert "guidance 4.5 · steps 8" in (tmp_path / "sweep.html").read_text()
    assert len(list((home / "pictures").glob("*.png"))) == made + 26


def test_the_other_commands_are_what_they_are_said_to_be() -> None:
    others = [line for line in commands() if not line.startswith("safelight ")]
    # `safelight` alone is driven in test_terminal.py, the installation in test_packaging.py
    assert others == ["make run", "make test", "pipx install .", "safelight"]
    for target in ("run", "test"):
        done = subprocess.run(["make", "-n", target], capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
    assert "pytest" in done.stdout and "mypy" in done.stdout and "ruff" in done.stdout and "lint-imports" in done.stdout


def test_every_command_and_option_is_told() -> None:
    from typer.main import get_command

    from tui.commands import app

    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        for sub, below in getattr(command, "commands", {"": command}).items():
            assert f"`safelight {name} {sub}".rstrip() in README, (name, sub)
            for option in below.params:
                if option.param_type_name == "option" and option.name != "help":
                    assert getattr(option, "help", None), (name, sub, option.name)


def test_the_model_of_ones_own_in_the_readme_can_be_read(tmp_path: Path) -> None:
    from engines import catalogue

    (block,) = re.findall(r"```toml\n(.*?)```", README, re.S)
    (tmp_path / "models.toml").write_text(block)
    known = catalogue.load(tmp_path / "models.toml")
    assert known.problems == () and known.models["my-sdxl"].recipe.size == (1024, 1024)


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")), ids=lambda p: p.name)
def test_links_lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_map_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:tui|engines|tests)/[\w/.]+\.(?:py|toml))`", text):
        if not name.endswith(("/x.py", "/x.toml")):
            assert (ROOT / name).exists(), name
