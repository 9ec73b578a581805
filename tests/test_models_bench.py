"""The models' bench: that it makes what it says, runs and tells its figures. No test asserts a time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import forked
import pytest

from engines import catalogue, folders, identify
from tui import models_bench
from tui.figures import Figure, Place
from tui.making import Progress
from tui.session import Session
from tui.settings import Settings

SMALL = "32,32,64/64,64/32,32,32,32"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is loaded, small."""
    folder = tmp_path_factory.mktemp("made")
    loader(folder, "make", "--shape", SMALL)
    return folder


def loader(folder: Path, what: str, *more: str) -> list[dict[str, Any]]:
    """The objects that one command of the loading side prints."""
    done = forked.run([what, str(folder), *more], program="engines.diffusion.models_bench")
    assert done.stdout, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_is_loaded_is_what_safelight_reads(made: Path) -> None:
    listed = catalogue.load(made / "models.toml")
    assert not listed.problems
    for entry in (listed.model("bench-base"), listed.model("bench-unet"), listed.adapter("bench-lora")):
        assert listed.missing(entry) == ()
    large = identify.path(made / "large.safetensors")
    assert (large.kind, large.architecture, large.bytes) == (
        "unet",
        "sdxl",
        (made / "large.safetensors").stat().st_size,
    )
    assert large.bytes > 5e9 and dict(large.parameters)["unet"] > 2.5e9


def test_switching_tells_every_run(made: Path, tmp_path: Path) -> None:
    *_, last = loader(made, "switch", "--runs", "2", "--home", str(tmp_path))
    assert {name: len(values) for name, values in last["result"].items()} == {
        "unet": 2, "base": 2, "lora": 2, "added": 1
    }  # fmt: skip
    assert all(value > 0 for values in last["result"].values() for value in values)


def test_a_model_that_cannot_be_loaded_is_one_line(made: Path, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text((made / "models.toml").read_text())
    (told,) = loader(tmp_path, "ours")
    assert "bench-base is not on this machine" in told["error"] and told["exit_code"] == 1


def test_a_thousand_entries_are_read_and_listed(tmp_path: Path) -> None:
    models_bench.shelve(tmp_path, 50)
    listed = catalogue.load(tmp_path / "models.toml")
    assert not listed.problems
    ours = {entry.id: listed.missing(entry) for entry in listed.entries() if entry.id.startswith("bench-")}
    assert len(ours) == 50
    assert {id for id, gone in ours.items() if gone} == {f"bench-{i}" for i in range(2, 50, 5)}


@pytest.mark.slow
def test_all_figures(home: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise", raising=False)  # as on a system without it: one figure less
    monkeypatch.setattr(models_bench, "SHAPE", SMALL)
    monkeypatch.setattr(models_bench, "COUNT", 20)
    monkeypatch.setattr(models_bench, "COMMANDS", models_bench.COMMANDS[:1])
    listed = catalogue.load()
    began = Session(folders.find(), Settings(), listed, (), False)
    place = Place(began, listed.default_model(), 1, home, Progress())
    found: list[Figure] = list(models_bench.models(place))
    assert [figure.what for figure in found] == [
        "cold load, files in memory", "the same, sha256 unknown", "back to a model that is held",
        "to a UNet over it that is held", "another weight of a LoRA", "models list, 20 entries",
    ]  # fmt: skip
    for figure in found:
        told = figure.to_json()
        assert told["bench"] == "models" and told["median"] > 0 and len(told["values"]) == 1
    assert all(figure.ratio for figure in found[:5]) and found[5].details["heavy"] == []
