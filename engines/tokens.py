"""CLIP's byte-pair encoding without torch: how many tokens a text is, quickly enough to count while typing.

Reads a tokenizer folder of either kind: tokenizer.json, or the vocab.json and merges.txt of the older repositories.

An embedding (textual inversion, arXiv:2208.01618) is used by its name: as a word of its own, in <>, or behind
"embedding:", in letters of either case. Its vectors take the place of the name, each as one token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from engines import headers, layouts
from engines.catalogue import Catalogue
from engines.entries import Checkpoint, Folder, Hub, Merged, Model
from engines.errors import LoadError
from engines.prompt import Blend, Flat, Prompt, Swap, plain_word

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


_NAME = re.compile(r"<(?:embedding:)?([\w.-]+)>|(?:embedding:)?([\w.-]+)", re.IGNORECASE)
"Where an embedding may be named. A word is all of what is letters, digits, _, - and . on end, but for ends of -. only."
_SAID = re.compile(r"(?<![\w.-])embedding:([\w.-]+)", re.IGNORECASE)
_WORDS = re.compile(r"\S+")
WORD_END = "</w>"
"How the vocabulary spells the end of a word; what has none goes on in the next token."

Spelled = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Length:
    """How long a prompt is for one encoder."""

    tokens: int
    "Without the marks at both ends and padding: of the longest text of a blend, of all texts of an .and() together."
    chunks: int
    "Stretches of at most WINDOW tokens that are encoded by themselves; at least 1."


def encoders(catalogue: Catalogue, model: Model) -> tuple[Path, ...]:
    """The tokenizer folders of a model, in the order of its text encoders."""
    match (base := catalogue.chain(model)[-1]).source:
        case Folder(path=path) | Hub(path=path):
            return tuple(path / name for name in ("tokenizer", "tokenizer_2") if (path / name).is_dir())
        case Merged(parents=parents):
            return encoders(catalogue, catalogue.model(parents[0].model))
        case Checkpoint(like=like) if like:
            return encoders(catalogue, catalogue.model(like))
        case Checkpoint():
            return (layouts.VOCABULARY, layouts.VOCABULARY)
    raise AssertionError(f"{base.id} stands on another model")


def count(folder: Path, text: str) -> int:
    """Tokens of a text, without the start and end marks. Raises LoadError if the folder holds no tokenizer."""
    return len(_load(folder).encode(text, add_special_tokens=False).ids)


def length(folder: Path, prompt: Prompt, embeddings: Mapping[str, int] | None = None) -> Length:
    """How long a prompt is once it is encoded, as engines.diffusion.conditioning does it.

    Args:
        folder: of the tokenizer.
        prompt: what is counted.
        embeddings: number of vectors of each embedding that is known, by its name in lower case.

    Raises:
        LoadError: the folder holds no tokenizer.
    """
    tokenizer = _load(folder)

    def spelled(text: str) -> list[str]:
        found: list[str] = []
        for words, name in split(text, embeddings or {}):
            found += ending(embeddings[name]) if name and embeddings else _spelled(tokenizer, words)
        return found

    return measure(prompt, spelled)


def known(catalogue: Catalogue, model: Model) -> dict[str, int]:
    """How many tokens each embedding is that a prompt for a model may name, by its name in lower case; one that can't
    be read is left out, and told when it is used."""
    found = {}
    for name, file in catalogue.embeddings_of(model.family).items():
        try:
            found[name.lower()] = vectors(file)
        except LoadError:
            continue
    return found


def borders(folder: Path, prompt: Prompt, embeddings: Mapping[str, int] | None = None) -> tuple[int, ...]:
    """Where in a prompt's source a chunk begins that is not its text's first: what stands behind the first of these is
    encoded apart from what stands before. Args and errors as in `length`."""
    tokenizer, names = _load(folder), embeddings or {}
    found: list[int] = []
    for clause in range(len(prompt.plains)):
        spelled: list[str] = []
        places: list[int] = []
        for part in prompt.parts:
            if part.clause != clause or not part.applied:
                continue
            for word in _WORDS.finditer(prompt.text, *part.span):
                for words, name in split(plain_word(word[0]), names):
                    new = ending(names[name]) if name else _spelled(tokenizer, words)
                    spelled += new
                    places += [word.start()] * len(new)
        start = 0
        while len(spelled) - start > WINDOW:
            start += _end(spelled[start : start + WINDOW])
            found.append(places[start])
    return tuple(sorted(found))


def measure(prompt: Prompt, spelled: Spelled) -> Length:
    """How long a prompt is, by what spells the tokens of a text: as in the vocabulary, a word's end by its </w>."""
    whole = []
    for clause in prompt.tree.clauses:
        texts = clause.clauses if isinstance(clause, Blend) else (clause,)
        each = [measure_text(text, spelled) for text in texts]
        whole.append(Length(max(x.tokens for x in each), max(x.chunks for x in each)))
    return Length(sum(x.tokens for x in whole), sum(x.chunks for x in whole))


def measure_text(text: Flat, spelled: Spelled) -> Length:
    """How long one text of a prompt is."""
    tokens: list[str] = []
    for piece in text.fragments:
        for fragment in piece.original if isinstance(piece, Swap) else (piece,):  # a swap is not applied
            tokens += spelled(fragment.text)
    start, chunks = 0, 1
    while len(tokens) - start > WINDOW:
        start += _end(tokens[start : start + WINDOW])
        chunks += 1
    return Length(len(tokens), chunks)


def _end(window: list[str]) -> int:
    """How many tokens of a full window its chunk takes."""
    places = (i for is_end in _ENDS for i in range(len(window), 0, -1) if is_end(window[i - 1]))
    return next(places, len(window))


def split(text: str, names: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """A text in pieces: (words, "") and ("", name of an embedding), in order; `names` are in lower case."""
    start = 0
    for found in _NAME.finditer(text) if names else ():
        first, end = found.span()
        word: str = found[1] or found[2]
        if found[2] and word.lower() not in names:
            if found.start(2) == first:  # nothing before the word
                first += len(word) - len(word.lstrip("-."))
            end -= len(word) - len(word.rstrip("-."))
            word = word.strip("-.")
        if (name := word.lower()) in names:
            yield text[start:first], ""
            yield "", name
            start = end
    yield text[start:], ""


def named(prompt: Prompt, names: Mapping[str, object]) -> tuple[str, ...]:
    """The embeddings that a prompt uses, each once, in the order of their names; `names` are in lower case."""
    flats = (
        flat for clause in prompt.tree.clauses for flat in (clause.clauses if isinstance(clause, Blend) else (clause,))
    )
    pieces = (piece for flat in flats for piece in flat.fragments)
    texts = [x.text for piece in pieces for x in (piece.original if isinstance(piece, Swap) else (piece,))]
    # the pooled embedding is that of the plain text, where two fragments may make one name
    found = {name for text in (*texts, *prompt.plains, prompt.plain) for _, name in split(text, names) if name}
    return tuple(sorted(found))


def unknown(prompt: Prompt, names: Mapping[str, object]) -> tuple[str, ...]:
    """What a prompt calls an embedding, behind "embedding:", that isn't known and so is taken for words."""
    said = (word.strip("-.") for plain in prompt.plains for word in _SAID.findall(plain))
    return tuple(dict.fromkeys(word for word in said if word and word.lower() not in names))


def ending(vectors: int) -> list[str]:
    """An embedding's tokens as the vocabulary would spell a word of that many: only the last one ends it."""
    return [""] * (vectors - 1) + [WORD_END]


def vectors(file: Path) -> int:
    """How many vectors an embedding has, and so how many tokens; from its header.

    Raises:
        LoadError: the file is no embedding for SDXL, which has a "clip_l" and a "clip_g" of as many vectors.
    """
    shapes = headers.read(file).shapes
    if {"clip_l", "clip_g"} <= shapes.keys():
        left, right = shapes["clip_l"], shapes["clip_g"]
        if len(left) == len(right) == 2 and left[0] == right[0] > 0:
            if left[0] > WINDOW:
                raise LoadError(
                    f"embedding {file.name} has {left[0]} vectors; a text encoder reads {WINDOW}",
                    "look for a smaller one",
                )
            return left[0]
        raise LoadError(f"embedding {file.name} is damaged: clip_l and clip_g don't belong together", headers.AGAIN)
    widths = {shape[-1] for shape in shapes.values() if len(shape) in (1, 2)}
    if len(shapes) <= 4 and len(widths) == 1:
        width = widths.pop()
        kind = {768: "SD 1.x", 1024: "SD 2.x"}.get(width, "another architecture")
        raise LoadError(
            f"embedding {file.name} is for {kind} ({headers.shown(next(iter(shapes)))}, {width} wide); "
            "the model is of SDXL's kind (clip_l and clip_g)",
            "look for one that was made for SDXL",
        )
    raise LoadError(f"{file.name} is no embedding for SDXL", "one has clip_l and clip_g, and nothing else")


def _spelled(tokenizer: Tokenizer, text: str) -> list[str]:
    tokens: list[str] = tokenizer.encode(text, add_special_tokens=False).tokens if text else []
    return tokens


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
