"""CLIP's byte-pair encoding without torch: how many tokens a text is, quickly enough to count while typing.

Reads a tokenizer folder of either kind: tokenizer.json, or the vocab.json and merges.txt of the older repositories.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from engines.catalogue import Catalogue, Folder, Model
from engines.errors import LoadError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WINDOW = 75
"Tokens of a text that one pass of the encoder reads, beside the two ends."


def encoders(catalogue: Catalogue, model: Model) -> tuple[Path, ...]:
    """The tokenizer folders of a model, in the order of its text encoders."""
    base = catalogue.chain(model)[-1].source
    assert isinstance(base, Folder)
    return tuple(base.path / name for name in ("tokenizer", "tokenizer_2") if (base.path / name).is_dir())


def count(folder: Path, text: str) -> int:
    """Tokens of a text, without the start and end marks. Raises LoadError if the folder holds no tokenizer."""
    return len(_load(folder).encode(text, add_special_tokens=False).ids)


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
