"""Embeddings named in a prompt: beside diffusers' load_textual_inversion and compel on the same pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from engines import catalogue, tokens
from engines.errors import LoadError
from engines.prompt import parse

MINI = Path(catalogue.__file__).with_name("mini")
NIGHT = MINI / "embeddings" / "mini_night.safetensors"
FOLDERS = [MINI / "base" / name for name in ("tokenizer", "tokenizer_2")]


@pytest.fixture(scope="module")
def torch() -> Iterator[Any]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def loaded(torch: Any) -> Any:
    from diffusers import StableDiffusionXLPipeline

    return StableDiffusionXLPipeline.from_pretrained(
        MINI / "base", dtype=torch.float32, add_watermarker=False, unet=None, vae=None
    )


@pytest.fixture(scope="module")
def encoders(torch: Any) -> Any:
    from engines.diffusion.conditioning import TextEncoders

    pipe = loaded(torch)
    return TextEncoders(pipe.tokenizer, pipe.tokenizer_2, pipe.text_encoder, pipe.text_encoder_2)


@pytest.fixture
def plain(encoders: Any, torch: Any) -> Any:
    """A conditioner that knows no embedding."""
    from engines.diffusion.conditioning import Conditioner

    return Conditioner(encoders, "cpu", torch.float32)


@pytest.fixture
def conditioner(encoders: Any, torch: Any) -> Any:
    from engines.diffusion.conditioning import Conditioner

    made = Conditioner(encoders, "cpu", torch.float32)
    made.learn([("mini_night", NIGHT), ("mini-two.0", NIGHT)])
    return made


@pytest.fixture(scope="module")
def pipe(torch: Any) -> Any:
    """A pipeline that diffusers has loaded the embedding into."""
    from safetensors.torch import load_file

    made = loaded(torch)
    vectors = load_file(NIGHT)
    for key, encoder, tokenizer in (
        ("clip_l", made.text_encoder, made.tokenizer),
        ("clip_g", made.text_encoder_2, made.tokenizer_2),
    ):
        made.load_textual_inversion(vectors[key], token="mini_night", text_encoder=encoder, tokenizer=tokenizer)
    return made


def same(one: Any, two: Any) -> bool:
    return bool((one.embeds == two.embeds).all()) and bool((one.pooled == two.pooled).all())


def close(one: Any, two: Any, within: float = 1e-5) -> bool:
    return one.shape == two.shape and bool((one - two).abs().max() <= within * two.abs().max())


@pytest.mark.parametrize("text", ["mini_night", "a castle, mini_night, in snow", "mini_night mini_night. a cat"])
def test_hidden_states_and_pooled_are_diffusers(text: str, conditioner: Any, plain: Any, pipe: Any, torch: Any) -> None:
    ours = conditioner.encode(parse(text), parse("blurry mini_night"), True)
    with torch.no_grad():
        embeds, negative, pooled, negative_pooled = pipe.encode_prompt(
            text, device="cpu", negative_prompt="blurry mini_night", do_classifier_free_guidance=True
        )
    assert close(ours.embeds, embeds) and close(ours.pooled, pooled)
    assert close(ours.negative_embeds, negative) and close(ours.negative_pooled, negative_pooled)
    without = plain.encode(parse(text), None, False)
    assert not close(ours.embeds, without.embeds, 0.1) and not close(ours.pooled, without.pooled, 0.1)


@pytest.mark.parametrize(
    "text",
    WEIGHTED := [
        "a castle mini_night++",
        "a castle (mini_night)0.5 in (snow)1.2",
        "a (castle, mini_night)-- in snow",
        '("a castle", "mini_night, snow").blend(0.3, 0.7)',
        '("a castle--", "(mini_night)1.2 snow").and()',
        ", ".join(["a castle mini_night. snow (mini_night)0.7"] * 14),
    ],
    ids=range(len(WEIGHTED)),
)
def test_weights_act_as_in_compel(text: str, conditioner: Any, pipe: Any, torch: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from compel import CompelForSDXL, DiffusersTextualInversionManager

        compels = CompelForSDXL(pipe, textual_inversion_manager=DiffusersTextualInversionManager(pipe))
        with torch.no_grad():
            theirs = compels(text)
    ours = conditioner.encode(parse(text), None, True)
    weightless = conditioner.encode(parse(text.replace("++", "").replace("--", "")), None, True)
    assert ours.embeds.shape == theirs.embeds.shape and close(ours.embeds, theirs.embeds, 1e-4)
    if text.endswith("+"):
        assert not close(ours.embeds, weightless.embeds, 0.01)


@pytest.mark.parametrize(
    "written",
    [
        "MINI_Night",
        "<mini_night>",
        "embedding:mini_night",
        "<embedding:Mini_Night>",
        "(embedding:mini_night)",
        "(<mini_night>)",
    ],
)
def test_all_ways_to_name_one_are_the_same(written: str, conditioner: Any) -> None:
    wanted = conditioner.encode(parse("a castle, mini_night, snow"), None, False)
    made = conditioner.encode(parse(f"a castle, {written}, snow"), None, False)
    assert same(made, wanted)
    weighted = conditioner.encode(parse("a castle, (mini_night)1.1, snow"), None, False)
    assert same(conditioner.encode(parse(f"a castle, {written}+, snow"), None, False), weighted)


NAMES = {"mini_night": 3, "mini-two.0": 3, "v2": 1}


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a mini_night b", ["a ", "[mini_night]", " b"]),
        ("mini_night.", ["[mini_night]", "."]),
        ("mini_night... Mini-Two.0. x", ["[mini_night]", "... ", "[mini-two.0]", ". x"]),
        ("-mini_night- --v2", ["-", "[mini_night]", "- --", "[v2]"]),
        ("mini_nights, xmini_night, mini_night-x, mini_night.x, x.mini_night, 狐mini_night", None),
        ("mini-two, two.0, <mini>, embedding:mini, embedding:, <>", None),
        ("<mini_night><v2>a<v2", ["[mini_night]", "[v2]", "a<", "[v2]"]),
        ("style:mini_night, embedding:v2!", ["style:", "[mini_night]", ", ", "[v2]", "!"]),
        ("İmini_night İ v2", ["İmini_night İ ", "[v2]"]),
        ("", None),
    ],
)
def test_a_name_is_a_whole_word(text: str, pieces: list[str] | None) -> None:
    found = [f"[{name}]" if name else words for words, name in tokens.split(text, NAMES)]
    assert [piece for piece in found if piece] == (pieces if pieces is not None else [text] * bool(text))
    assert list(tokens.split(text, {})) == [(text, "")]


BASE = ["", "a red cat", "a (mini)1.2 night, mini night", ", ".join(["a cat on a (mat)0.7. mini_nights"] * 20)]


@pytest.mark.parametrize("text", BASE, ids=range(len(BASE)))
def test_prompts_without_one_are_the_same_bit_for_bit(text: str, conditioner: Any, plain: Any) -> None:
    conditioner.encode(parse("a castle mini_night (mini_night)0.4"), None, False)
    assert same(conditioner.encode(parse(text), None, False), plain.encode(parse(text), None, False))


def test_nothing_of_what_is_shared_changes(encoders: Any, conditioner: Any, torch: Any) -> None:
    vocabulary = [len(x) for x in (encoders.tokenizer, encoders.tokenizer_2)]
    state = {k: v.clone() for k, v in encoders.text_encoder_2.state_dict().items()}
    conditioner.encode(parse("mini_night"), None, False)
    assert [len(x) for x in (encoders.tokenizer, encoders.tokenizer_2)] == vocabulary
    after = encoders.text_encoder_2.state_dict()
    assert state.keys() == after.keys() and all(torch.equal(state[k], after[k]) for k in state)
    assert not encoders.text_encoder_2.get_input_embeddings()._forward_hooks


def test_the_pooled_embedding_is_found_by_the_highest_id_too(
    conditioner: Any, encoders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = conditioner.encode(parse("a castle mini_night, snow"), None, False)
    conditioner.forget()
    inner = getattr(encoders.text_encoder_2, "text_model", encoders.text_encoder_2)
    monkeypatch.setattr(inner, "eos_token_id", 2)  # as in the configuration of SDXL's second encoder
    assert same(conditioner.encode(parse("a castle mini_night, snow"), None, False), wanted)


COUNTED = {
    "mini_night": (3, 1),
    "a castle, <mini_night>++, (embedding:mini_night, snow)0.5": (1 + 3 + 1 + 3 + 1 + 3 + 1 + 1, 1),
    "mini_night " * 25: (75, 1),
    "mini_night " * 26: (78, 2),
    "a " + "mini_night " * 25: (76, 2),
    "mini_night," * 60: (240, 4),
    "a. " * 36 + "b mini_night mini_night": (79, 2),
    '("mini_night", "a b").and()': (5, 2),
    '("mini_night " , "a b c d").blend(1, 2)': (4, 1),
    "a b.swap(mini_night) c": (3, 1),
    "a mini_night <|endoftext|> mini_night": (8, 1),
    "mini_nights": (None, 1),
    "x" * 200 + " mini_night": (None, 2),
}


@pytest.mark.parametrize("text", COUNTED, ids=range(len(COUNTED)))
def test_vectors_are_counted_as_tokens(text: str, conditioner: Any) -> None:
    prompt = parse(text)
    known = {"mini_night": tokens.vectors(NIGHT)}
    assert known == {"mini_night": 3}
    counted = tuple(tokens.length(folder, prompt, known) for folder in FOLDERS)
    assert counted == conditioner.lengths(prompt)
    count, chunks = COUNTED[text]
    assert count is None or counted[0] == tokens.Length(count, chunks)
    assert conditioner.encode(prompt, None, False).embeds.shape[1] == 77 * counted[0].chunks


def test_the_embeddings_of_a_prompt_are_named() -> None:
    for text, used, lost in (
        ("a V2, (mini_night)0.5 v2. <mini>", ("mini_night", "v2"), ()),
        ("a cat.swap(v2)", (), ()),
        ("v2.swap(cat)", ("v2",), ()),
        ('("v2", "embedding:Typo++, embedding:mini_night").blend(1, 2)', ("mini_night", "v2"), ("Typo",)),
        ("embedding:a embedding:a. embedding: xembedding:b", (), ("a",)),
    ):
        assert tokens.named(parse(text), NAMES) == used
        assert tokens.unknown(parse(text), NAMES) == lost


def test_none_is_cut_between_chunks(conditioner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = conditioner.embeddings
    chunks: list[list[int]] = []
    run = type(conditioner._sides[0]).run

    def watched(self: Any, ids: Any, *rest: Any) -> Any:
        if (
            self.place == 0
        ):  # the second one also encodes the first 77 tokens, wherever that cuts, for the pooled embedding
            chunks.append(ids[0].tolist())
        return run(self, ids, *rest)

    monkeypatch.setattr(
        type(conditioner._sides[0]),
        "run",
        watched,
    )
    for lead in range(4):
        chunks.clear()
        conditioner.encode(parse("a " * lead + "mini_night " * 60), None, False)
        ids = first.ids("mini_night")
        for chunk in chunks:
            there = [i for i in chunk if i in ids]
            assert there or chunk[1:3] == [chunk[-1]] * 2, "words, or the empty prompt"
            assert there == list(ids) * (len(there) // 3)


def test_a_changed_file_or_list_is_seen_and_nothing_else_is_forgotten(
    conditioner: Any, encoders: Any, torch: Any, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    vectors = load_file(NIGHT)
    save_file(vectors, tmp_path / "mine.safetensors")
    conditioner.learn([("mine", tmp_path / "mine.safetensors")])
    before = conditioner.encode(parse("a castle mine"), None, False)
    conditioner.encode(parse("a castle"), None, False)
    save_file({k: torch.cat([v, v]) for k, v in vectors.items()}, tmp_path / "mine.safetensors")
    runs: list[int] = []
    hook = encoders.text_encoder.register_forward_hook(lambda *_: runs.append(1))
    try:
        after = conditioner.encode(parse("a castle mine"), None, False)
        assert not same(before, after) and len(runs) == 1
        assert conditioner.lengths(parse("mine"))[0].tokens == 6
        conditioner.learn([("mini_night", NIGHT)])
        assert not same(conditioner.encode(parse("a castle mine"), None, False), after), "it is a word again"
        runs.clear()
        conditioner.encode(parse("a castle"), None, False)
        assert runs == []
    finally:
        hook.remove()


def test_what_is_kept_is_bounded(conditioner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines.diffusion import embeddings

    monkeypatch.setattr(embeddings, "REMEMBERED", 2)
    conditioner.learn([(f"night{i}", NIGHT) for i in range(6)])
    wanted = conditioner.encode(parse("night1 night2 night3"), None, False)
    for i in range(6):
        conditioner.encode(parse(f"night{i}"), None, False)
    assert len(conditioner.embeddings._learned) == 2
    assert same(conditioner.encode(parse("night1 night2 night3"), None, False), wanted)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_and_inference_mode(kind: str, encoders: Any, conditioner: Any, torch: Any) -> None:
    import copy

    from engines.diffusion.conditioning import Conditioner, TextEncoders

    dtype = getattr(torch, kind)
    halved = TextEncoders(
        encoders.tokenizer,
        encoders.tokenizer_2,
        copy.deepcopy(encoders.text_encoder).to(dtype),
        copy.deepcopy(encoders.text_encoder_2).to(dtype),
    )
    half = Conditioner(halved, "cpu", dtype)
    half.learn([("mini_night", NIGHT)])
    with torch.inference_mode():
        made = half.encode(parse("a (mini_night)0.8 castle"), None, False)
    full = conditioner.encode(parse("a (mini_night)0.8 castle"), None, False)
    assert made.embeds.dtype == dtype and close(made.embeds.float(), full.embeds, 0.05)
    assert close(made.pooled.float(), full.pooled, 0.05)


@pytest.mark.parametrize(("kind", "name"), [("sd1", "SD 1.x"), ("sd2", "SD 2.x"), ("sd1-name", "SD 1.x")])
def test_an_embedding_for_another_architecture_is_refused_with_both_named(kind: str, name: str, tmp_path: Path) -> None:
    assert tokens.vectors(tiny.embedding(tmp_path / "true.safetensors", 5, true=True)) == 5
    with pytest.raises(LoadError, match=f"old.safetensors is for {name} .*; the model is of SDXL's kind"):
        tokens.vectors(tiny.embedding(tmp_path / "old.safetensors", 5, kind))


def test_a_file_that_cant_be_used_is_one_line_and_only_where_it_is_named(
    conditioner: Any, torch: Any, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    ones = torch.ones
    odd = {
        r"is for SD 1\.x \(emb_params, 768 wide\); the model is of SDXL's kind": {"emb_params": ones(2, 768)},
        r"is for SD 2\.x \(mine, 1024 wide\)": {"mine": ones(1024)},
        "encoders 768 and 1280 wide; the model's are 96 and 128": {"clip_l": ones(2, 768), "clip_g": ones(2, 1280)},
        "don't belong together": {"clip_l": ones(2, 96), "clip_g": ones(3, 128)},
        "damaged: clip_l": {"clip_l": ones(96), "clip_g": ones(128)},
        "76 vectors; a text encoder reads 75": {"clip_l": ones(76, 96), "clip_g": ones(76, 128)},
        "not finite": {"clip_l": ones(1, 96), "clip_g": ones(1, 128) * float("nan")},
        "is no embedding": {"a": ones(1, 5), "b": ones(2, 7)},
    }
    files = []
    for number, state in enumerate(odd.values()):
        files.append((f"odd{number}", tmp_path / f"odd{number}.safetensors"))
        save_file(state, files[-1][1])
    (tmp_path / "pickled.pt").write_bytes(b"\x80\x02}q\x00." + b"\0" * 20)
    files += [("pickled", tmp_path / "pickled.pt"), ("missing", tmp_path / "missing.safetensors")]
    conditioner.learn(files)
    conditioner.encode(parse("a castle"), None, False)
    for (name, _), what in zip(files, (*odd, "a pickle", "can't be read"), strict=True):
        with pytest.raises(LoadError, match=what) as told:
            conditioner.encode(parse(f"a {name} castle"), None, False)
        assert "\n" not in told.value.message and told.value.hint
    assert told.value.hint
    with pytest.raises(LoadError) as told:
        conditioner.encode(parse("pickled"), None, False)
    assert "models convert" in told.value.hint
