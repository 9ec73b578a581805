"""Where models come from: the sources of models.toml, what of them is here, and what the hub's cache says."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import catalogue, hub
from engines.entries import Checkpoint, Folder, Hub, HubFile, Local, LoraOver, Merged, Parent, UnetOver
from engines.errors import CatalogueError, LoadError

MODEL = """
[[model]]
id = "{id}"
title = "x"
family = "sdxl"
licence = "x"
source = {{ {source} }}
[model.recipe]
num_inference_steps = 4
guidance_scale = 0
scheduler = "euler"
sizes = [[64, 64]]
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def known(folder: Path, **sources: str) -> catalogue.Catalogue:
    text = "".join(MODEL.format(id=id.replace("_", "-"), source=source) for id, source in sources.items())
    (folder / "models.toml").write_text(text)
    return catalogue.load(folder / "models.toml")


def put(cache: Path, repo: str, file: str, content: bytes = b"x", blob: str = "b" * 40) -> Path:
    """A file as huggingface_hub keeps it."""
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(COMMIT)
    (root / "blobs").mkdir(exist_ok=True)
    (root / "blobs" / blob).write_bytes(content)
    link = root / "snapshots" / COMMIT / file
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(root / "blobs" / blob)
    return link


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ('repo = "a/b", variant = "fp16"', Hub("a/b", "fp16")),
        ('repo = "a/b", revision = "v1.0"', Hub("a/b", None, "v1.0")),
        ('folder = "x"', Folder(Path("x"))),
        ('file = "m.safetensors"', Checkpoint(Local(Path("m.safetensors")))),
        ('file = "m.safetensors", like = "mini"', Checkpoint(Local(Path("m.safetensors")), "mini")),
        ('repo = "a/b", file = "m.safetensors", bytes = 7', Checkpoint(HubFile("a/b", "m.safetensors", bytes=7))),
        ('base = "mini", unet = "u", repo = "a/b"', UnetOver("mini", HubFile("a/b", "u"))),
        ('base = "mini", lora = "l", weight = 0.5', LoraOver("mini", Local(Path("l")), 0.5)),
        (
            'merge = [{ model = "mini", weight = 0.7 }, { model = "mini", weight = 0.3 }], blocks = { in4 = 0.5 }',
            Merged((Parent("mini", 0.7), Parent("mini", 0.3)), "weighted-sum", (("in4", 0.5),)),
        ),
    ],
)
def test_every_source_can_be_written(tmp_path: Path, source: str, read: object) -> None:
    found = known(tmp_path, mine=source)
    assert found.problems == ()
    assert repr(found.model("mine").source) == repr(read).replace("PosixPath('", f"PosixPath('{tmp_path}/")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('repo = "a/b", folder = "x"', "not both"),
        ('repo = "../b"', "ORG/NAME"),
        ('repo = "a/b", revision = "../../x"', "revision must be"),
        ('repo = "a/b", file = "../../x.safetensors"', "a file's name in the repository"),
        ('repo = "a/b", file = "x", sha256 = "abc"', "64 hexadecimal"),
        ('merge = [{ model = "mini", weight = 1 }]', "two or three"),
        ('merge = [{ model = "mini", weight = 1 }, { model = "mini", weight = nan }]', "must be a number"),
        (
            'merge = [{ model = "mini", weight = 1 }, { model = "mini", weight = 1 }], method = "add-difference"',
            "takes three models",
        ),
        (
            'merge = [{ model = "mini", weight = 1 }, { model = "mini", weight = 1 }], blocks = { in99 = 1 }',
            "no block is called",
        ),
        ('base = "nothing", unet = "u"', "no model 'nothing'"),
        ('file = "x", like = "mine"', "stands on itself"),
        ('merge = [{ model = "mine", weight = 1 }, { model = "mini", weight = 1 }]', "stands on itself"),
    ],
)
def test_a_source_that_cannot_be_is_one_line(tmp_path: Path, source: str, told: str) -> None:
    found = known(tmp_path, mine=source)
    assert "mine" not in found.models
    (problem,) = found.problems
    assert told in problem and "\n" not in problem


def test_what_the_hub_has_fetched_is_found_where_every_program_keeps_it(tmp_path: Path, cache: Path) -> None:
    found = known(tmp_path, mine='repo = "a/b", file = "deep/m.safetensors"')
    model = found.model("mine")
    (missing,) = found.missing(model)
    assert missing == cache / "models--a--b" / "snapshots" / "main" / "deep/m.safetensors"
    assert found.can_be_had(model) and found.lacking(model) == (model,)
    with pytest.raises(LoadError, match="not on this machine") as told:
        found.require("mine")
    assert told.value.hint == "safelight models pull mine fetches it"
    link = put(cache, "a/b", "deep/m.safetensors")
    assert found.missing(model) == () and found.lacking(model) == ()
    link.unlink()
    link.symlink_to("a-blob-that-is-not-there")
    assert found.missing(model) == (link,), "a link that leads nowhere is an unfinished download"


def test_a_file_of_ones_own_cannot_be_had_from_the_hub(tmp_path: Path) -> None:
    found = known(tmp_path, mine='file = "m.safetensors"', over='base = "mine", lora = "l", repo = "a/b"')
    for id in ("mine", "over"):
        assert not found.can_be_had(found.model(id))
        with pytest.raises(LoadError) as told:
            found.require(id)
        assert told.value.hint == "safelight models list shows what is"
    (tmp_path / "m.safetensors").touch()
    assert found.can_be_had(found.model("over")) and found.lacking(found.model("over")) == (found.model("over"),)


def test_a_unet_of_its_own_spares_the_bases(tmp_path: Path, cache: Path) -> None:
    found = known(tmp_path, base='repo = "a/b"', fast='base = "base", unet = "u.safetensors", repo = "c/d"')
    fast = found.model("fast")
    assert found.lacking(fast) == (fast, found.model("base"))
    for name in ("model_index.json", "scheduler/scheduler_config.json", "unet/config.json"):
        put(cache, "a/b", name)
    for name in ("text_encoder", "text_encoder_2", "vae"):
        put(cache, "a/b", f"{name}/config.json")
        put(cache, "a/b", f"{name}/{'diffusion_pytorch_model' if name == 'vae' else 'model'}.safetensors")
    for name in ("tokenizer", "tokenizer_2"):
        put(cache, "a/b", f"{name}/vocab.json")
        put(cache, "a/b", f"{name}/merges.txt")
    assert found.lacking(fast) == (fast,)
    put(cache, "c/d", "u.safetensors")
    assert found.missing(fast) == ()
    assert found.missing(found.model("base")) != (), "the base by itself needs its own"


def test_what_is_to_be_fetched_spares_the_unet_that_another_replaces(cache: Path) -> None:
    shipped = catalogue.load()
    sizes = {one.id: size for one, size in shipped.to_get(shipped.model("sdxl-lightning-4step-unet"))}
    assert sizes["sdxl-lightning-4step-unet"] > 5e9 and 1.7e9 < sizes["sdxl-base"] < 1.9e9
    assert dict(shipped.to_get(shipped.model("sdxl-base")))[shipped.model("sdxl-base")] > 6.9e9
    assert [size > 0 for _, size in shipped.to_get(shipped.vae("sdxl-vae-fp16-fix"))] == [True]
    assert shipped.to_get(shipped.model("mini")) == ()


def test_a_mix_needs_all_its_parents(tmp_path: Path) -> None:
    found = known(
        tmp_path,
        away='file = "a.safetensors"',
        mixed='merge = [{ model = "mini", weight = 1 }, { model = "away", weight = 1 }]',
    )
    mixed = found.model("mixed")
    assert {model.id for model in found.needs(mixed)} == {"mini", "away"}
    assert found.missing(mixed) == (tmp_path / "a.safetensors",)


def test_an_entry_of_any_kind_is_found_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(
        '[[vae]]\nid = "v"\ntitle = "x"\nlatents = "sdxl"\nlicence = "MIT"\nrepo = "a/b"\n'
        '[[vae]]\nid = "w"\ntitle = "x"\nlatents = "sdxl"\nlicence = "MIT"\nfile = "w.safetensors"\n'
        '[[embedding]]\nid = "e"\ntitle = "x"\nfamily = "mini"\nlicence = "MIT"\nfile = "e.safetensors"\n'
        '[[lora]]\nid = "l"\ntitle = "x"\nfamily = "mini"\nlicence = "MIT"\nrepo = "a/b"\nfile = "l.safetensors"\n'
    )
    found = catalogue.load(tmp_path / "models.toml")
    assert found.problems == ()
    assert [type(found.entry(id)).__name__ for id in ("v", "w", "e", "l", "mini", "mini-clip")] == [
        "Vae", "Vae", "Embedding", "Adapter", "Model", "Scorer"
    ]  # fmt: skip
    assert all(found.missing(found.entry(id)) for id in ("v", "w", "e", "l"))
    assert found.embeddings_of("mini").keys() == {"mini-night"}
    (tmp_path / "e.safetensors").touch()
    assert found.embeddings_of("mini").keys() == {"mini-night", "e"}
    with pytest.raises(CatalogueError, match="no entry 'mimi'"):
        found.entry("mimi")


def test_the_hubs_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert hub.cache() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hub.cache() == tmp_path / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert hub.cache() == tmp_path / "home" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "there"))
    assert hub.cache() == tmp_path / "there"


def test_the_hash_of_a_large_file_is_the_name_of_its_blob(cache: Path, tmp_path: Path) -> None:
    assert hub.sha256_of(put(cache, "a/b", "m", blob="a" * 64)) == "a" * 64
    assert hub.sha256_of(put(cache, "a/b", "n", blob="a" * 40)) == "", "a small file's blob is named by git"
    (tmp_path / "plain").touch()
    assert hub.sha256_of(tmp_path / "plain") == "" and hub.sha256_of(tmp_path / "nowhere") == ""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert hub.sha256_of(loop) == ""
