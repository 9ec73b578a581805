"""CLIP's byte-pair encoding without torch: how many tokens a text is, quickly enough to count while typing.

Reads a tokenizer folder of either kind: tokenizer.json, or the vocab.json and merges.txt of the older repositories.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from engines.catalogue import Catalogue, Folder, Model
from engines.errors import LoadError
from engines.prompt import Blend, Flat, Prompt, Swap

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WINDOW = 75
"Tokens of a text that one pass of the encoder reads, beside the two ends."

_ENDS: tuple[Callable[[str], bool], ...] = (
    lambda token: token == ".</w>",
    lambda token: token in (".</w>", ",</w>", ";</w>", ":</w>"),
    lambda token: token.endswith("</w>"),
)
"Where a chunk of a longer text ends, as in compel: at the last full stop, else punctuation, else word in the window."


@dataclass(frozen=True, slots=True)
class Length:
    """How long a prompt is for one encoder."""

    tokens: int
    "Without the marks at both ends and padding: of the longest text of a blend, of all texts of an .and() together."
    chunks: int
    "Stretches of at most WINDOW tokens that are encoded by themselves; at least 1."


def encoders(catalogue: Catalogue, model: Model) -> tuple[Path, ...]:
    """The tokenizer folders of a model, in the order of its text encoders."""
    base = catalogue.chain(model)[-1].source
    assert isinstance(base, Folder)
    return tuple(base.path / name for name in ("tokenizer", "tokenizer_2") if (base.path / name).is_dir())


def count(folder: Path, text: str) -> int:
    """Tokens of a text, without the start and end marks. Raises LoadError if the folder holds no tokenizer."""
    return len(_load(folder).encode(text, add_special_tokens=False).ids)


def length(folder: Path, prompt: Prompt) -> Length:
    """How long a prompt is once it is encoded, as engines.diffusion.conditioning does it. Raises LoadError."""
    whole = []
    for clause in prompt.tree.clauses:
        texts = clause.clauses if isinstance(clause, Blend) else (clause,)
        each = [_length(folder, text) for text in texts]
        whole.append(Length(max(x.tokens for x in each), max(x.chunks for x in each)))
    return Length(sum(x.tokens for x in whole), sum(x.chunks for x in whole))


def _length(folder: Path, text: Flat) -> Length:
    """Of one text."""
    tokenizer = _load(folder)
    spelled: list[str] = []
    for piece in text.fragments:
        for fragment in piece.original if isinstance(piece, Swap) else (piece,):  # a swap is not applied
            spelled += tokenizer.encode(fragment.text, add_special_tokens=False).tokens
    start, chunks = 0, 1
    while len(spelled) - start > WINDOW:
        start += _end(spelled[start : start + WINDOW])
        chunks += 1
    return Length(len(spelled), chunks)


def _end(window: list[str]) -> int:
    """How many tokens of a full window its chunk takes."""
    places = (i for is_end in _ENDS for i in range(len(window), 0, -1) if is_end(window[i - 1]))
    return next(places, len(window))


@lru_cache(maxsize=8)
def _load(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            return tokenizer
        return _from_vocabulary(folder)
    except Exception as e:  # tokenizers raises plain Exception
        raise LoadError(f"{folder} holds no tokenizer that can be read", "download the model again") from e


def _from_vocabulary(folder: Path) -> Tokenizer:
    """The same rules as CLIP's own tokenizer (github.com/openai/CLIP, simple_tokenizer.py), over its two files."""
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [(a, b) for a, _, b in (line.partition(" ") for line in lines[1:]) if b]
    unknown = "<|endoftext|>"
    tokenizer = Tokenizer(BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token=unknown))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer
