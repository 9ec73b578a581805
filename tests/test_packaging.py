"""What a stranger installs: the wheel holds what it should, and makes a picture on a machine without a network."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

# Runs in the installed program's own process before anything else, and can't be got round from Python. Sockets within
# the machine's file system stay, since multiprocessing uses them.
NO_NETWORK = """
import os, socket, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        if isinstance(arguments[0], socket.socket) and arguments[0].family == socket.AF_UNIX:
            return
        with open(os.environ["ATTEMPTS"], "a") as attempts:
            print(event, arguments[1:] or arguments, file=attempts)
        raise OSError("there is no network here")
sys.addaudithook(refuse)
"""


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    parts = [str(part) for part in command]
    done = subprocess.run(parts, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made from that sdist and not from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("safelight-*-py3-none-any.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: set[str]) -> Message:
    (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_program_and_nothing_else(names: set[str]) -> None:
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"engines", "tui"}
    assert not [name for name in names if re.search(r"(^|/)(tests?|__pycache__|\.venv|training)(/|$)|\.pyc$", name)]
    packages = {path.relative_to(ROOT).as_posix() for package in ("engines", "tui") for path in code(package)}
    assert packages <= names
    themes = {f"tui/themes/{path.name}" for path in (ROOT / "themes").glob("*.toml")}
    assert len(themes) >= 4
    assert {name for name in names if name.startswith("tui/themes/")} == themes


def code(package: str) -> list[Path]:
    """The files of a package that a program needs beside the embedded family."""
    kinds = {".py", ".toml", ".tcss", ".typed"}
    return [path for path in (ROOT / package).rglob("*") if path.suffix in kinds and path.is_file()]


def test_the_wheel_holds_the_embedded_family_as_its_manifest_says(wheel: Path, names: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        manifest = json.loads(archive.read("engines/mini/MANIFEST.json"))["files"]
        for name, entry in manifest.items():
            data = archive.read(f"engines/mini/{name}")
            assert hashlib.sha256(data).hexdigest() == entry["sha256"], name
    family = {name.removeprefix("engines/mini/") for name in names if name.startswith("engines/mini/")}
    others = {name for name in family - set(manifest) if not name.startswith("LICENSES/")}
    assert others == {"MANIFEST.json"}


def test_the_licences_travel_with_it(wheel: Path, names: set[str], metadata: Message) -> None:
    """The texts beside the weights, and all of them where licence scanners look."""
    texts = sorted(path.name for path in (ROOT / "engines/mini/LICENSES").iterdir())
    assert len(texts) == 5
    assert {f"engines/mini/LICENSES/{name}" for name in texts} <= names
    assert metadata["License-Expression"] == "Apache-2.0"
    listed = set(metadata.get_all("License-File") or [])
    assert "engines/configs/clip/LICENSE" in names
    assert listed == {"LICENSE", "engines/configs/clip/LICENSE", *(f"engines/mini/LICENSES/{name}" for name in texts)}
    # Every copyright line that the provenance names stands in a licence text or in the notice.
    with zipfile.ZipFile(wheel) as archive:
        kept = "\n".join(archive.read(f"engines/mini/LICENSES/{name}").decode() for name in texts)
        provenance = archive.read("engines/mini/PROVENANCE.md").decode()
    holders = {line.strip("| ").split("|")[-1].strip() for line in provenance.splitlines() if "| Copyright " in line}
    assert len(holders) >= 4
    assert [holder for holder in holders if holder not in kept] == []


def test_dependencies_are_bounded_and_pinned(metadata: Message) -> None:
    needs = metadata.get_all("Requires-Dist") or []
    assert [need for need in needs if "<" not in need] == []
    named = {re.split(r"[<>=!~;\[ ]", need)[0].lower() for need in needs}
    assert {"torch", "diffusers", "transformers", "compel", "textual"} <= named
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[0-9][0-9a-z.]*", pin)] == []
    pinned = {pin.split("==")[0].lower().replace("_", "-") for pin in pins}
    assert named <= pinned
    # Beside a CPU build of torch, torchvision's public wheel breaks the import of transformers' CLIP.
    assert "torchvision" not in named | pinned
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Requires-Python"] == ours["requires-python"] == ">=3.11"


def test_the_sdist_can_be_tested(built: Path) -> None:
    (found,) = built.glob("safelight-*.tar.gz")
    with tarfile.open(found) as archive:
        kept = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "constraints.txt", "LICENSE", "README.md", "pyproject.toml", "tests/conftest.py"} <= kept
    assert {f"themes/{path.name}" for path in (ROOT / "themes").glob("*.toml")} <= kept


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing in it but the wheel; third-party packages are looked up where the tests find them.

    The line in the .pth file comes after the environment's own site-packages, and Python doesn't read the .pth files
    that lie there: neither the editable install of the checkout nor a copy of it can be what is tested.
    """
    environment = tmp_path_factory.mktemp("stranger") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site_packages = Path(run(python, "-c", ask).stdout.strip())
    assert site_packages.is_relative_to(environment)
    borrowed = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (site_packages / "no_network.py").write_text(NO_NETWORK)
    (site_packages / "third_party.pth").write_text("\n".join(["import no_network", *borrowed]) + "\n")
    return environment


def stranger(folder: Path) -> dict[str, str]:
    """A person's environment: nothing of safelight's set, and Hugging Face reachable for all they know."""
    ours = ("HF_", "PYTHON", "SAFELIGHT_", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    folders = {"HOME": folder, **{f"XDG_{kind}_HOME": folder / kind.lower() for kind in ("CONFIG", "DATA", "CACHE")}}
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # a port where nothing answers, should the hook be got round
    return kept | {name: str(path) for name, path in folders.items()} | closed | {"ATTEMPTS": str(folder / "attempts")}


def test_it_is_the_wheel_that_is_tested(installed: Path, tmp_path: Path) -> None:
    ask = (
        "import engines, tui; from tui import palette; print(engines.__file__, tui.__file__, palette.shipped_folder())"
    )
    done = run(installed / "bin" / "python", "-c", ask, cwd=tmp_path, env=stranger(tmp_path))
    paths = [Path(path) for path in done.stdout.split()]
    assert len(paths) == 3
    assert [path for path in paths if not path.is_relative_to(installed)] == []


def test_an_installed_safelight_makes_a_picture_without_a_network(installed: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "elsewhere", tmp_path / "pictures"
    folder.mkdir()
    done = run(
        installed / "bin" / "safelight", "generate", "a red apple on a blue background",
        "--steps", "2", "--seed", "7", "--json", "--out", out,
        cwd=folder, env=stranger(folder), timeout=110,
    )  # fmt: skip
    (line,) = done.stdout.splitlines()
    picture = json.loads(line)
    assert picture["prompt"] == "a red apple on a blue background"
    assert picture["model"] == "mini"
    assert (picture["seed"], picture["num_inference_steps"]) == (7, 2)
    path = Path(picture["path"])
    assert path.parent == out
    with Image.open(path) as image:
        assert image.size == (picture["width"], picture["height"]) == (128, 128)
        assert len(image.convert("RGB").getcolors(128 * 128) or []) > 100, "a picture, not a plain colour"
    assert [file.name for file in out.iterdir()] == [path.name]
    assert list(folder.glob("*.png")) == []
    attempts = folder / "attempts"
    assert not attempts.exists(), attempts.read_text()


def test_nothing_is_written_into_the_installation(installed: Path, names: set[str]) -> None:
    """Runs last: what is there is what pip put there, and Python's own caches."""
    (record,) = installed.rglob("safelight-*.dist-info/RECORD")
    known = {Path(row[0]) for row in csv.reader(io.StringIO(record.read_text()))}
    here = record.parent.parent
    found = {path.relative_to(here) for package in ("engines", "tui") for path in (here / package).rglob("*")}
    strays = {path for path in found - known if not (here / path).is_dir() and path.suffix != ".pyc"}
    assert strays == set()
