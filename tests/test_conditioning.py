"""Conditioning beside CompelForSDXL and diffusers' encode_prompt, on the embedded model's own encoders."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from test_prompt import HOSTILE, examples, texts

from engines.errors import InvalidRequest, PromptError
from engines.prompt import Prompt, parse

BASE = Path(__file__).parents[1] / "engines" / "mini" / "base"

LONG = ", ".join(["a photograph of a red cat on a wooden table. soft light (and shadow)1.2"] * 12)

# Without punctuation side by side and without escaped signs, which compel rewrites (docs/prompt.md).
WELL_FORMED = [
    "a red apple on a blue background",
    "a (red cat)1.3, b++ and dog--",
    "(a (red)1.2 cat)0.5 on a (mat)0",
    "(a)0.5 (b)0.5 (c)0.7",
    "a cat.swap(dog) sits",
    "(a cat.swap(big dog) sits)0.8",
    '("a red cat", "a (blue)0.4 dog").blend(.7, .3)',
    '("a", "b", "").blend(1, 2, -0.5, no_normalize)',
    f'("a", "{LONG.replace("(", "").replace(")1.2", "")}").blend(1, 2)',
    '("a red cat", "a dog++").and()',
    LONG,
    f"({LONG}, (word)0.5)0.9 and more",
    "supercalifragilisticexpialidocious " * 40,
    "猫 🐈 e\u0301",
]


@pytest.fixture(scope="module")
def torch() -> Iterator[Any]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoders(torch: Any) -> Any:
    """The embedded model's, in fp32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
        from transformers.utils import logging as noise

        import engines.diffusion.conditioning as conditioning

        noise.disable_progress_bar()
        logging.getLogger("transformers").setLevel(logging.ERROR)
        return conditioning.TextEncoders(
            CLIPTokenizer.from_pretrained(BASE / "tokenizer"),
            CLIPTokenizer.from_pretrained(BASE / "tokenizer_2"),
            CLIPTextModel.from_pretrained(BASE / "text_encoder", dtype=torch.float32).eval(),
            CLIPTextModelWithProjection.from_pretrained(BASE / "text_encoder_2", dtype=torch.float32).eval(),
        )


@pytest.fixture
def conditioner(encoders: Any, torch: Any) -> Any:
    from engines.diffusion.conditioning import Conditioner

    return Conditioner(encoders, "cpu", torch.float32)


@pytest.fixture(scope="module")
def compel_for_sdxl(encoders: Any) -> Any:
    from compel import CompelForSDXL

    return CompelForSDXL(encoders)


@pytest.fixture(scope="module")
def pipeline(encoders: Any) -> Any:
    """diffusers' SDXL pipeline, of which only encode_prompt is used."""
    from diffusers import StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(
        vae=None,
        unet=None,
        scheduler=None,
        tokenizer=encoders.tokenizer,
        tokenizer_2=encoders.tokenizer_2,
        text_encoder=encoders.text_encoder,
        text_encoder_2=encoders.text_encoder_2,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


@pytest.fixture
def runs(encoders: Any) -> Iterator[list[str]]:
    """Grows by a name at every run of an encoder."""
    counted: list[str] = []
    hooks = [
        encoders.text_encoder.register_forward_hook(lambda *_: counted.append("one")),
        encoders.text_encoder_2.register_forward_hook(lambda *_: counted.append("two")),
    ]
    yield counted
    for hook in hooks:
        hook.remove()


def close(one: Any, two: Any, within: float = 1e-5) -> bool:
    """Whether two tensors differ by no more than `within` times the largest magnitude."""
    return one.shape == two.shape and bool((one - two).abs().max() <= within * two.abs().max())


@pytest.mark.parametrize("text", WELL_FORMED, ids=range(len(WELL_FORMED)))
def test_embeddings_are_compels(
    text: str, conditioner: Any, compel_for_sdxl: Any, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    negative = "blurry, (bad)1.2 hands--"
    with torch.no_grad():
        theirs = compel_for_sdxl(text, negative_prompt=negative)
    with monkeypatch.context() as patch:
        patch.setattr("compel.prompt_parser.PromptParser.__init__", raises)  # it never runs in the product
        fresh = conditioner.encode(parse(text), parse(negative), True)
        remembered = conditioner.encode(parse(text), parse(negative), True)
    for ours in (fresh, remembered):
        assert close(ours.embeds, theirs.embeds)
        assert close(ours.negative_embeds, theirs.negative_embeds)
        assert ours.embeds.shape == ours.negative_embeds.shape


def raises(*_: object) -> None:
    raise AssertionError("compel's parser ran")


@pytest.mark.parametrize("depth", [0, 1])
def test_embeddings_of_any_well_formed_prompt_are_compels(
    depth: int, conditioner: Any, compel_for_sdxl: Any, torch: Any
) -> None:
    @examples(40)
    @given(texts(depth, swaps=False))
    def agrees(text: str) -> None:
        # Beside a comma within brackets these are one token for us and two for compel (docs/prompt.md).
        for word, instead in (("\\(vocaloid\\)", "singer"), ("🐈", "kitten"), ("e\u0301t\u0302", "été")):
            text = text.replace(word, instead)
        with torch.no_grad():
            theirs = compel_for_sdxl(text)
        assert close(conditioner.encode(parse(text), None, True).embeds, theirs.embeds)

    agrees()


def test_a_weighted_conjunction_is_what_compel_makes_for_one_encoder(
    conditioner: Any, compel_for_sdxl: Any, encoders: Any, torch: Any
) -> None:
    from compel import Compel, ReturnedEmbeddingsType

    single = Compel(
        tokenizer=encoders.tokenizer,
        text_encoder=encoders.text_encoder,
        truncate_long_prompts=False,
        returned_embeddings_type=ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED,
    )
    for text in (
        '("a red cat", "a dog++").and(1, 0.5)',
        f'("{LONG[:400]}", "b").and(0, 2)'.replace("(and shadow)1.2", ""),
    ):
        with torch.no_grad():
            theirs = single(text)
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, ours is not it
                compel_for_sdxl(text)
        ours = conditioner.encode(parse(text), None, False).embeds
        assert close(ours[..., : theirs.shape[-1]], theirs)


@pytest.mark.parametrize(
    "text", ["", "a red cat", "a (red)1.3 cat, b++ c--", LONG, '("a","b").and()', "a \\(b\\) c.swap(d)"]
)
def test_pooled_is_diffusers_of_the_plain_text(text: str, conditioner: Any, pipeline: Any, torch: Any) -> None:
    ours = conditioner.encode(parse(text), parse("bad (hands)1.2"), True)
    with torch.no_grad():
        _, _, pooled, negative = pipeline.encode_prompt(
            parse(text).plain, device="cpu", negative_prompt="bad hands", do_classifier_free_guidance=True
        )
    assert close(ours.pooled, pooled)
    assert close(ours.negative_pooled, negative)


def test_pooled_of_a_blend_is_blended(conditioner: Any) -> None:
    def pooled(text: str) -> Any:
        return conditioner.encode(parse(text), None, False).pooled

    expected = (3 * pooled("a red cat") + pooled("dogs")) / 4
    assert close(pooled('("a (red)1.3 cat", "dogs--").blend(3, 1)'), expected)
    assert close(pooled('("a red cat", "dogs").blend(3, 1, no_normalize)'), expected)
    mean = (pooled("a red cat") + pooled("dogs")) / 2
    assert close(pooled('("a red cat", "dogs").blend(1, -1, no_normalize)'), mean)


@pytest.mark.parametrize("clip_skip", [None, 0, 1, 2])
def test_clip_skip_is_diffusers(clip_skip: int | None, conditioner: Any, pipeline: Any, torch: Any) -> None:
    with torch.no_grad():
        embeds, negative, pooled, _ = pipeline.encode_prompt(
            "a red cat", device="cpu", negative_prompt="blurry", clip_skip=clip_skip
        )
    ours = conditioner.encode(parse("a red cat"), parse("blurry"), True, clip_skip)
    assert close(ours.embeds, embeds) and close(ours.negative_embeds, negative) and close(ours.pooled, pooled)


@pytest.mark.parametrize("clip_skip", [-1, 4, 100])
def test_clip_skip_below_the_encoders_is_refused(clip_skip: int, conditioner: Any) -> None:
    with pytest.raises(InvalidRequest, match="clip skip must be 0 to 3"):
        conditioner.encode(parse("a"), None, False, clip_skip)


def test_no_negative_is_zeros(conditioner: Any, runs: list[str]) -> None:
    conditioner.encode(parse(LONG), None, False)
    runs.clear()
    made = conditioner.encode(parse(LONG), None, True)
    assert made.negative_embeds.shape == made.embeds.shape and not made.negative_embeds.any()
    assert made.negative_pooled.shape == made.pooled.shape and not made.negative_pooled.any()
    assert runs == []


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("negative", [None, "", "blurry"])
def test_a_negative_that_is_none_blank_or_said_is_diffusers(
    negative: str | None, zeros: bool, conditioner: Any, pipeline: Any, torch: Any
) -> None:
    pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    try:
        with torch.no_grad():
            _, embeds, _, pooled = pipeline.encode_prompt(
                "a red cat", device="cpu", negative_prompt=negative, do_classifier_free_guidance=True
            )
    finally:
        pipeline.register_to_config(force_zeros_for_empty_prompt=True)
    asked = None if negative is None else parse(negative)
    made = conditioner.encode(parse("a red cat"), asked, True, blank_is_zeros=zeros)
    assert close(made.negative_embeds, embeds) and close(made.negative_pooled, pooled)
    assert bool(embeds.any()) == (not zeros or negative is not None)


@pytest.mark.parametrize("negative", ["  ", "()", "withLora(x)"])
def test_a_negative_without_words_is_the_encoded_empty_text(negative: str, conditioner: Any) -> None:
    made = conditioner.encode(parse("a"), parse(negative), True)
    empty = conditioner.encode(parse("a"), parse(""), True)
    assert close(made.negative_embeds, empty.negative_embeds) and close(made.negative_pooled, empty.negative_pooled)


def test_without_guidance_no_negative_is_computed(conditioner: Any, runs: list[str]) -> None:
    conditioner.encode(parse("a cat"), None, False)
    runs.clear()
    made = conditioner.encode(parse("a cat"), parse("something else"), False)
    assert made.negative_embeds is None and made.negative_pooled is None and runs == []


def test_the_same_prompt_runs_no_encoder(conditioner: Any, runs: list[str]) -> None:
    for clip_skip in (None, 1):
        first = conditioner.encode(parse(LONG), parse("b (c)0.5"), True, clip_skip)
        assert runs
        runs.clear()
        again = conditioner.encode(parse(LONG), parse("b (c)0.5"), True, clip_skip)
        assert runs == [] and close(again.embeds, first.embeds, 0)
        again.embeds.zero_()  # a caller's tensors are its own
        assert close(conditioner.encode(parse(LONG), None, False, clip_skip).embeds, first.embeds, 0)
        runs.clear()


def test_moving_a_weight_runs_no_encoder(conditioner: Any, runs: list[str]) -> None:
    def runs_of(text: str) -> int:
        runs.clear()
        conditioner.encode(parse(text), None, True)
        return len(runs)

    assert runs_of("a (red)1.1 cat") == 4, (
        "the words and the empty prompt, in two encoders; pooled comes with the words"
    )
    assert runs_of("a (red)1.7 cat") == 0
    assert runs_of("a (red)0.9 cat") == 2, "the words with this one masked"
    assert runs_of("a (red)0.3 cat") == 0
    conditioner.forget()
    assert runs_of("a (red)0.3 cat") == 6


def test_what_is_remembered_is_bounded(conditioner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines.diffusion import conditioning

    for i in range(conditioning.REMEMBERED_PROMPTS + 3):
        conditioner.encode(parse(f"number {i}"), None, False)
    assert len(conditioner._prompts.values) == conditioning.REMEMBERED_PROMPTS
    recent = conditioning._Recent[int](2)
    assert [recent.get(key, lambda key=key: key) for key in (1, 2, 1, 3, 2)] == [1, 2, 1, 3, 2]
    assert list(recent.values) == [3, 2]


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision(kind: str, encoders: Any, torch: Any) -> None:
    import copy

    from engines.diffusion.conditioning import Conditioner, TextEncoders

    dtype = getattr(torch, kind)
    halved = TextEncoders(
        encoders.tokenizer,
        encoders.tokenizer_2,
        copy.deepcopy(encoders.text_encoder).to(dtype),
        copy.deepcopy(encoders.text_encoder_2).to(dtype),
    )
    # Several words at 0: compel's weights for them add up beyond what half precision holds.
    prompt, negative = parse("a (cat)0 on (a)1.5 (mat)0 in (spring)0.0"), parse(LONG)
    half = Conditioner(halved, "cpu", dtype).encode(prompt, negative, True)
    full = Conditioner(encoders, "cpu", torch.float32).encode(prompt, negative, True)
    for name in ("embeds", "pooled", "negative_embeds", "negative_pooled"):
        made = getattr(half, name)
        assert made.dtype == dtype and bool(made.isfinite().all())
        assert close(made.float(), getattr(full, name), 0.05), name


def test_what_was_encoded_in_inference_mode_serves_outside_it(conditioner: Any, torch: Any) -> None:
    with torch.inference_mode():
        first = conditioner.encode(parse("a (cat)0.5"), parse("b"), True)
    again = conditioner.encode(parse("a (cat)0.5"), parse("b (c)1.2 d"), True)
    for made in (first, again):
        assert not made.embeds.is_inference() and not made.embeds.requires_grad
        made.embeds.add_(1)


@pytest.mark.parametrize(
    ("text", "count", "chunks"),
    [
        ("", 0, 1),
        ("a red cat", 3, 1),
        ("a (red)1.3 cat, b++", 5, 1),
        ("a " * 75, 75, 1),
        ("a " * 76, 76, 2),
        ("a cat.swap(a very big dog)", 2, 1),
        ('("a b c", "a").blend()', 3, 1),
        ('("a b c", "a").and()', 4, 2),
    ],
)
def test_token_counts(text: str, count: int, chunks: int, conditioner: Any) -> None:
    counted = conditioner.lengths(parse(text))
    assert [c.tokens for c in counted] == [count, count]
    assert [c.chunks for c in counted] == [chunks, chunks]


CUT = ["a, " * 300, "word. " * 200, "x" * 2000, "a " * 80 + "b. " * 80 + "c; " * 80]


@pytest.mark.parametrize("text", WELL_FORMED + CUT, ids=range(len(WELL_FORMED + CUT)))
def test_chunks_are_those_of_the_encoding(text: str, conditioner: Any) -> None:
    prompt = parse(text)
    one, two = conditioner.lengths(prompt)
    assert conditioner.encode(prompt, None, False).embeds.shape[1] == 77 * one.chunks == 77 * two.chunks


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_prompts_are_encoded(text: str, conditioner: Any) -> None:
    for read in (parse(text), parse(text.replace("a", "<|endoftext|>!")), parse(f"({text})0.5 <|startoftext|>++ !--")):
        made = conditioner.encode(read, read, True)
        assert all(bool(tensor.isfinite().all()) for tensor in (made.embeds, made.pooled, made.negative_embeds))


@examples(60)
@given(prompt=texts(1).map(lambda text: parse(text.replace("cat", "!!<|endoftext|>").replace("red", "\u00a0\u200b\0"))))
def test_marks_that_tokenizers_know_are_encoded(conditioner_for_all: Any, prompt: Prompt) -> None:
    assert bool(conditioner_for_all.encode(prompt, None, False).embeds.isfinite().all())


@pytest.fixture(scope="module")
def conditioner_for_all(encoders: Any, torch: Any) -> Any:
    from engines.diffusion.conditioning import Conditioner

    return Conditioner(encoders, "cpu", torch.float32)


def test_what_would_not_fit_in_memory_is_refused(conditioner: Any) -> None:
    with pytest.raises(PromptError, match="parts below weight 1") as raised:
        conditioner.encode(parse("a- b-- " * 700), None, False)
    assert raised.value.span == (0, 4900) and raised.value.hint


def test_a_swap_adds_no_chunks(conditioner: Any, compel_for_sdxl: Any, torch: Any) -> None:
    text = f"a cat.swap({'a dog ' * 60}) sits"
    with torch.no_grad():
        theirs = compel_for_sdxl(text).embeds
    ours = conditioner.encode(parse(text), None, False).embeds
    assert theirs.shape[1] == 2 * ours.shape[1] == 2 * 77
    assert close(ours, theirs[:, :77])
