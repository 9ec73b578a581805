"""Scores are CLIP's own cosines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from engines import catalogue
from engines.diffusion import device, scoring
from engines.diffusion.previews import Previews, to_pixels, to_uint8
from engines.diffusion.sampling import Step
from engines.entries import Folder, Scorer
from engines.errors import LoadError


@pytest.fixture(scope="module")
def scorer() -> scoring.ClipScorer:
    judge = scoring.load(catalogue.load().default_scorer(), device.choose("cpu"))
    assert isinstance(judge, scoring.ClipScorer)
    return judge


def pictures() -> list[Image.Image]:
    dice = np.random.default_rng(0)
    sizes = ((128, 128), (96, 160), (40, 30), (512, 64))
    return [Image.fromarray(dice.integers(0, 255, (h, w, 3), dtype=np.uint8)) for h, w in sizes]


def test_a_score_is_the_models_own_cosine_times_a_hundred(scorer: scoring.ClipScorer) -> None:
    text = "a red apple on a blue background"
    scores, chunks = scorer.score(pictures(), text)
    assert chunks == 1
    for image, score in zip(pictures(), scores, strict=True):
        inputs = scorer.processor(images=[image], return_tensors="pt")
        with torch.no_grad():
            out = scorer.model(**scorer.tokenizer([text], return_tensors="pt"), **inputs)
        cosine = torch.nn.functional.cosine_similarity(out.image_embeds, out.text_embeds).item()
        assert score == pytest.approx(max(100 * cosine, 0), rel=1e-3)


@pytest.mark.parametrize("kind", ["clip", "preference", "aesthetic"])
def test_pixels_are_pillows_whatever_else_is_on_the_machine(tmp_path: Path, kind: str) -> None:
    folder = (tiny.aesthetic_folder if kind == "aesthetic" else tiny.clip_folder)(tmp_path / "judge")
    judge = scoring.load(entry(kind, folder), device.choose("cpu"))
    assert isinstance(judge, scoring.ClipScorer | scoring.AestheticScorer) and judge.processor.backend == "pil"
    told = json.loads((folder / "preprocessor_config.json").read_text())
    side, crop = told["size"]["shortest_edge"], told["crop_size"]["height"]
    for image in pictures()[:2]:
        scale = side / min(image.size)
        small = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling(told["resample"]))
        left, top = (small.width - crop) // 2, (small.height - crop) // 2
        values = np.asarray(small.crop((left, top, left + crop, top + crop)), np.float32) / 255
        wanted = (values - told["image_mean"]) / told["image_std"]
        seen = judge.processor(images=[image], return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(seen, wanted.transpose(2, 0, 1), atol=1e-5)


def test_a_score_is_never_negative(scorer: scoring.ClipScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Opposite:
        image_embeds = torch.tensor([[1.0, 0.0]])
        text_embeds = torch.tensor([[-1.0, 0.0]])

    monkeypatch.setattr(type(scorer.model), "__call__", lambda *_, **__: Opposite())
    assert scorer.score(pictures()[:1], "x") == ([0.0], 1)


@pytest.mark.parametrize("text", ["a red apple, " * 60, "x" * 4000, "猫" * 200], ids=len)
def test_a_long_text_is_read_in_chunks_that_fit(scorer: scoring.ClipScorer, text: str) -> None:
    chunks = scorer._chunks(text)
    assert len(chunks) > 1
    assert "".join(chunks).replace(" ", "") == text.replace(" ", "")
    assert all(len(scorer.tokenizer(c)["input_ids"]) <= 77 for c in chunks)
    scores, count = scorer.score(pictures()[:1], text)
    assert count == len(chunks) and 0 <= scores[0] <= 100


def test_modes_other_than_rgb_are_scored(scorer: scoring.ClipScorer) -> None:
    for mode in ("L", "RGBA", "P", "CMYK", "1"):
        scores, _ = scorer.score([pictures()[0].convert(mode)], "an apple")
        assert len(scores) == 1


def test_a_folder_without_a_scorer_is_told(tmp_path: Path) -> None:
    from dataclasses import replace

    for folder in (tmp_path, tmp_path / "gone"):
        gone = replace(catalogue.load().default_scorer(), source=Folder(folder))
        with pytest.raises(LoadError, match="can't be loaded: ") as told:
            scoring.load(gone, device.choose("cpu"))
        assert "\n" not in told.value.message
    assert told.value.message.endswith("gone is missing")


def entry(kind: str, folder: Path) -> Scorer:
    return Scorer("judge", "Judge", kind, Folder(folder), "MIT")


def test_a_preference_is_the_models_own_logit(tmp_path: Path) -> None:
    judge = scoring.load(entry("preference", tiny.clip_folder(tmp_path / "clip")), device.choose("cpu"))
    assert isinstance(judge, scoring.ClipScorer)
    text = "a red apple on a blue background"
    scores, chunks = judge.score(pictures(), text)
    assert chunks == 1
    for image, score in zip(pictures(), scores, strict=True):
        inputs = judge.processor(images=[image], return_tensors="pt")
        with torch.no_grad():
            out = judge.model(**judge.tokenizer([text], return_tensors="pt"), **inputs)
        assert score == pytest.approx(out.logits_per_image.item(), rel=1e-3)
    assert min(scores) < 0 or max(scores) > 0


def test_a_rating_is_five_linear_layers_over_the_normalised_picture(tmp_path: Path) -> None:
    """What the predictor's own code computes, written out with numpy."""
    folder = tiny.aesthetic_folder(tmp_path / "aesthetic")
    judge = scoring.load(entry("aesthetic", folder), device.choose("cpu"))
    assert isinstance(judge, scoring.AestheticScorer)
    scores, chunks = judge.score(pictures(), "anything")
    assert chunks == 1 and scores == judge.score(pictures(), "something else")[0]
    held = load_file(folder / "model.safetensors")
    inputs = judge.processor(images=pictures(), return_tensors="pt")
    with torch.no_grad():
        seen = judge.model(**inputs).image_embeds.numpy()
    value = seen / np.linalg.norm(seen, axis=-1, keepdims=True)
    for number in (0, 2, 4, 6, 7):
        value = value @ held[f"layers.{number}.weight"].T + held[f"layers.{number}.bias"]
    np.testing.assert_allclose(scores, value[:, 0], rtol=1e-4)
    assert len({round(s, 6) for s in scores}) == len(scores)


def test_the_vision_tower_of_a_predictor_has_its_files_weights(tmp_path: Path) -> None:
    folder = tiny.aesthetic_folder(tmp_path / "aesthetic")
    judge = scoring.load(entry("aesthetic", folder), device.choose("cpu"))
    held = load_file(folder / "model.safetensors")
    state = judge.modules[0].state_dict()
    assert state and all(np.array_equal(held[name], tensor.numpy()) for name, tensor in state.items())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda held: {k: v for k, v in held.items() if not k.startswith("layers.6")},
        lambda held: {k: v for k, v in held.items() if not k.startswith("layers.")},
        lambda held: held | {"layers.9.weight": np.zeros((1, 1), np.float32)},
        lambda held: held | {"layers.4.bias": np.zeros(3, np.float32)},
        lambda held: (
            held | {"layers.7.weight": np.zeros((3, 16), np.float32), "layers.7.bias": np.zeros(3, np.float32)}
        ),
        lambda held: {k: v for k, v in held.items() if "post_layernorm" not in k},
        lambda held: held | {"visual_projection.weight": np.zeros((7, 64), np.float32)},
    ],
    ids=[
        "a layer gone",
        "no layers",
        "another head",
        "a bias of another shape",
        "three numbers",
        "half a tower",
        "another projection",
    ],
)
def test_a_predictor_that_is_none_is_told_in_one_line(tmp_path: Path, spoil: Any) -> None:
    folder = tiny.aesthetic_folder(tmp_path / "aesthetic")
    save_file(spoil(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    with pytest.raises(LoadError, match="scorer judge can't be loaded") as told:
        scoring.load(entry("aesthetic", folder), device.choose("cpu"))
    assert "\n" not in told.value.message and told.value.hint


@pytest.mark.parametrize("kind", ["clip", "preference", "aesthetic"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
@pytest.mark.parametrize("contents", [b"", b"[]", b"\xff" * 40], ids=["empty", "list", "noise"])
def test_damaged_files_of_a_scorer_are_told_in_one_line(tmp_path: Path, kind: str, name: str, contents: bytes) -> None:
    folder = (tiny.aesthetic_folder if kind == "aesthetic" else tiny.clip_folder)(tmp_path / "judge")
    (folder / name).write_bytes(contents)
    with pytest.raises(LoadError, match="scorer judge can't be loaded") as told:
        scoring.load(entry(kind, folder), device.choose("cpu"))
    assert "\n" not in told.value.message


@pytest.mark.parametrize("kind", ["clip", "preference", "aesthetic"])
@pytest.mark.parametrize(
    "gone", ["visual_projection.", "vision_model.encoder.layers.3.", "text_projection.", "text_model."]
)
def test_missing_weights_are_never_filled_at_random(tmp_path: Path, kind: str, gone: str) -> None:
    if kind == "aesthetic" and gone.startswith("text"):
        return
    folder = (tiny.aesthetic_folder if kind == "aesthetic" else tiny.clip_folder)(tmp_path / "judge")
    held = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in held.items() if not k.startswith(gone)}, folder / "model.safetensors")
    with pytest.raises(LoadError, match=f"its weights file lacks {gone}"):
        scoring.load(entry(kind, folder), device.choose("cpu"))


@pytest.mark.parametrize("kind", ["clip", "preference", "aesthetic"])
def test_weights_that_are_no_numbers_give_no_score(tmp_path: Path, kind: str) -> None:
    folder = (tiny.aesthetic_folder if kind == "aesthetic" else tiny.clip_folder)(tmp_path / "judge")
    held = load_file(folder / "model.safetensors")
    held["visual_projection.weight"] = np.full_like(held["visual_projection.weight"], np.nan)
    save_file(held, folder / "model.safetensors")
    with pytest.raises(LoadError, match="gives no number"):
        scoring.load(entry(kind, folder), device.choose("cpu"))


@pytest.mark.parametrize("kind", ["clip", "aesthetic"])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("preprocessor_config.json", {"crop_size": {"height": 48, "width": 48}}),
        ("preprocessor_config.json", {"image_mean": [0.5]}),
        ("preprocessor_config.json", {"size": {"shortest_edge": 0}}),
        ("config.json", {"num_attention_heads": 0}),
        ("config.json", {"patch_size": 0}),
        ("config.json", {"layer_norm_eps": "x"}),
        ("config.json", {"hidden_act": "evil"}),
    ],
    ids=str,
)
def test_a_scorer_whose_parts_do_not_fit_is_refused_when_it_is_loaded(
    tmp_path: Path, kind: str, name: str, change: dict[str, Any]
) -> None:
    folder = (tiny.aesthetic_folder if kind == "aesthetic" else tiny.clip_folder)(tmp_path / "judge")
    told = json.loads((folder / name).read_text())
    inside = told["vision_config"] if name == "config.json" and kind == "clip" else told
    inside |= change
    (folder / name).write_text(json.dumps(told))
    with pytest.raises(LoadError, match="scorer judge can't be loaded: ") as refused:
        scoring.load(entry(kind, folder), device.choose("cpu"))
    assert "\n" not in refused.value.message and not refused.value.message.endswith(":")


def test_memory_that_runs_out_while_a_scorer_is_loaded_is_no_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    folder = tiny.clip_folder(tmp_path / "judge")
    monkeypatch.setattr(scoring.CLIPModel, "from_pretrained", full)
    with pytest.raises(torch.OutOfMemoryError):
        scoring.load(entry("clip", folder), device.choose("cpu"))


def test_a_tokenizer_without_words_is_refused(tmp_path: Path) -> None:
    folder = tiny.clip_folder(tmp_path / "judge")
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    with pytest.raises(LoadError, match="scorer judge can't be loaded"):
        scoring.load(entry("clip", folder), device.choose("cpu"))


@pytest.mark.parametrize("kind", ["clip", "aesthetic"])
def test_a_variant_alone_is_loaded_and_other_files_are_left_alone(tmp_path: Path, kind: str) -> None:
    folder = (tiny.aesthetic_folder if kind == "aesthetic" else tiny.clip_folder)(tmp_path / "judge")
    plain = scoring.load(entry(kind, folder), device.choose("cpu")).score(pictures(), "an apple")
    held = load_file(folder / "model.safetensors")
    save_file({k: np.zeros_like(v) for k, v in held.items()}, folder / "older.safetensors")
    assert scoring.load(entry(kind, folder), device.choose("cpu")).score(pictures(), "an apple") == plain
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    marked = Scorer("judge", "Judge", kind, Folder(folder, "fp16"), "MIT")
    assert scoring.load(marked, device.choose("cpu")).score(pictures(), "an apple") == plain


def test_a_scorer_is_here_with_all_that_it_needs(tmp_path: Path) -> None:
    known = catalogue.load()
    for kind, needed in (
        ("clip", ("preprocessor_config.json", "vocab.json")),
        ("aesthetic", ("preprocessor_config.json",)),
    ):
        folder = (tiny.aesthetic_folder if kind == "aesthetic" else tiny.clip_folder)(tmp_path / kind)
        assert not known.missing(entry(kind, folder))
        for name in needed:
            kept = (folder / name).read_bytes()
            (folder / name).unlink()
            assert known.missing(entry(kind, folder)), name
            (folder / name).write_bytes(kept)
    (folder / "vocab.json").unlink()
    assert not known.missing(entry("aesthetic", folder)), "it reads no text"


class SlowDecoder:
    """Takes as long as it is told, on a clock of the test's."""

    def __init__(self, clock: list[float], cost: float) -> None:
        self.clock, self.cost = clock, cost

    def parameters(self) -> Any:
        return iter([torch.zeros(1)])

    def decode(self, latents: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        self.clock[0] += self.cost
        return (torch.zeros(1, 3, 16, 16),)


@pytest.mark.parametrize(("kind", "share"), [("cpu", 0.10), ("cuda", 0.03)])
@pytest.mark.parametrize(("steps", "cost"), [(50, 0.01), (50, 2.0), (4, 1.0), (1000, 0.5)])
def test_previews_keep_to_their_share_and_to_the_least(
    monkeypatch: pytest.MonkeyPatch, kind: str, share: float, steps: int, cost: float
) -> None:
    import time

    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    previews = Previews(SlowDecoder(clock, cost), torch.device(kind), every=1)
    latents = torch.zeros(1, 4, 2, 2)
    made = 0
    for number in range(1, steps + 1):
        clock[0] += 0.1
        made += previews.after(Step(number, steps, latents, latents)) is not None
    assert made >= 2 and made == previews.made
    if made > 2:
        assert previews.spent <= share * steps * 0.1 + 1e-9


def test_no_previews_where_none_are_wanted_or_possible() -> None:
    step = Step(1, 4, torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2))
    assert Previews(None, torch.device("cpu"), 1).after(step) is None
    assert Previews(SlowDecoder([0.0], 0.0), torch.device("cpu"), 0).after(step) is None


def test_pixels_are_rounded_and_reduced() -> None:
    image = torch.tensor([-1.0, 0.0, 1.0, 5.0]).view(1, 1, 1, 4).expand(1, 3, 2, 4)
    assert to_uint8(image)[0, 0, :, 0].tolist() == [0, 128, 255, 255]
    wide = to_pixels(torch.zeros(1, 3, 100, 400), 256)
    assert (wide.width, wide.height) == (256, 64) and len(wide.data) == 256 * 64 * 3
