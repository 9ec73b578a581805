"""How long a prompt is, counted without torch: held against the count of what encodes it."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from engines import catalogue, tokens
from engines.prompt import parse, plain_word

MINI = Path(catalogue.__file__).with_name("mini") / "base"
FOLDER = MINI / "tokenizer"
PROMPTS = [
    "",
    "a red apple on a blue background",
    "a (red)1.3 apple++ with (many (nested)1.2 words)0.5, and--",
    '("a cat", "a dog").and()',
    '("a cat", "a dog", "").and(1, 0.5, 2)',
    '("a cat", "a longer text of a dog").blend(0.7, 0.3)',
    '("a cat sits. " , "' + "a dog runs, " * 60 + '").blend(1, 1)',
    '("' + "one, " * 60 + '", "' + "two. " * 90 + '").and()',
    "a cat.swap(a dog and many more words) sits",
    "a cat.swap(" + "a dog " * 60 + ") sits",
    "withLora(mini-pixel, 0.8) a castle",
    "wordwithoutend" * 60,
    "word " * 75,
    "word " * 76,
    "word " * 400,
    "a, " * 300,
    "a sentence of some words. " * 40,
    "red: green; blue, " * 50,
    "a " * 80 + "b. " * 80 + "c; " * 80,
    "x" * 2000,
    "Ünïcode — “quotes” 3d it's 12345 o'clock " * 20,
    "狐狸 🦊 " * 60,
    "<|endoftext|> a <|startoftext|> b",
    "loud! very loud!! a!b " * 30,
    r"\(escaped\) a\, b\. " * 30,
    "a night, night++ <night> (embedding:night)0.5 nightly",
    "a. b, c " + "night " * 40,
]


NIGHT = MINI.parent / "embeddings" / "mini_night.safetensors"


@pytest.fixture(scope="module")
def spellers() -> Any:
    """What the encoding itself counts with: one that knows an embedding."""
    from transformers import CLIPTokenizer

    from engines.diffusion.embeddings import Embeddings, Speller

    known = Embeddings((96, 128))
    known.learn([("night", NIGHT)])
    known.prepare(["night"])
    return [Speller(CLIPTokenizer.from_pretrained(MINI / name), known) for name in ("tokenizer", "tokenizer_2")]


@pytest.mark.parametrize("text", PROMPTS, ids=range(len(PROMPTS)))
def test_a_prompt_is_as_long_as_it_is_encoded(text: str, spellers: Any) -> None:
    known = {"night": tokens.vectors(NIGHT)}
    folders = [MINI / name for name in ("tokenizer", "tokenizer_2")]
    for read in (parse(text), parse(text.replace("a ", "night ").replace("word ", "<NIGHT>! "))):
        counted = [tokens.length(folder, read, known) for folder in folders]
        assert counted == [tokens.measure(read, speller.spelled) for speller in spellers]


def test_the_models_own_tokenizers_are_counted_with() -> None:
    known = catalogue.load()
    folders = tokens.encoders(known, known.model("mini"))
    assert folders == (MINI / "tokenizer", MINI / "tokenizer_2")
    assert [tokens.length(folder, parse("a red cat")) for folder in folders] == [tokens.Length(3, 1)] * 2


@pytest.mark.parametrize("seed", range(40))
def test_borders_are_where_chunks_begin(seed: int) -> None:
    """For any text of one clause there is a border for each chunk but the first, at a word, and what stands before the
    first border is as many tokens as the encoder's first chunk takes."""
    dice = random.Random(seed)
    pieces = (
        "red",
        "apple,",
        "(glossy)1.2",
        "extraordinarily",
        ".",
        "a",
        "((blue)0.9 sea,)1.1",
        "\\(odd\\)",
        "it's",
        "\n",
    )
    text = " ".join(dice.choice(pieces) for _ in range(dice.randrange(20, 400)))
    prompt = parse(text)
    found = tokens.borders(FOLDER, prompt)
    assert len(found) == tokens.length(FOLDER, prompt).chunks - 1
    assert list(found) == sorted(set(found))
    for place in found:
        assert not text[place].isspace() and (text[place - 1].isspace() or text[place - 1] in "(")
    for start, end in itertools.pairwise((0, *found, len(text))):
        words = " ".join(
            plain_word(text[max(start, p.span[0]) : min(end, p.span[1])])
            for p in prompt.parts
            if p.span[0] < end and p.span[1] > start
        )
        assert 0 < tokens.count(FOLDER, words) <= tokens.WINDOW


def test_each_text_of_a_blend_has_its_own_borders() -> None:
    long = "a red apple, " * 30
    text = f'("{long}", "short").blend(.5, .5)'
    inside = tokens.borders(FOLDER, parse(text))
    assert [place - 2 for place in inside] == list(tokens.borders(FOLDER, parse(long))) and inside
