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

from engines.diffusion.device import Device
from engines.diffusion.loading import READ_ERRORS
from engines.entries import Scorer
from engines.errors import LoadError
from engines.presence import weights

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
            return (self.model.logit_scale.float().exp() * cosines).tolist(), len(chunks)
        return [max(100.0 * float(c), 0.0) for c in cosines], len(chunks)

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
        return self.head(torch.nn.functional.normalize(seen, dim=-1))[:, 0].tolist(), 1


def load(scorer: Scorer, device: Device) -> Judge:
    """A scorer on its device. Raises LoadError if its files can't be used."""
    try:
        return _aesthetic(scorer, device) if scorer.kind == "aesthetic" else _clip(scorer, device)
    except READ_ERRORS as e:
        raise _unusable(scorer, e) from e
    except Exception as e:
        if type(e).__name__ != "SafetensorError":  # not exported by name everywhere
            raise
        raise _unusable(scorer, e) from e


def _unusable(scorer: Scorer, error: Exception) -> LoadError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return LoadError(f"scorer {scorer.id} can't be loaded: {reason}", "choose another with --scorer")


def _clip(scorer: Scorer, device: Device) -> ClipScorer:
    folder = scorer.source.path
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True, use_safetensors=True)
    processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return ClipScorer(scorer.id, _ready(model, device), processor, tokenizer, device.torch, scorer.kind)


def _aesthetic(scorer: Scorer, device: Device) -> AestheticScorer:
    """The vision tower and the layers over it out of one file. Its configuration names code of the repository's own,
    which is never run: the layers are built here, from their shapes."""
    folder = scorer.source.path
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors: dict[str, torch.Tensor] = {}
    for file in weights(folder, scorer.source.variant)[0]:
        tensors |= load_file(file)
    numbers = tuple(sorted(int(key.split(".")[1]) for key in tensors if key.startswith("layers.") and ".weight" in key))
    if numbers != LINEAR:
        raise ValueError(f"an aesthetic predictor has linear layers {LINEAR}, and this one has {numbers or 'none'}")
    head = torch.nn.Sequential(*(torch.nn.Linear(*tensors[f"layers.{n}.weight"].shape[::-1]) for n in numbers))
    head.load_state_dict(
        {f"{i}.{kind}": tensors[f"layers.{n}.{kind}"] for i, n in enumerate(numbers) for kind in ("weight", "bias")}
    )
    config = CLIPVisionConfig(**{k: v for k, v in told.items() if k in CLIPVisionConfig().to_dict() and k != "dtype"})
    model = CLIPVisionModelWithProjection(config)
    own = {k: v for k, v in tensors.items() if not k.startswith("layers.") and not k.endswith("position_ids")}
    model.load_state_dict(own)
    processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    return AestheticScorer(scorer.id, _ready(model, device), _ready(head, device), processor, device.torch)


def _ready(module: Any, device: Device) -> Any:
    return module.float().eval().requires_grad_(False).to(device.torch)
