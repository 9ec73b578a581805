"""Pickled files become safetensors files, and no code of theirs is run."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from zoo import MARKER, pickled, zipped

from engines.diffusion import converting
from engines.errors import LoadError, Stopped, StorageError


@pytest.mark.parametrize("new", [True, False])
def test_a_checkpoint_is_unwrapped_and_its_doubles_are_dropped(new: bool, tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    state = {"model.diffusion_model.a": weight, "shared": weight, "turned": weight.T, "model_ema.a": weight.clone()}
    file, out = tmp_path / "a.ckpt", tmp_path / "a.safetensors"
    torch.save({"state_dict": {**state, "n": 3}, "epoch": 5}, file, _use_new_zipfile_serialization=new)
    notes = [step.text for step in converting.convert(file, out)]
    made = load_file(out)
    assert made.keys() == {"model.diffusion_model.a", "shared", "turned"}
    assert torch.equal(made["turned"], weight.T)
    assert any("epoch" in note for note in notes) and any("model_ema" in note for note in notes)
    with pytest.raises(StorageError, match="is there already"):
        list(converting.convert(file, out))


def test_a_textual_inversion_is_converted(tmp_path: Path) -> None:
    torch.save({"string_to_param": {"*": torch.ones(2, 768)}, "name": "cat", "step": 9}, tmp_path / "cat.pt")
    list(converting.convert(tmp_path / "cat.pt", tmp_path / "cat.safetensors"))
    assert load_file(tmp_path / "cat.safetensors")["emb_params"].shape == (2, 768)


@pytest.mark.parametrize("build", [pickled, zipped])
def test_code_is_named_and_not_run(build: object, tmp_path: Path) -> None:
    file = build("evil.ckpt")(tmp_path)  # type: ignore[operator]
    if build is zipped:  # what torch looks for beside the pickle
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("archive/version", "3\n")
    with pytest.raises(LoadError) as caught:
        list(converting.convert(file, tmp_path / "out.safetensors"))
    assert "it was not run" in caught.value.message and caught.value.message.isprintable()
    assert "mkdir" in caught.value.message
    assert not (tmp_path / MARKER).exists() and not (tmp_path / "out.safetensors").exists()


def test_a_small_archive_that_unpacks_into_a_large_one_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(20_000_000))
    with pytest.raises(LoadError, match="would unpack"):
        list(converting.convert(tmp_path / "bomb.pt", tmp_path / "out.safetensors"))


def test_a_tensor_that_is_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(1 << 40)}, tmp_path / "wide.pt")
    with pytest.raises(LoadError, match="unpacks into far more"):
        list(converting.convert(tmp_path / "wide.pt", tmp_path / "out.safetensors"))


def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    with pytest.raises(Stopped):
        list(converting.convert(tmp_path / "a.pt", tmp_path / "a.safetensors", lambda: True))
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_checkpoint_that_is_cut_short_is_told(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(300)}, whole := tmp_path / "a.ckpt")
    for length, told in ((whole.stat().st_size // 2, "cut short or damaged"), (0, "empty")):
        (tmp_path / "cut.ckpt").write_bytes(whole.read_bytes()[:length])
        with pytest.raises(LoadError, match=f"cut.ckpt is {told}") as caught:
            list(converting.convert(tmp_path / "cut.ckpt", tmp_path / "out.safetensors"))
        assert "name a .ckpt" not in caught.value.hint


def test_what_is_no_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"<html>")
    with pytest.raises(LoadError, match="is no pickled file but a web page"):
        list(converting.convert(tmp_path / "a.pt", tmp_path / "a.safetensors"))
