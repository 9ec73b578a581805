"""How well a picture shows a text, or how it pleases, by models that were made to judge.

Three kinds (`entries.SCORER_KINDS`):

* clip: torchmetrics' CLIPScore, max(100·cos(image, text), 0) (arXiv:2104.08718), from a CLIPModel's own embeddings.
* preference: exp(logit_scale)·cos(image, text) of a CLIPModel that was tuned on what people preferred, the number that
  the cards of PickScore (arXiv:2305.01569) and HPSv2 (arXiv:2306.09341) compute.
* aesthetic: the mean rating, about 1 … 10, that LAION's linear layers over CLIP's normalised image embedding expect
  (christophschuhmann/improved-aesthetic-predictor). It looks at the picture only.

The preprocessor is Pillow's, named outright, so that a torchvision on the machine does not change scores. A text longer
than the encoder's window is scored in chunks and the mean taken.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from engines.diffusion import device as devices
from engines.diffusion.device import Device
from engines.entries import Scorer
from engines.errors import LoadError
from engines.presence import scorer_weights

log = logging.getLogger(__name__)

LINEAR = (0, 2, 4, 6, 7)
"""Where the linear layers of an aesthetic predictor stand among its `layers`: dropouts stand between them, and nothing
that is not linear."""


class Judge(Protocol):
    """A scorer that is ready to judge."""

    @property
    def modules(self) -> tuple[Any, ...]:
        """What holds the weights, for whoever counts them."""

    def score(self, images: list[Image.Image], text: str) -> tuple[list[float], int]:
        """Scores of the pictures, and in how many chunks the text was read (1 if it fits the window)."""


@dataclass(frozen=True, slots=True)
class ClipScorer:
    """A CLIP model that holds pictures against a text."""

    id: str
    "The catalogue's."
    model: Any
    "A CLIPModel, fp32."
    processor: Any
    "A CLIPImageProcessorPil."
    tokenizer: Any
    "Its own tokenizer."
    device: torch.device
    "Where it computes."
    kind: str = "clip"
    "clip or preference: what is made of the cosine."

    @property
    def modules(self) -> tuple[Any, ...]:
        """As in Judge."""
        return (self.model,)

    @torch.inference_mode()
    def score(self, images: list[Image.Image], text: str) -> tuple[list[float], int]:
        """As in Judge: 0 … 100 of the kind clip, a logit of the kind preference."""
        chunks = self._chunks(text)
        tokens = self.tokenizer(chunks, padding=True, return_tensors="pt").to(self.device)
        pixels = self.processor(images=[i.convert("RGB") for i in images], return_tensors="pt")["pixel_values"]
        out = self.model(**tokens, pixel_values=pixels.to(self.device, self.model.dtype))
        pictures = torch.nn.functional.normalize(out.image_embeds.float(), dim=-1)
        texts = torch.nn.functional.normalize(out.text_embeds.float(), dim=-1)
        cosines = (pictures @ texts.T).mean(dim=1)
        if self.kind == "preference":
            return _finite(self.id, self.model.logit_scale.float().exp() * cosines), len(chunks)
        return [max(value, 0.0) for value in _finite(self.id, 100.0 * cosines)], len(chunks)

    def _chunks(self, text: str) -> list[str]:
        """The text in pieces that fit the encoder's window (77 tokens with both ends), cut between words."""
        window = int(self.model.config.text_config.max_position_embeddings) - 2
        if len(self.tokenizer(text)["input_ids"]) - 2 <= window:
            return [text]
        chunks: list[str] = []
        words: list[str] = []
        length = 0
        waiting = text.split()[::-1]
        while waiting:
            word = waiting.pop()
            count = len(self.tokenizer(word)["input_ids"]) - 2
            if count > window and len(word) > 1:
                # one word beyond the window, as in scripts that are written without spaces
                half = len(word) // 2
                waiting += [word[half:], word[:half]]
                continue
            if length + count > window and words:
                chunks.append(" ".join(words))
                words, length = [], 0
            words.append(word)
            length += count
        return [*chunks, " ".join(words)]


@dataclass(frozen=True, slots=True)
class AestheticScorer:
    """An aesthetic predictor: it says how a picture pleases, whatever it shows."""

    id: str
    "The catalogue's."
    model: Any
    "A CLIPVisionModelWithProjection, fp32."
    head: torch.nn.Sequential
    "Linear layers from the projected width to one number."
    processor: Any
    "A CLIPImageProcessorPil."
    device: torch.device
    "Where it computes."

    @property
    def modules(self) -> tuple[Any, ...]:
        """As in Judge."""
        return (self.model, self.head)

    @torch.inference_mode()
    def score(self, images: list[Image.Image], text: str) -> tuple[list[float], int]:
        """As in Judge; the text is not looked at."""
        pixels = self.processor(images=[i.convert("RGB") for i in images], return_tensors="pt")["pixel_values"]
        seen = self.model(pixel_values=pixels.to(self.device, self.model.dtype)).image_embeds.float()
        return _finite(self.id, self.head(torch.nn.functional.normalize(seen, dim=-1))[:, 0]), 1


def _finite(id: str, values: torch.Tensor) -> list[float]:
    """The scores. Raises LoadError where one is none: the scorer's weights are damaged, not the picture."""
    scores: list[float] = values.tolist()
    if not all(map(math.isfinite, scores)):
        raise LoadError(f"scorer {id} gives no number: its weights are damaged", "choose another with --scorer")
    return scores


def load(scorer: Scorer, device: Device) -> Judge:
    """A scorer on its device. Raises LoadError if its files can't be used; what says that memory ran out passes."""
    if not scorer.source.path.is_dir():
        told = f"scorer {scorer.id} can't be loaded: {scorer.source.path} is missing"
        raise LoadError(told, "choose another with --scorer")
    try:
        judge = _aesthetic(scorer, device) if scorer.kind == "aesthetic" else _clip(scorer, device)
        judge.score([Image.new("RGB", (8, 8))], "a")  # whether pictures as it wants them fit what it is made of
        return judge
    except LoadError:
        raise
    except Exception as e:  # damaged files make the libraries raise anything
        if devices.is_out_of_memory(e):
            raise
        log.exception("loading scorer %s from %s", scorer.id, scorer.source.path)
        raise LoadError(f"scorer {scorer.id} can't be loaded: {_reason(e)}", "choose another with --scorer") from e


def _reason(error: Exception) -> str:
    """One line of what a library says; the first that names something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if not line.endswith(":")), lines[0] if lines else "")
    if isinstance(error, KeyError) or len(said) < 12:
        said = f"{type(error).__name__} {said}".strip()
    return said[:200]


def _clip(scorer: Scorer, device: Device) -> ClipScorer:
    folder, variant = scorer.source.path, scorer.source.variant
    found = scorer_weights(folder, variant)
    model, told = CLIPModel.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True,
        ignore_mismatched_sizes=True, variant=variant if any(f".{variant}" in path.name for path in found) else None,
    )  # fmt: skip
    # what is missing would be filled at random, and score at random
    _refuse_gaps(told["missing_keys"], "lacks")
    _refuse_gaps([key[0] if isinstance(key, tuple) else key for key in told["mismatched_keys"]], "has another shape of")
    processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    if len(tokenizer) < 1000:
        raise ValueError("its tokenizer has no vocabulary")
    return ClipScorer(scorer.id, _ready(model, device), processor, tokenizer, device.torch, scorer.kind)


def _refuse_gaps(keys: Any, what: str) -> None:
    wanted = sorted(key for key in keys if not key.endswith("position_ids"))
    if wanted:
        more = f" and {len(wanted) - 1} more" if len(wanted) > 1 else ""
        raise ValueError(f"its weights file {what} {wanted[0]}{more}")


def _aesthetic(scorer: Scorer, device: Device) -> AestheticScorer:
    """The vision tower and the layers over it out of one file. Its configuration names code of the repository's own,
    which is never run: the layers are built here, from their shapes."""
    folder = scorer.source.path
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(told, dict):
        raise ValueError("its config.json is no table")
    told = told.get("vision_config", told)
    tensors: dict[str, torch.Tensor] = {}
    for file in scorer_weights(folder, scorer.source.variant):
        tensors |= load_file(file)
    head = _head(tensors)
    known = CLIPVisionConfig().to_dict()
    model = CLIPVisionModelWithProjection(
        CLIPVisionConfig(**{k: v for k, v in told.items() if k in known and k not in ("dtype", "torch_dtype")})
    )
    own = {k: v for k, v in tensors.items() if not k.startswith("layers.") and not k.endswith("position_ids")}
    state = model.state_dict()
    _refuse_gaps(state.keys() - own.keys(), "lacks")
    _refuse_gaps([k for k, v in state.items() if own[k].shape != v.shape], "has another shape of")
    model.load_state_dict(own, strict=False)
    processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    return AestheticScorer(scorer.id, _ready(model, device), _ready(head, device), processor, device.torch)


def _head(tensors: dict[str, torch.Tensor]) -> torch.nn.Sequential:
    """The layers over the tower, by their shapes. Raises ValueError if they are not those of a linear predictor."""
    numbers = tuple(sorted(int(key.split(".")[1]) for key in tensors if key.startswith("layers.") and ".weight" in key))
    if numbers != LINEAR:
        raise ValueError(f"an aesthetic predictor has linear layers {LINEAR}, and this one has {numbers or 'none'}")
    head = torch.nn.Sequential(*(torch.nn.Linear(*tensors[f"layers.{n}.weight"].shape[::-1]) for n in numbers))
    if (outputs := head[-1].out_features) != 1:
        raise ValueError(f"an aesthetic predictor gives one number, and this one {outputs}")
    head.load_state_dict(
        {f"{i}.{kind}": tensors[f"layers.{n}.{kind}"] for i, n in enumerate(numbers) for kind in ("weight", "bias")}
    )
    return head


def _ready(module: Any, device: Device) -> Any:
    return module.float().eval().requires_grad_(False).to(device.torch)
