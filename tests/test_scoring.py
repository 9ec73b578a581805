"""Scores are CLIP's own cosines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engines import catalogue
from engines.diffusion import device, scoring
from engines.diffusion.previews import Previews, to_pixels, to_uint8
from engines.diffusion.sampling import Step
from engines.entries import Folder
from engines.errors import LoadError


@pytest.fixture(scope="module")
def scorer() -> scoring.ClipScorer:
    return scoring.load(catalogue.load().default_scorer(), device.choose("cpu"))


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

    entry = replace(catalogue.load().default_scorer(), source=Folder(tmp_path))
    with pytest.raises(LoadError) as told:
        scoring.load(entry, device.choose("cpu"))
    assert "\n" not in told.value.message


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
