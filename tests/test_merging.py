"""Files of models mixed into a new one: the arithmetic, what is refused, and that nothing is ever left half done."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from engines import blocks, headers
from engines.blocks import Formula
from engines.diffusion import merging
from engines.diffusion.merging import Result
from engines.errors import DiskFull, InvalidRequest, LoadError, SafelightError, Stopped, StorageError

UNET = "model.diffusion_model"
POSITIONS = "conditioner.embedders.0.transformer.text_model.embeddings.position_ids"
SHAPES = {
    f"{UNET}.time_embed.0.weight": (4, 6),
    f"{UNET}.input_blocks.0.0.weight": (4, 4, 3, 3),
    f"{UNET}.input_blocks.4.1.proj_in.weight": (5, 7),
    f"{UNET}.middle_block.1.norm.bias": (9,),
    f"{UNET}.output_blocks.8.0.out_layers.3.weight": (3, 2),
    f"{UNET}.out.2.bias": (4,),
    "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": (6,),
    "conditioner.embedders.1.model.text_projection": (3, 3),
    "conditioner.embedders.1.model.logit_scale": (),
    "first_stage_model.decoder.conv_out.weight": (3, 4),
}
HALVES = Formula("weighted-sum", (0.5, 0.5))
Tensors = dict[str, torch.Tensor]


def tensors(seed: int, dtype: torch.dtype = torch.float32) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}
    made[POSITIONS] = torch.arange(7).reshape(1, 7) + seed
    return made


def saved(folder: Path, name: str, given: Tensors, **metadata: str) -> Path:
    path = folder / f"{name}.safetensors"
    save_file(given, path, metadata={f"modelspec.{key}": value for key, value in metadata.items()})
    return path


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return [saved(tmp_path, name, tensors(seed)) for seed, name in enumerate(("a", "b", "c"))]


def merge(parents: list[Path], formula: Formula, out: Path, **options: Any) -> tuple[Tensors, Result]:
    """The tensors of the new file, and what was said of it."""
    result = drained(parents, formula, out, **options)
    assert result.path == out
    return load_file(out), result


def drained(parents: list[Path], formula: Formula, out: Path, **options: Any) -> Result:
    steps = merging.to_file(parents, formula, out, **options)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Result = end.value
            return found


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_weighted_sum_is_one(three: list[Path], tmp_path: Path) -> None:
    a, b, c = (load_file(path) for path in three)
    two, result = merge(three[:2], Formula("weighted-sum", (3, 1)), tmp_path / "two.safetensors")
    assert result.tally == merging.Tally(mixed=len(SHAPES), copied=1, kept=0, dropped=0) and not result.notes
    for name in SHAPES:
        torch.testing.assert_close(two[name], 0.75 * a[name] + 0.25 * b[name])
    assert torch.equal(two[POSITIONS], a[POSITIONS])
    all_three, _ = merge(three, Formula("weighted-sum", (0.5, 0.3, 0.2)), tmp_path / "three.safetensors")
    for name in SHAPES:
        torch.testing.assert_close(all_three[name], 0.5 * a[name] + 0.3 * b[name] + 0.2 * c[name])


def test_a_difference_is_added(three: list[Path], tmp_path: Path) -> None:
    a, b, c = (load_file(path) for path in three)
    made, _ = merge(three, Formula("add-difference", (1, 0.6, 1), (("mid", -1.0),)), tmp_path / "out.safetensors")
    for name in SHAPES:
        share = -1.0 if "middle" in name else 0.6
        torch.testing.assert_close(made[name], a[name] + share * (b[name] - c[name]))


def test_every_block_has_its_own_share(three: list[Path], tmp_path: Path) -> None:
    shares = {block: i / len(blocks.NAMES) for i, block in enumerate(blocks.NAMES)}
    formula = Formula("weighted-sum", (1, 1), tuple(shares.items()))
    made, _ = merge(three[:2], formula, tmp_path / "out.safetensors")
    a, b = load_file(three[0]), load_file(three[1])
    used = {name: blocks.of(name) for name in SHAPES}
    assert set(used.values()) == {"base", "in0", "in4", "mid", "out8", "text_encoder", "text_encoder_2", "vae"}
    for name, block in used.items():
        torch.testing.assert_close(made[name], (1 - shares[block]) * a[name] + shares[block] * b[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn])
def test_what_models_agree_on_stays_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    a, b = (saved(tmp_path, name, tensors(seed, dtype)) for seed, name in enumerate("ab"))
    same, result = merge([a, a], Formula("weighted-sum", (0.3, 0.7)), tmp_path / "same.safetensors")
    second, _ = merge([a, b], Formula("weighted-sum", (0, 1)), tmp_path / "second.safetensors")
    assert headers.BITS[result.dtype] == dtype.itemsize * 8
    for name in SHAPES:
        assert torch.equal(same[name].float(), load_file(a)[name].float()) and same[name].dtype == dtype
        assert torch.equal(second[name].float(), load_file(b)[name].float())


def test_it_is_computed_in_fp32_and_rounded_once(tmp_path: Path) -> None:
    # in fp16 the sum of the first two would be rounded away: 1 + 0.0004 is 1 there
    first = {"x": torch.tensor([1.0, 2.0], dtype=torch.float16)}
    second = {"x": torch.tensor([0.0004, 1.0], dtype=torch.float16)}
    third = {"x": torch.tensor([-0.0004, -1.0], dtype=torch.float16)}
    files = [saved(tmp_path, name, given) for name, given in (("a", first), ("b", second), ("c", third))]
    made, _ = merge(files, Formula("add-difference", (1, 1, 1)), tmp_path / "out.safetensors")
    exact = first["x"].double() + second["x"].double() - third["x"].double()
    assert torch.equal(made["x"], exact.half()) and made["x"][0] != 1


def test_types_may_differ_and_the_first_models_is_kept(tmp_path: Path) -> None:
    files = [
        saved(tmp_path, name, tensors(seed, dtype))
        for seed, (name, dtype) in enumerate({"a": torch.bfloat16, "b": torch.float32, "c": torch.float16}.items())
    ]
    formula = Formula("weighted-sum", (1, 1, 1))
    kept, result = merge(files, formula, tmp_path / "kept.safetensors")
    assert {kept[name].dtype for name in SHAPES} == {torch.bfloat16} and result.dtype == "BF16"
    wide, result = merge(files, formula, tmp_path / "wide.safetensors", dtype="fp32")
    assert {wide[name].dtype for name in SHAPES} == {torch.float32} and result.dtype == "F32"
    assert wide[POSITIONS].dtype == torch.int64
    for name in SHAPES:
        torch.testing.assert_close(wide[name], sum(load_file(path)[name].float() for path in files) / 3)
        assert torch.equal(kept[name], wide[name].bfloat16())


def test_the_file_is_laid_out_as_the_format_wants_it(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    # written as two bytes each, the odd number of the floats would push what stands behind them off its place
    given = tensors(0) | {"odd": torch.ones(1), POSITIONS: torch.arange(7, dtype=torch.int32)}
    _, result = merge([saved(tmp_path, name, given) for name in "ab"], HALVES, out, dtype="fp16")
    header = headers.read(out)
    assert result.bytes == header.size == out.stat().st_size
    ends = max(tensor.end for tensor in header.tensors.values())
    start = header.size - ends
    assert start % 8 == 0
    for tensor in header.tensors.values():
        assert tensor.start % (headers.BITS[tensor.dtype] // 8) == 0
    assert header.metadata["modelspec.hash_sha256"] == "0x" + hashlib.sha256(out.read_bytes()[start:]).hexdigest()


def test_it_says_what_it_was_made_of(tmp_path: Path) -> None:
    a = saved(tmp_path, "realism", tensors(0), architecture="sdxl", title="Real, ism", license="X", author="R")
    b = saved(tmp_path, "juggernaut", tensors(1), architecture="other", license="Y")
    formula = Formula("weighted-sum", (0.6, 0.4), (("in4", 0.2),))
    result = drained(
        [a, b], formula, tmp_path / "mix.safetensors", metadata={"modelspec.author": "me", "modelspec.hash_sha256": "?"}
    )
    with safe_open(result.path, "pt") as file:
        said = file.metadata()
    assert json.loads(said["safelight.merge"]) | {"safelight": ""} == {
        "safelight": "",
        "method": "weighted-sum",
        "weights": [0.6, 0.4],
        "blocks": {"in4": 0.2},
        "dtype": "",
        "parents": [{"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in (a, b)],
    }
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in (a, b)] == list(result.hashes)
    expected = {
        "sai_model_spec": "1.0.0",
        "architecture": "sdxl",
        "title": "mix",
        "author": "me",
        "merged_from": "Real  ism, juggernaut",
        "license": "X; Y",
        "description": "weighted-sum 0.6 : 0.4, in4 0.2 of realism.safetensors, juggernaut.safetensors",
    }
    assert {key: said[f"modelspec.{key}"] for key in expected} == expected
    assert said["modelspec.date"].endswith("Z") and said["format"] == "pt"


def test_known_hashes_are_not_computed_again(three: list[Path], tmp_path: Path) -> None:
    asked: list[Path] = []

    def digest(path: Path) -> str:
        asked.append(path)
        return "f" * 64

    steps = list(merging.to_file(three[:2], HALVES, tmp_path / "out.safetensors", digest=digest))
    assert asked == three[:2] and not [step for step in steps if step.what.startswith("reading")]


def test_progress_grows_to_one(three: list[Path], tmp_path: Path) -> None:
    steps = list(merging.to_file(three, Formula("weighted-sum", (1, 1, 1)), tmp_path / "out.safetensors"))
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and fractions[0] > 0
    assert {f"reading {path.name}" for path in three} | set(SHAPES) <= {step.what for step in steps}


def test_what_only_one_model_has_is_told(tmp_path: Path) -> None:
    a, b = tensors(0), tensors(1)
    del b["conditioner.embedders.1.model.text_projection"], b[POSITIONS]
    b["first_stage_model.extra"] = torch.ones(3)
    files = [saved(tmp_path, "a", a), saved(tmp_path, "b", b)]
    made, result = merge(files, HALVES, tmp_path / "out.safetensors")
    assert made.keys() == a.keys()
    assert torch.equal(made[POSITIONS], a[POSITIONS])
    name = "conditioner.embedders.1.model.text_projection"
    assert torch.equal(made[name], a[name])
    assert result.tally == merging.Tally(mixed=len(SHAPES) - 1, copied=0, kept=2, dropped=1)
    assert len(result.notes) == 2 and "2 tensors" in result.notes[0] and "1 tensor is" in result.notes[1]
    assert merging.Tally(1, 0, 0, 0).notes == ()


def test_a_unet_alone_is_mixed_into_a_whole_checkpoint(tmp_path: Path) -> None:
    whole, alone = tensors(0), {name: x for name, x in tensors(1).items() if name.startswith(UNET)}
    files = [saved(tmp_path, "a", whole), saved(tmp_path, "b", alone)]
    made, result = merge(files, Formula("weighted-sum", (0, 1)), tmp_path / "out.safetensors")
    assert result.tally.mixed == len(alone) and result.tally.kept == len(whole) - len(alone)
    assert all(torch.equal(made[name], alone.get(name, whole[name])) for name in whole)


def test_models_trained_for_different_predictions_are_told_apart(tmp_path: Path) -> None:
    marked = tensors(0) | {"v_pred": torch.empty(0)}
    files = [
        saved(tmp_path, "a", marked, prediction_type="v"),
        saved(tmp_path, "b", tensors(1), prediction_type="epsilon"),
    ]
    _, result = merge(files, HALVES, tmp_path / "out.safetensors")
    assert any("v_pred" in note for note in result.notes) and any("epsilon, v" in note for note in result.notes)


@pytest.mark.parametrize("architecture", ["sdxl", "segmind-vega"])
def test_a_model_is_mixed_alike_under_both_of_its_layouts(tmp_path: Path, architecture: str) -> None:
    every = tuple((block, i / len(blocks.NAMES)) for i, block in enumerate(blocks.NAMES))
    made = {}
    for keys in ("diffusers", "ldm", "bare-ldm"):
        files = [tiny.unet_file(tmp_path / f"{keys}-{i}.safetensors", i, keys, architecture) for i in (1, 2)]
        out = tmp_path / f"{keys}.safetensors"
        made[keys], result = merge(files, Formula("weighted-sum", (1, 1), every), out)
        assert result.tally == merging.Tally(mixed=len(made[keys]), copied=0, kept=0, dropped=0)
    expected = tiny.original("unet", made["diffusers"])
    assert made["ldm"].keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(made["ldm"][name], tensor)
        assert torch.equal(made["bare-ldm"][name.removeprefix(f"{UNET}.")], tensor)


def test_a_pruned_model_is_not_mixed_with_a_whole_one(tmp_path: Path) -> None:
    whole, pruned = (tiny.unet_file(tmp_path / name, 1, "ldm", name) for name in ("sdxl", "segmind-vega"))
    for parents in ([whole, pruned], [pruned, whole]):
        with pytest.raises(LoadError, match="another architecture"):
            drained(parents, HALVES, tmp_path / "out.safetensors")


def changed(name: str, tensor: torch.Tensor) -> Callable[[Tensors], None]:
    return lambda given: given.__setitem__(name, tensor)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(f"{UNET}.input_blocks.0.0.weight", torch.ones(4, 9, 3, 3)),
         r"input_blocks.0.0.weight is 4x4x3x3 in a.safetensors and 4x9x3x3 in b.safetensors"),
        (lambda given: given.pop(f"{UNET}.middle_block.1.norm.bias"), "b.safetensors is of another arch.*lacks"),
        (changed(f"{UNET}.input_blocks.7.1.norm.bias", torch.ones(2)), "b.safetensors is of another .*input_blocks.7"),
        (changed(f"{UNET}.out.2.bias", torch.ones(4, dtype=torch.uint8)), "b.safetensors is quantised.*out.2.bias.*U8"),
        (changed("scaled_fp8", torch.ones(1)), "scales of their own"),
        (changed("first_stage_model.decoder.conv_out.weight", torch.ones(3, 4) / 0), "conv_out.weight.*finite"),
        (changed("conditioner.embedders.1.model.logit_scale", torch.tensor(float("nan"))), "logit_scale.*not finite"),
        (lambda given: given.update({f"diffusers.{k}": given.pop(k) for k in list(given)}), "no tensor alike"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    three: list[Path], tmp_path: Path, change: Callable[[Tensors], Any], said: str
) -> None:
    other = tensors(1)
    change(other)
    saved(tmp_path, "b", other)
    with pytest.raises(LoadError, match=said) as error:
        drained(three[:2], HALVES, tmp_path / "out.safetensors")
    assert error.value.hint and "\n" not in str(error.value)
    assert left(tmp_path) == {path.name for path in three}


@pytest.mark.parametrize(("dtype", "hint"), [("fp16", "bf16"), ("", "verify")])
def test_a_number_too_large_for_its_type_is_named(tmp_path: Path, dtype: str, hint: str) -> None:
    large = tensors(0) | {f"{UNET}.out.2.bias": torch.full((4,), 3e38)}
    files = [saved(tmp_path, "a", large), saved(tmp_path, "b", large), saved(tmp_path, "c", tensors(1))]
    formula = Formula("weighted-sum", (1, 1)) if dtype else Formula("add-difference", (1, 1, 1))
    with pytest.raises(LoadError, match=r"out\.2\.bias") as error:
        drained(files[: len(formula.weights)], formula, tmp_path / "out.safetensors", dtype=dtype)
    assert hint in error.value.hint
    assert "out.safetensors" not in left(tmp_path) and len(left(tmp_path)) == 3


def test_broken_numbers_of_a_model_that_has_no_share_do_no_harm(tmp_path: Path) -> None:
    broken = tensors(1) | {"conditioner.embedders.1.model.logit_scale": torch.tensor(float("nan"))}
    files = [saved(tmp_path, "a", tensors(0)), saved(tmp_path, "b", broken)]
    formula = Formula("weighted-sum", (0.5, 0.5), (("text_encoder_2", 0.0),))
    made, _ = merge(files, formula, tmp_path / "out.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in made.values())


def test_only_small_pieces_are_read_and_they_make_the_same(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = merge(three, Formula("weighted-sum", (1, 2, 3)), tmp_path / "whole.safetensors")
    read = merging._Source.read
    counts: list[int] = []

    def counting(self: Any, name: str, start: int, count: int) -> torch.Tensor:
        counts.append(count)
        return read(self, name, start, count)

    monkeypatch.setattr(merging, "PIECE", 7)
    monkeypatch.setattr(merging._Source, "read", counting)
    pieces, _ = merge(three, Formula("weighted-sum", (1, 2, 3)), tmp_path / "pieces.safetensors")
    assert max(counts) == 7 and sum(counts) == 3 * sum(x.numel() for x in whole.values()) - 2 * 7
    for name, tensor in whole.items():
        torch.testing.assert_close(pieces[name], tensor, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("looks", [0, 1, 2, 5, 9])
def test_a_stop_leaves_nothing(three: list[Path], tmp_path: Path, looks: int) -> None:
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > looks

    with pytest.raises(Stopped):
        drained(three[:2], HALVES, tmp_path / "out.safetensors", stop=stop)
    assert left(tmp_path) == {path.name for path in three} and len(asked) == looks + 1


def test_whoever_gives_up_leaves_nothing(three: list[Path], tmp_path: Path) -> None:
    steps = merging.to_file(three[:2], HALVES, tmp_path / "out.safetensors")
    while next(steps).what not in SHAPES:
        pass
    assert len(left(tmp_path)) == 4
    steps.close()
    assert left(tmp_path) == {path.name for path in three}


def test_too_small_a_disk_is_told_before_the_start(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(DiskFull, match=r"takes \d+ k?B and .* has 100 B free"):
        next(merging.to_file(three[:2], HALVES, tmp_path / "out.safetensors"))
    assert left(tmp_path) == {path.name for path in three}


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, DiskFull), (errno.EIO, StorageError)])
def test_a_disk_that_fails_meanwhile_leaves_nothing(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[SafelightError]
) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind):
        drained(three[:2], HALVES, tmp_path / "out.safetensors")
    assert left(tmp_path) == {path.name for path in three}


@pytest.mark.parametrize("how", ["shorter", "newer"])
def test_a_model_that_changes_meanwhile_is_told(three: list[Path], tmp_path: Path, how: str) -> None:
    steps = merging.to_file(three[:2], HALVES, tmp_path / "out.safetensors")
    while next(steps).what not in SHAPES:
        pass
    if how == "shorter":
        os.truncate(three[1], 3000)
    else:
        os.utime(three[1], (1, 1))
    with pytest.raises(LoadError, match=r"b\.safetensors (became shorter|was changed) while it was read"):
        for _ in steps:
            pass
    assert left(tmp_path) == {path.name for path in three}


def test_nothing_is_overwritten_unless_it_is_wanted(three: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(InvalidRequest, match="there already"):
        drained(three[:2], HALVES, out)
    assert out.read_bytes() == b"mine"
    with pytest.raises(Stopped):
        drained(three[:2], HALVES, out, overwrite=True, stop=lambda: True)
    assert out.read_bytes() == b"mine"
    drained(three[:2], HALVES, out, overwrite=True)
    assert len(load_file(out)) == len(SHAPES) + 1
    link = tmp_path / "link.safetensors"
    link.symlink_to(three[0])
    for parent in (three[0], link):
        with pytest.raises(InvalidRequest, match="one of the models"):
            drained(three[:2], HALVES, parent, overwrite=True)


def test_a_name_that_appears_meanwhile_is_not_overwritten(three: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    steps = merging.to_file(three[:2], HALVES, out)
    next(steps)
    out.write_bytes(b"theirs")
    with pytest.raises(StorageError, match="meanwhile"):
        for _ in steps:
            pass
    assert out.read_bytes() == b"theirs" and len(left(tmp_path)) == 4


@pytest.mark.parametrize(
    ("count", "out", "options", "said"),
    [
        (3, "x.safetensors", {}, "3 models have 2 weights"),
        (2, "x.ckpt", {}, "doesn't end in"),
        (2, "x.safetensors", {"dtype": "int4"}, "int4"),
    ],
)
def test_a_request_that_makes_no_mix_is_refused(
    three: list[Path], tmp_path: Path, count: int, out: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        drained(three[:count], HALVES, tmp_path / out, **options)
    assert left(tmp_path) == {path.name for path in three}


def test_a_folder_is_made_and_the_file_has_a_new_files_rights(three: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.safetensors"
    before = os.umask(0o027)
    try:
        drained(three[:2], HALVES, out)
    finally:
        os.umask(before)
    assert out.stat().st_mode & 0o777 == 0o640 and left(out.parent) == {"out.safetensors"}


def test_a_damaged_model_is_told(three: list[Path], tmp_path: Path) -> None:
    three[1].write_bytes(three[1].read_bytes()[:-5])
    with pytest.raises(LoadError, match=r"b\.safetensors"):
        drained(three[:2], HALVES, tmp_path / "out.safetensors")
    assert left(tmp_path) == {path.name for path in three}
