"""Textual-inversion embeddings (arXiv:2208.01618) for SDXL: learned vectors that stand where a prompt has their name.

A file has as many vectors for the first text encoder, "clip_l", as for the second, "clip_g". Neither tokenizer nor
encoder is changed for them: their tokens have ids beyond the vocabulary, which `Speller` puts where the name stood, and
`Embeddings.shown` puts the vectors behind the encoder's token embedding for one run of it. So a prompt without them is
encoded as if there were none, and SDXL's second encoder, which looks for the end of a text at the highest id of its
vocabulary, finds it where it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engines import headers, tokens
from engines.diffusion.updates import Stamp, stamp
from engines.errors import LoadError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

KEYS = ("clip_l", "clip_g")
"Names in a file, in the order of the encoders."
FIRST = 1 << 20
"The first id of what is learned; beyond any vocabulary."
REMEMBERED = 64
"Embeddings whose vectors are kept, 0.6 MB at most each."


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """One embedding that was read."""

    stamp: Stamp
    "The file as it was then."
    ids: range
    "Its tokens in both encoders; no two embeddings, and no two states of one file, ever have the same."
    vectors: tuple[torch.Tensor, torch.Tensor]
    "(n, width) for each encoder, fp32 on the CPU."


class Embeddings:
    """The embeddings that prompts may name; a file is read when a prompt names it first.

    Args:
        widths: of the token embeddings of both encoders, 768 and 1280 in SDXL.
    """

    def __init__(self, widths: tuple[int, int]) -> None:
        self.widths = widths
        self.files: Mapping[str, Path] = {}
        self._learned: OrderedDict[str, Learned] = OrderedDict()
        self._next = FIRST

    def learn(self, embeddings: Iterable[tuple[str, Path]]) -> None:
        """Makes these the embeddings that are known, by name (letters of either case) and file; none is opened."""
        self.files = {name.lower(): file for name, file in embeddings}

    def prepare(self, names: Sequence[str]) -> tuple[Stamp, ...]:
        """Reads embeddings that are known, and says which files these are, as they are now.

        Raises:
            LoadError: one is missing, damaged, or made for another architecture.
        """
        for name in names:
            now = stamp(self.files[name])
            if name not in self._learned or self._learned[name].stamp != now:
                self._learned[name] = self._read(self.files[name], now)
            self._learned.move_to_end(name)
        for name in list(self._learned)[: max(0, len(self._learned) - max(REMEMBERED, len(names)))]:
            del self._learned[name]
        return tuple(self._learned[name].stamp for name in names)

    def ids(self, name: str) -> range:
        """The tokens of an embedding that was prepared."""
        return self._learned[name].ids

    def spelled(self, token: int) -> str:
        """As the vocabulary would spell it: only an embedding's last token ends the word."""
        return tokens.WORD_END if any(token == known.ids[-1] for known in self._learned.values()) else ""

    @contextmanager
    def shown(self, encoder: Any, side: int, ids: torch.Tensor) -> Iterator[torch.Tensor]:
        """Lets an encoder see the vectors for as long as this is open.

        Args:
            encoder: a CLIP text model of transformers.
            side: 0 for the first, 1 for the second.
            ids: (1, T) on the CPU, with ids of embeddings among them.

        Yields:
            (1, T), what to give to the encoder instead.
        """
        places = (ids[0] >= FIRST).nonzero().flatten()
        if not len(places):
            yield ids
            return
        vectors = {i: known.vectors[side][n] for known in self._learned.values() for n, i in enumerate(known.ids)}
        rows = torch.stack([vectors[i] for i in ids[0, places].tolist()])

        def put(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            output = output.clone()
            output[0, places.to(output.device)] = rows.to(output.device, output.dtype)
            return output

        hook = encoder.get_input_embeddings().register_forward_hook(put)
        try:
            yield ids.masked_fill(ids >= FIRST, 0)  # any id that is no mark
        finally:
            hook.remove()

    def _read(self, file: Path, now: Stamp) -> Learned:
        count = tokens.vectors(file)
        shapes = headers.read(file).shapes
        widths = tuple(shapes[key][1] for key in KEYS)
        if widths != self.widths:
            raise LoadError(
                f"embedding {file.name} is for encoders {widths[0]} and {widths[1]} wide; "
                f"the model's are {self.widths[0]} and {self.widths[1]}",
                "look for one that was made for this model",
            )
        from safetensors import safe_open

        try:
            with safe_open(file, framework="pt") as found:
                left, right = (found.get_tensor(key).to(torch.float32, copy=True) for key in KEYS)
        except Exception as e:  # safetensors' own error is no subclass of anything more exact
            reason = (str(e).strip() or type(e).__name__).splitlines()[0][:200]
            raise LoadError(f"embedding {file.name} can't be read: {reason}", headers.AGAIN) from e
        if not (left.isfinite().all() and right.isfinite().all()):
            raise LoadError(f"embedding {file.name} has numbers that are not finite", headers.AGAIN)
        ids = range(self._next, self._next + count)
        self._next = ids.stop
        return Learned(now, ids, (left, right))


class Speller:
    """A tokenizer that knows embeddings by name: as much of CLIP's as compel and the pooled path ask for."""

    def __init__(self, tokenizer: CLIPTokenizer, embeddings: Embeddings) -> None:
        self.tokenizer = tokenizer
        self.embeddings = embeddings
        self.bos_token_id: int = tokenizer.bos_token_id
        self.eos_token_id: int = tokenizer.eos_token_id
        self.pad_token_id: int = tokenizer.pad_token_id
        self.model_max_length: int = tokenizer.model_max_length

    def ids(self, text: str) -> list[int]:
        """Token ids without the marks at both ends."""
        return [
            i for words, name in self._pieces(text) for i in (self.embeddings.ids(name) if name else self._of(words))
        ]

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """How tokens are spelled in the vocabulary; of an embedding, where its word ends."""
        spelled: list[str] = self.tokenizer.convert_ids_to_tokens([self.eos_token_id if i >= FIRST else i for i in ids])
        return [self.embeddings.spelled(i) if i >= FIRST else known for i, known in zip(ids, spelled, strict=True)]

    def spelled(self, text: str) -> list[str]:
        """The text's tokens as the vocabulary spells them."""
        return self.convert_ids_to_tokens(self.ids(text))

    def first(self, text: str) -> torch.Tensor:
        """(1, 77): the text's first 75 tokens between the marks, padded; an embedding may be cut there."""
        ids = [self.bos_token_id, *self.ids(text)[: self.model_max_length - 2], self.eos_token_id]
        return torch.tensor([ids + [self.pad_token_id] * (self.model_max_length - len(ids))])

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        """With the marks, neither cut nor padded."""
        return {"input_ids": [[self.bos_token_id, *self.ids(text), self.eos_token_id] for text in texts]}

    def _pieces(self, text: str) -> Iterator[tuple[str, str]]:
        return tokens.split(text, self.embeddings.files)

    def _of(self, words: str) -> list[int]:
        ids: list[int] = self.tokenizer(words, verbose=False).input_ids if words else []
        if ids[:1] == [self.bos_token_id]:
            ids = ids[1:]
        return ids[:-1] if ids[-1:] == [self.eos_token_id] else ids
