"""The draft on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.errors import StorageError
from tui.draft import Draft
from tui.drafts import DraftFile


def test_what_is_saved_is_there_again(tmp_path: Path) -> None:
    file = DraftFile(tmp_path)
    assert file.open() == Draft()
    file.save(Draft(prompt="ein Apfel\nrot", seed="7", loras=("a:1",)))
    file.close()
    assert DraftFile(tmp_path).open() == Draft(prompt="ein Apfel\nrot", seed="7", loras=("a:1",))
    assert not list(tmp_path.glob("*.tmp"))


def test_two_instances_have_a_slot_each(tmp_path: Path) -> None:
    first, second = DraftFile(tmp_path), DraftFile(tmp_path)
    first.open()
    first.save(Draft(prompt="one"))
    assert second.open() == Draft(prompt="one")
    second.save(Draft(prompt="two"))
    first.save(Draft(prompt="one more"))
    first.close()
    second.close()
    assert DraftFile(tmp_path).open() == Draft(prompt="one more")
    assert json.loads((tmp_path / "draft-2.json").read_text())["prompt"] == "two"


def test_a_killed_instance_leaves_its_draft_and_gives_its_slot_back(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys; from tui.draft import Draft; from tui.drafts import DraftFile;"
        "f = DraftFile(pathlib.Path(sys.argv[1])); f.open(); f.save(Draft(prompt='kept')); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parent.parent, check=False)
    assert done.returncode == -9
    file = DraftFile(tmp_path)
    assert file.open() == Draft(prompt="kept")
    assert file.path == tmp_path / "draft-1.json"


def test_a_damaged_file_is_an_empty_draft(tmp_path: Path) -> None:
    (tmp_path / "draft-1.json").write_bytes(b"\xff\x00{")
    assert DraftFile(tmp_path).open() == Draft()


def test_a_save_that_fails_keeps_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DraftFile(tmp_path)
    file.open()
    file.save(Draft(prompt="good"))

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        file.save(Draft(prompt="lost"))
    assert json.loads((tmp_path / "draft-1.json").read_text())["prompt"] == "good"


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    file = DraftFile(tmp_path / "data")
    with pytest.raises(StorageError):
        file.open()
    file.save(Draft(prompt="nowhere to go"))


def test_private(tmp_path: Path) -> None:
    file = DraftFile(tmp_path)
    file.open()
    file.save(Draft(prompt="secret"))
    assert (tmp_path / "draft-1.json").stat().st_mode & 0o077 == 0
