"""models.toml, shipped and the user's own; and the settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import catalogue, schedulers, tokens
from engines.errors import CatalogueError, LoadError
from tui import settings

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


def test_every_shipped_entry_is_whole_and_here() -> None:
    known = catalogue.load()
    assert known.problems == ()
    for model in known.models.values():
        assert not known.missing(model), model.id
        assert model.about and model.title and model.licence
        assert all(side % 8 == 0 for size in model.recipe.sizes for side in size)
        schedulers.find(model.recipe.scheduler)
        assert isinstance(known.chain(model)[-1].source, catalogue.Folder)
        assert known.preview_decoder(model.family) is not None
    assert known.default_model().id == "mini"
    assert known.default_scorer().id == "mini-clip"


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
