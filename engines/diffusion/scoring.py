"""How well a picture shows a text, by CLIP.

The score is torchmetrics' CLIPScore, max(100·cos(image, text), 0) (arXiv:2104.08718), computed from the model's own
image and text embeddings. The preprocessor is Pillow's, named outright, so that a torchvision on the machine does
not change scores. A text longer than the encoder's window is scored in chunks and the mean taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from engines.diffusion.device import Device
from engines.entries import Scorer
from engines.errors import LoadError


@dataclass(frozen=True, slots=True)
class ClipScorer:
    """A CLIP model that is ready to judge."""

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

    @property
    def modules(self) -> tuple[Any, ...]:
        """What holds the weights, for whoever counts them."""
        return (self.model,)

    @torch.inference_mode()
    def score(self, images: list[Image.Image], text: str) -> tuple[list[float], int]:
        """Scores of the pictures, 0 … 100, and in how many chunks the text was read (1 if it fits the window)."""
        chunks = self._chunks(text)
        tokens = self.tokenizer(chunks, padding=True, return_tensors="pt").to(self.device)
        pixels = self.processor(images=[i.convert("RGB") for i in images], return_tensors="pt")["pixel_values"]
        out = self.model(**tokens, pixel_values=pixels.to(self.device, self.model.dtype))
        pictures = torch.nn.functional.normalize(out.image_embeds.float(), dim=-1)
        texts = torch.nn.functional.normalize(out.text_embeds.float(), dim=-1)
        cosines = (pictures @ texts.T).mean(dim=1)
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


def load(scorer: Scorer, device: Device) -> ClipScorer:
    """A scorer on its device. Raises LoadError if its files can't be used."""
    folder = scorer.source.path
    try:
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True, use_safetensors=True)
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as e:
        reason = str(e).splitlines()[0][:200]
        raise LoadError(f"scorer {scorer.id} can't be loaded: {reason}", "choose another with --scorer") from e
    ready = model.eval().requires_grad_(False).to(device.torch)
    return ClipScorer(scorer.id, ready, processor, tokenizer, device.torch)
