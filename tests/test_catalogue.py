"""models.toml, shipped and the user's own; and the settings file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engines import catalogue, presence, schedulers, tokens
from engines.entries import Checkpoint, Folder, Hub, Model
from engines.errors import CatalogueError, LoadError
from tui import settings

EMBEDDED = {
    "mini", "mini-lightning-4step-unet", "mini-lightning-2step-lora", "mini-lightning-4step-lora",
    "mini-lightning-8step-lora", "mini-pixel", "mini-night", "mini-taesd", "mini-clip",
    "mini-x4",
}  # fmt: skip
GOOD = """
[[model]]
id = "mine"
title = "Mine"
family = "mini"
licence = "MIT"
rank = 99
source = { base = "mini", lora = "lora.safetensors", weight = 0.5 }
[model.recipe]
num_inference_steps = 3
guidance_scale = 0.0
scheduler = "Euler a"
sizes = [[64, 64]]
"""


def test_every_shipped_entry_is_whole_and_here_or_can_be_had() -> None:
    known = catalogue.load()
    assert known.problems == ()
    ids = [entry.id for entry in known.entries()]
    assert len(set(ids)) == len(ids), "an id is one thing, whatever its kind"
    for entry in known.entries():
        assert known.can_be_had(entry) and entry.licence, entry.id
        assert not known.missing(entry) or entry.id not in EMBEDDED, entry.id
    assert {id for id in ids if not known.missing(known.entry(id))} == EMBEDDED
    for model in known.models.values():
        assert model.about and model.title
        assert all(side % 8 == 0 for size in model.recipe.sizes for side in size)
        schedulers.find(model.recipe.scheduler)
        assert isinstance(known.chain(model)[-1].source, Folder | Hub | Checkpoint)
        assert any(decoder.family == model.space for decoder in known.preview_decoders.values())
    assert known.default_model().id == "mini"
    assert known.default_scorer().id == "mini-clip"


SCORER = '[[scorer]]\nid = "{}"\ntitle = "t"\nkind = "{}"\nfolder = "{}"\nlicence = "x"\nrank = {}\n'


def test_the_default_scorer_holds_pictures_against_the_text_whatever_the_ranks(tmp_path: Path) -> None:
    path, folder = tmp_path / "models.toml", catalogue.load().scorers["mini-clip"].source.path
    path.write_text(SCORER.format("taste", "aesthetic", folder, 99) + SCORER.format("liked", "preference", folder, 98))
    known = catalogue.load(path)
    assert known.problems == () and known.default_scorer().id == "mini-clip"
    others = {id: scorer for id, scorer in known.scorers.items() if scorer.kind != "clip"}
    assert replace(known, scorers=others).default_scorer().id == "taste"


def test_an_id_of_another_kind_is_a_problem_and_the_first_is_kept(tmp_path: Path) -> None:
    path, folder = tmp_path / "models.toml", catalogue.load().scorers["mini-clip"].source.path
    path.write_text(SCORER.format("mini", "clip", folder, 1) + SCORER.format("mini-clip", "clip", folder, 1))
    known = catalogue.load(path)
    (problem,) = known.problems
    assert "scorer mini: there is a model of that id" in problem
    assert known.entry("mini") is known.models["mini"] and "mini" not in known.scorers
    assert known.scorers["mini-clip"].title == "t", "one of the same kind is overridden"


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    import os

    from engines import proposing

    os.mkfifo(path := tmp_path / "models.toml")
    assert catalogue.load(path).problems == (f"{path} is no file",)
    assert proposing.listed(path) == {}
    with pytest.raises(CatalogueError, match="is no file"):
        proposing.append(path, GOOD)


def test_no_code_asks_whether_a_model_is_the_embedded_one() -> None:
    for folder in ("engines", "tui"):
        for path in (Path(catalogue.__file__).parent.parent / folder).rglob("*.py"):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                assert not ("mini" in line and ("if " in line or "==" in line)), f"{path.name}:{number}: {line.strip()}"


def test_the_users_entries_add_and_override_and_a_bad_one_does_not_spoil_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    bad = '[[model]]\nid = "bad"\ntitle = "x"\n'
    bad += '[[scorer]]\nid = "s"\ntitle = "t"\nkind = "magic"\nfolder = "."\nlicence = "x"\n'
    loop = GOOD.replace('"mine"', '"loop"').replace('base = "mini"', 'base = "loop"')
    path.write_text(GOOD + bad + loop + '[[wrong]]\nid = "x"\n')
    known = catalogue.load(path)
    assert known.models["mine"].recipe.scheduler == "euler_a"
    assert set(known.models) == {*catalogue.load().models, "mine"}
    assert len(known.problems) == 4 and all("\n" not in p for p in known.problems)
    assert known.default_model().id == "mini", "a model whose file is missing is not taken"
    with pytest.raises(LoadError, match=r"lora\.safetensors is missing"):
        known.require("mine")
    (tmp_path / "lora.safetensors").write_bytes(b"")
    assert known.default_model().id == "mine"


@pytest.mark.parametrize("text", ["[[model", "\xff", "model = 3", '[[model]]\nid = "../x"\n', "[[model]]\nid = 4\n"])
def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.toml"
    path.write_bytes(text.encode("latin-1"))
    known = catalogue.load(path)
    assert len(known.problems) == 1 and set(known.models) == set(catalogue.load().models)


@pytest.mark.parametrize("source", ['{ folder = "x", unet = "y" }', "{ }", '{ base = "mini" }'])
def test_a_source_that_is_none_is_told(tmp_path: Path, source: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(GOOD.replace('{ base = "mini", lora = "lora.safetensors", weight = 0.5 }', source))
    assert "a source is" in catalogue.load(path).problems[0]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("num_inference_steps = 3", "num_inference_steps = 0", "num_inference_steps"),
        ("num_inference_steps = 3", "num_inference_steps = 3.0", "num_inference_steps"),
        ("num_inference_steps = 3", "num_inference_steps = true", "num_inference_steps"),
        ("num_inference_steps = 3", 'num_inference_steps = "3"', "num_inference_steps"),
        ("guidance_scale = 0.0", "guidance_scale = nan", "guidance_scale"),
        ("guidance_scale = 0.0", "guidance_scale = -1", "guidance_scale"),
        ("guidance_scale = 0.0", 'guidance_scale = "7"', "guidance_scale"),
        ("guidance_scale = 0.0", "guidance_scale = 7.0\nguidance_rescale = 1.5", "guidance_rescale"),
        ("guidance_scale = 0.0", "guidance_scale = 7.0\nguidance_rescale = inf", "guidance_rescale"),
        ("guidance_scale = 0.0", 'guidance_scale = 7.0\nfixed_steps = "no"', "fixed_steps"),
        ("guidance_scale = 0.0", 'guidance_scale = 7.0\nprediction_type = "v"', "prediction_type"),
        ("guidance_scale = 0.0", "guidance_scale = 7.0\nprediction_type = []", "prediction_type"),
        ("guidance_scale = 0.0", "guidance_scale = 7.0\ntimestep_spacing = 3", "timestep_spacing"),
        ("guidance_scale = 0.0", "guidance_scale = 7.0\nsteps = 3", "a recipe has no 'steps'"),
        ('scheduler = "Euler a"', "scheduler = 3", "scheduler"),
        ("sizes = [[64, 64]]", "sizes = [[64.5, 64]]", "sizes"),
        ("sizes = [[64, 64]]", "sizes = [64, 64]", "sizes"),
        ("sizes = [[64, 64]]", "sizes = []", "sizes"),
        ("sizes = [[64, 64]]", "sizes = [[64, 100]]", "height must be a multiple of 8"),
        ('title = "Mine"', "title = 3", "title"),
        ('licence = "MIT"', "licence = []", "licence"),
        ("rank = 99", "rank = 0.5", "rank"),
        ("weight = 0.5", "weight = nan", "weight"),
        ('base = "mini"', "base = 3", "base"),
        ('"lora.safetensors"', "3", "lora"),
        ('"lora.safetensors"', '"a\\u0000b"', "lora must be a path"),
        ('{ base = "mini", lora = "lora.safetensors", weight = 0.5 }', '{ folder = "x", variant = 16 }', "variant"),
        ("[model.recipe]", "recipe = 3\n[model.other]", "recipe must be a table"),
    ],
)
def test_a_value_of_another_type_is_a_problem_and_not_a_model(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    path = tmp_path / "models.toml"
    path.write_text(GOOD.replace(old, new))
    known = catalogue.load(path)
    assert "mine" not in known.models
    (problem,) = known.problems
    assert told in problem and "model mine" in problem and "\n" not in problem


FOLDER = """
[[model]]
id = "whole"
title = "x"
family = "mini"
licence = "x"
source = {{ folder = "base"{more} }}
[model.recipe]
num_inference_steps = 2
guidance_scale = 7
scheduler = "euler"
sizes = [[64, 64]]
"""
UNET = "unet/diffusion_pytorch_model"


def layout(folder: Path, more: str = "") -> tuple[catalogue.Catalogue, Model]:
    """The embedded model's files by name, empty."""
    shipped = catalogue.SHIPPED.parent / "mini" / "base"
    for path in shipped.rglob("*"):
        if path.is_file():
            (folder / "base" / path.relative_to(shipped)).parent.mkdir(parents=True, exist_ok=True)
            (folder / "base" / path.relative_to(shipped)).touch()
    (folder / "models.toml").write_text(FOLDER.format(more=more))
    known = catalogue.load(folder / "models.toml")
    assert known.problems == ()
    return known, known.model("whole")


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        f"{UNET}.safetensors",
        "unet/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "text_encoder/model.safetensors",
        "text_encoder_2/model.safetensors",
        "text_encoder_2/config.json",
    ],
)
def test_half_a_download_is_not_here(tmp_path: Path, name: str) -> None:
    known, model = layout(tmp_path)
    assert type(model.recipe.guidance_scale) is float
    assert known.missing(model) == ()
    file = tmp_path / "base" / name
    file.unlink()
    assert known.missing(model) == (file,)
    file.symlink_to(tmp_path / "blob-that-is-still-loaded")
    assert known.missing(model) == (file,)
    with pytest.raises(LoadError, match="is missing"):
        known.require("whole")


def test_a_tokenizer_is_of_either_kind(tmp_path: Path) -> None:
    known, model = layout(tmp_path)
    (tmp_path / "base/tokenizer_2/tokenizer.json").unlink()
    assert known.missing(model) == ()
    (tmp_path / "base/tokenizer_2/merges.txt").unlink()
    assert known.missing(model) == (tmp_path / "base/tokenizer_2/tokenizer.json",)


def test_of_shards_all_must_be_here_and_their_index(tmp_path: Path) -> None:
    known, model = layout(tmp_path)
    base = tmp_path / "base"
    (base / f"{UNET}.safetensors").rename(base / f"{UNET}-00001-of-00002.safetensors")
    assert known.missing(model) == (base / f"{UNET}.safetensors",)
    (base / f"{UNET}.safetensors.index.json").touch()
    assert known.missing(model) == (base / f"{UNET}.safetensors",)
    (base / f"{UNET}-00002-of-00002.safetensors").touch()
    assert known.missing(model) == ()


def test_the_variant_of_a_folder_is_known(tmp_path: Path) -> None:
    known, model = layout(tmp_path)
    assert isinstance(model.source, Folder)
    assert presence.variant_here(model.source) is None
    for path in (tmp_path / "base").rglob("*.safetensors"):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    assert known.missing(model) == (), "it is here, and loading says what the entry lacks"
    assert presence.variant_here(model.source) == "fp16"
    known, model = layout(tmp_path / "other", ', variant = "fp16"')
    assert known.missing(model) == (), "a component that has no files of the variant is taken without it"
    (tmp_path / "other" / "base" / f"{UNET}.safetensors").unlink()
    assert known.missing(model) == (tmp_path / "other" / "base" / f"{UNET}.fp16.safetensors",)
    (tmp_path / "other" / "base" / f"{UNET}.safetensors").touch()
    for path in (tmp_path / "other").rglob("*.safetensors"):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    assert known.missing(model) == ()
    shards = [f"{UNET}.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name in (*shards, f"{UNET}.safetensors.index.fp16.json"):
        (tmp_path / "other" / "base" / name).touch()
    (tmp_path / "other" / "base" / f"{UNET}.fp16.safetensors").unlink()
    assert known.missing(model) == ()


def test_a_unet_in_a_file_of_its_own_needs_none_in_the_folder(tmp_path: Path) -> None:
    layout(tmp_path)
    (tmp_path / "base" / f"{UNET}.safetensors").unlink()
    entry = GOOD.replace('{ base = "mini", lora = "lora.safetensors", weight = 0.5 }', '{ base = "whole", unet = "u" }')
    with (tmp_path / "models.toml").open("a") as f:
        f.write(entry)
    (tmp_path / "u").touch()
    known = catalogue.load(tmp_path / "models.toml")
    assert known.missing(known.model("mine")) == () and known.missing(known.model("whole"))


def test_a_name_of_several_lines_is_told_in_one() -> None:
    with pytest.raises(CatalogueError) as told:
        catalogue.load().scorer("0\n0" * 1000)
    assert "\n" not in told.value.message and len(told.value.message) < 120


def test_every_scheduler_can_be_named_in_every_way() -> None:
    import diffusers

    for row in schedulers.TABLE:
        for name in (row.name, row.title, row.name.upper(), *row.aliases):
            assert schedulers.find(name) is row
        assert hasattr(diffusers, row.class_name)
    with pytest.raises(CatalogueError):
        schedulers.find("")


TEXTS = ("a red apple", "", "Ünïcode — “quotes” 3d", "it's 12345 o'clock!!", "  many   spaces ", "狐狸 🦊", "a" * 300)


def test_tokens_are_counted_as_transformers_counts_them(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    known = catalogue.load()
    folders = tokens.encoders(known, known.default_model())
    assert len(folders) == 2
    old = tmp_path / "old"
    old.mkdir()
    for name in ("vocab.json", "merges.txt"):
        (old / name).write_bytes((folders[0] / name).read_bytes())
    theirs = CLIPTokenizer.from_pretrained(folders[0])
    for text in TEXTS:
        wanted = len(theirs(text)["input_ids"]) - 2
        assert tokens.count(folders[0], text) == wanted
        assert tokens.count(old, text) == wanted, text
    with pytest.raises(LoadError):
        tokens.count(tmp_path, "x")


def test_settings_are_checked_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    assert settings.load(path) == (settings.Settings(), ())
    path.write_text(
        'theme = "paper"\nthreads = 2\nprecision = "fp7"\nscore = 1\nunknown = 3\npictures = "halfblocks"\n'
        '[keys]\nmake = "f9"\nbad = 4\n'
    )
    read, problems = settings.load(path)
    assert read.theme == "paper" and read.threads == 2 and read.precision == "auto" and read.score is True
    assert read.keys == (("make", "f9"),)
    assert len(problems) == 4
    path.write_text("theme = ")
    read, problems = settings.load(path)
    assert read == settings.Settings() and len(problems) == 1
