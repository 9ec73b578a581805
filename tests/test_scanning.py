"""Folders of models are looked through in place."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from zoo import pickled

from engines import scanning
from engines.errors import LoadError


def test_each_model_is_told_once_and_links_go_in_no_circle(tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / ".hidden").mkdir()
    lora = tiny.lora(tmp_path / "loras" / "a.safetensors", only="mid_block")
    tiny.lora(tmp_path / ".hidden" / "b.safetensors", only="mid_block")
    (tmp_path / "loras" / "again.safetensors").symlink_to(lora)
    (tmp_path / "loras" / "up").symlink_to(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    tiny.vae_folder(tmp_path / "vae")
    pickled("old.ckpt")(tmp_path)
    found = list(scanning.scan(tmp_path))
    assert [one.path.name for one in found] == ["old.ckpt", "a.safetensors", "vae"]
    assert "convert" in found[0].hint
    assert [one.identified.kind for one in found[1:] if one.identified] == ["lora", "vae"]


def test_it_stops_where_it_is_asked_to(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.safetensors").write_bytes(b"")
    asked = iter([False, False, False, True])
    assert len(list(scanning.scan(tmp_path, lambda: next(asked)))) == 2


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="is no folder"):
        list(scanning.scan(tmp_path / "nowhere"))
