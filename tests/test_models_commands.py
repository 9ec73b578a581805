"""`safelight models …` as programs run it: exit codes, JSON, a line for each error, and what is on disk afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
import tiny
import torch
from hub import Hub
from zoo import ZOO, Beast

from engines import catalogue

MINI = catalogue.SHIPPED.parent / "mini"
LIGHTNING = "ByteDance/SDXL-Lightning"


def safelight(*arguments: str | Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    if os.environ["HF_HUB_OFFLINE"] == "1" and not environment:  # no hub of the test's own
        done = forked.run([*map(str, arguments)])
    else:
        done = subprocess.run(
            [sys.executable, "-m", "tui", *map(str, arguments)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            check=False,
        )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    if code:
        told = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
        assert [line.partition(":")[0] for line in told] == ["error", "hint"], done.stderr
    return done


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with a base, a student of it that is a UNet, and a LoRA; all as large as they are here."""
    place = tmp_path_factory.mktemp("served")
    base = tiny.folder(place / "base", variant="fp16", seed=1)
    (base / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    unet = tiny.unet_file(place / "sdxl_lightning_4step_unet.safetensors", seed=2)
    lora = tiny.lora(place / "style.safetensors", seed=3)
    with Hub(
        {
            "me/base": base,
            "me/fast": {"sdxl_lightning_4step_unet.safetensors": unet.read_bytes()},
            "me/style": {"style.safetensors": lora.read_bytes(), "README.md": b"hello"},
        }
    ) as hub:
        yield hub


@pytest.fixture
def online(served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub, and a cache of this test's own."""
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return served


def add_base() -> None:
    safelight("models", "add", "me/base", "--id", "base")


# ── what is this? ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_is_told_added_and_drawn_with(tmp_path: Path, home: Path) -> None:
    file = tiny.single_file(tmp_path / "my_sdxl_lightning_4step.safetensors", seed=4)
    (told,) = objects(safelight("models", "add", file, "--id", "mine", "--json"))
    assert (told["kind"], told["precision"], told["distilled"], told["steps"]) == ("model", "fp16", "lightning", 4)
    assert told["added"] and any("name" in str(reason) for reason in told["reasons"])  # type: ignore[union-attr]
    (shown,) = objects(safelight("models", "show", "mine", "--json"))
    assert shown["here"] and shown["recipe"]["timestep_spacing"] == "trailing"  # type: ignore[index]
    twice = safelight("models", "add", file, "--id", "mine", code=2)
    assert "'mine' is the id of another entry" in twice.stderr


def test_nothing_is_added_by_a_dry_run(home: Path) -> None:
    done = safelight("models", "add", MINI / "style_lora" / "mini_pixel_lora.safetensors", "--dry-run")
    assert "100 % of its" in done.stdout and "[[lora]]" in done.stdout and 'family = "mini"' in done.stdout
    assert not (home / "config" / "models.toml").exists()


def test_a_lora_for_sd1_is_refused_with_both_sides_named(tmp_path: Path) -> None:
    file = tiny.lora(tmp_path / "old.safetensors", architecture="sd1", true=True)
    told = safelight("models", "add", file, code=1).stderr
    assert "Stable Diffusion 1" in told and "SDXL" in told


def test_a_checkpoint_of_other_shapes_than_its_base_is_refused_with_both_sides_named(
    tmp_path: Path, home: Path
) -> None:
    file, folder = tiny.single_file(tmp_path / "other.safetensors"), tiny.folder(tmp_path / "folder")
    unet = tiny.unet_file(tmp_path / "unet.safetensors")
    for place in (file, folder, unet):
        told = safelight("models", "add", place, "--base", "mini", code=2).stderr
        assert "cross-attention 128" in told and "mini is mini (cross-attention 224)" in told
        assert "sdxl-base is sdxl" in safelight("models", "add", place, "--base", "sdxl-base", code=2).stderr
    assert not (home / "config" / "models.toml").exists()
    safelight("models", "add", folder, "--id", "one")
    for number, place in enumerate((file, folder, unet)):
        (told_,) = objects(safelight("models", "add", place, "--base", "one", "--id", f"of{number}", "--json"))
        assert told_["family"] == "sdxl-shaped-128"


def test_the_same_width_alone_makes_no_family(tmp_path: Path) -> None:
    pruned = tiny.single_file(tmp_path / "pruned.safetensors", architecture="ssd-1b")
    safelight("models", "add", tiny.folder(tmp_path / "folder"), "--id", "one")
    told = safelight("models", "add", pruned, "--base", "one", code=2).stderr
    assert "of other" not in told and "layers have other shapes" in told


def test_a_pickle_is_refused_with_the_way_to_convert_it_and_that_way_works(tmp_path: Path) -> None:
    file = tmp_path / "old.ckpt"
    torch.save({"state_dict": {"emb_params": torch.zeros(2, 4)}}, file)
    assert "safelight models convert old.ckpt" in safelight("models", "add", file, code=1).stderr
    (made,) = objects(safelight("models", "convert", file, "--json"))
    assert made["path"] == str(tmp_path / "old.safetensors") and Path(str(made["path"])).is_file()
    assert "is there already" in safelight("models", "convert", file, code=1).stderr
    told = safelight("models", "convert", file, "--out", tmp_path / "o.bin", code=2).stderr
    assert "o.bin doesn't end in .safetensors" in told and not (tmp_path / "o.bin").exists()


@pytest.mark.parametrize("beast", ZOO, ids=lambda beast: beast.name)
def test_a_corrupt_file_is_one_line(beast: Beast, tmp_path: Path, home: Path) -> None:
    if beast.stage == "load":
        pytest.skip("only the loader sees it")
    path = beast.make(tmp_path)
    told = safelight("models", "add", path, code=1).stderr
    import re

    assert re.search(beast.expect, told), told
    assert "\x1b" not in told and not (home / "config" / "models.toml").exists()


def test_another_programs_folder_is_listed_in_place(tmp_path: Path, home: Path) -> None:
    (tmp_path / "loras").mkdir()
    tiny.lora(tmp_path / "loras" / "style.safetensors", seed=3, true=True)
    (tmp_path / "loras" / "broken.safetensors").write_bytes(b"")
    found = objects(safelight("models", "scan", tmp_path, "--json"))
    assert sorted(Path(str(each["path"])).name for each in found) == ["broken.safetensors", "style.safetensors"]
    assert not (home / "config" / "models.toml").exists()
    safelight("models", "scan", tmp_path, "--add")
    (shown,) = objects(safelight("models", "show", "style", "--json"))
    assert shown["kind"] == "lora" and str(tmp_path) in str(shown["source"])
    assert "added" not in safelight("models", "scan", tmp_path, "--add").stdout, "what is listed is not added twice"


def test_what_is_nowhere_is_told(tmp_path: Path) -> None:
    assert "there is no" in safelight("models", "add", tmp_path / "nothing.safetensors", code=2).stderr
    assert "is not there" in safelight("models", "scan", tmp_path / "nothing", code=2).stderr
    (tmp_path / "file").touch()
    assert "is no folder" in safelight("models", "scan", tmp_path / "file", code=2).stderr
    assert "there is no" in safelight("models", "convert", tmp_path / "nothing.ckpt", code=2).stderr
    both = (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert "there is no" in safelight("models", "merge", *both, "--out", tmp_path / "c.safetensors", code=2).stderr
    assert "no entry 'mimi'" in safelight("models", "show", "mimi", code=2).stderr


# ── the hub ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_repository_is_told_pulled_drawn_with_verified_and_removed(online: Hub, tmp_path: Path) -> None:
    (told,) = objects(safelight("models", "add", "me/base", "--id", "base", "--json"))
    assert (told["kind"], told["architecture"], told["precision"]) == ("model", "sdxl-shaped", "fp16")
    assert not (tmp_path / "cache").exists(), "only the index was read"
    refused = safelight("generate", "a red apple", "-m", "base", code=2).stderr
    assert "base not here" in refused and "--yes" in refused
    made = safelight(
        "generate", "a red apple", "-m", "base", "--yes", "--steps", "1", "--size", "64x64", "--json", "--seed", "1"
    )
    assert objects(made)[0]["model"] == "base"
    assert not list((tmp_path / "cache").rglob("*.bin")), "pickles are left where they are"
    asked = len(online.asked)
    safelight("models", "pull", "base")
    assert len(online.asked) == asked, "what is here is not asked for"
    states = objects(safelight("models", "verify", "base", "--json"))
    assert states and all(each["state"] == "ok" for each in states)

    (blob,) = {path.resolve() for path in (tmp_path / "cache").rglob("unet/*.safetensors")}
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    assert "damaged" in safelight("models", "verify", "base", code=1).stderr
    safelight("models", "pull", "base")
    safelight("models", "verify", "base")

    (freed,) = objects(safelight("models", "remove", "base", "--yes", "--json"))
    assert int(str(freed["bytes"])) > 10_000_000 and freed["entry_removed"]
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert "no entry 'base'" in safelight("models", "show", "base", code=2).stderr


def test_a_file_of_a_repository_is_told_by_its_header(online: Hub, tmp_path: Path) -> None:
    add_base()
    done = safelight("models", "add", "me/fast/sdxl_lightning_4step_unet.safetensors", "--base", "base", "--id", "fast")
    assert "4 steps" in done.stdout and not (tmp_path / "cache").exists()
    safelight("models", "pull", "fast")
    unets = [path for path in (tmp_path / "cache").rglob("*.safetensors") if "unet" in str(path)]
    assert [path.name for path in unets if path.is_symlink()] == ["sdxl_lightning_4step_unet.safetensors"]
    safelight("generate", "a red apple", "-m", "fast", "--size", "64x64")
    locked = safelight("generate", "a red apple", "-m", "fast", "--steps", "3", code=2).stderr
    assert "exactly 4 steps" in locked and "--override" in locked
    (made,) = objects(
        safelight("generate", "x", "-m", "fast", "--steps", "1", "--override", "--size", "64x64", "--json")
    )
    assert made["overrides"] == ["num_inference_steps"]


def test_what_another_entry_stands_on_is_not_removed_unasked(online: Hub, tmp_path: Path) -> None:
    add_base()
    safelight("models", "add", "me/fast/sdxl_lightning_4step_unet.safetensors", "--base", "base", "--id", "fast")
    safelight("models", "pull", "fast")
    assert "fast stands on base" in safelight("models", "remove", "base", code=2).stderr
    (freed,) = objects(safelight("models", "remove", "fast", "--yes", "--json"))
    left = [path.name for path in (tmp_path / "cache").rglob("*.safetensors")]
    assert freed["entry_removed"] and "model.fp16.safetensors" in left
    assert "sdxl_lightning_4step_unet.safetensors" not in left


def test_a_hub_that_cannot_be_reached_is_one_line_and_what_is_here_works(home: Path) -> None:
    told = safelight("models", "pull", "sdxl-base", "--yes", code=1, HF_HUB_OFFLINE="1").stderr
    assert "HF_HUB_OFFLINE" in told
    safelight("models", "list")


def test_a_licence_that_binds_is_told_before_the_download(served: Hub) -> None:
    told = safelight("models", "pull", "sdxl-turbo", code=2).stderr
    assert "non-commercial" in told.lower() and "--yes" in told


# ── mixing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_files_become_a_third_that_names_its_parents(tmp_path: Path) -> None:
    first, second = (tiny.single_file(tmp_path / f"{n}.safetensors", seed=n) for n in (1, 2))
    out = tmp_path / "mix.safetensors"
    (made,) = objects(safelight("models", "merge", first, second, "--weights", "0.7,0.3", "--out", out, "--json"))
    assert made["path"] == str(out) and made["bytes"] == out.stat().st_size
    from safetensors import safe_open

    with safe_open(out, framework="pt") as f:
        parents = json.loads(f.metadata()["safelight.merge"])
    assert "1.safetensors" in json.dumps(parents) and "0.7" in json.dumps(parents)
    assert "is there" in safelight("models", "merge", first, second, "--out", out, code=2).stderr


def test_a_mix_without_a_file_is_a_model_with_its_ratio(home: Path) -> None:
    safelight("models", "merge", "mini", "mini-lightning-4step-unet", "--weights", "0.25", "--id", "quarter")
    (shown,) = objects(safelight("models", "show", "quarter", "--json"))
    assert "0.75 mini + 0.25 mini-lightning-4step-unet" in str(shown["source"])
    (made,) = objects(safelight("generate", "a red apple", "-m", "quarter", "--steps", "2", "--json"))
    assert made["model"] == "quarter"
    safelight("models", "remove", "quarter", "--yes")
    assert "no entry" in safelight("models", "show", "quarter", code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("mini",), "no mix"),
        (("mini", "mini-lightning-4step-unet", "--weights", "x"), "weights must be a number, not 'x'"),
        (("mini", "mini-lightning-4step-unet", "--weights", "1,2,3"), "3 weights"),
        (("mini", "mini-lightning-4step-unet", "--blocks", "in99=1"), "no block is called"),
        (("mini", "mini-lightning-4step-unet", "--method", "magic"), "magic"),
        (("mini", "mini", "--method", "add-difference"), "add-difference takes three models, not 2"),
        (("a.safetensors", "b.safetensors", "--method", "add-difference", "--out", "c.safetensors"), "three models"),
        (("mini", "mini-lightning-4step-unet", "--dtype", "fp4"), "can't be written in 'fp4'"),
        (("mini", "mini-lightning-4step-unet", "--dtype", "fp16"), "--dtype is for a file"),
        (("mini", "sdxl-base"), "different architecture"),
        (("mini", "nothing"), "no model 'nothing'"),
    ],
)
def test_what_makes_no_mix_is_one_line(arguments: tuple[str, ...], told: str) -> None:
    assert told in safelight("models", "merge", *arguments, code=2).stderr


# ── what is broken, what came with it ───────────────────────────────────────────────────────────────────────────────


def test_an_entry_that_lost_what_it_stood_on_can_be_removed(tmp_path: Path, home: Path) -> None:
    safelight("models", "merge", "mini", "mini-lightning-4step-unet", "--id", "one")
    safelight("models", "merge", "one", "mini", "--id", "two")
    safelight("models", "remove", "one", "--yes")
    assert "model two: no model 'one'" in safelight("models", "list").stderr
    (told,) = objects(safelight("models", "remove", "two", "--json"))
    assert told["entry_removed"]
    assert safelight("models", "list").stderr == ""
    assert "no entry 'two'" in safelight("models", "remove", "two", code=2).stderr


def test_an_entry_with_the_id_of_another_kind_can_be_removed(home: Path) -> None:
    (home / "config").mkdir()
    scorer = 'title = "t"\nkind = "clip"\nfolder = "x"\nlicence = "x"\n'
    (home / "config" / "models.toml").write_text(f'[[scorer]]\nid = "mini"\n{scorer}')
    shown = safelight("models", "show", "mini", "--json")
    assert objects(shown)[0]["kind"] == "model" and "there is a model of that id" in shown.stderr
    assert "is taken out of" in safelight("models", "remove", "mini").stdout
    assert safelight("models", "list").stderr == ""


@pytest.mark.parametrize("yes", [(), ("--yes",)])
def test_what_came_with_it_is_not_removed(yes: tuple[str, ...]) -> None:
    assert "mini came with safelight" in safelight("models", "remove", "mini", *yes, code=2).stderr


@pytest.mark.parametrize("id", [(), ("mini",)])
def test_that_there_is_nothing_to_verify_is_told(id: tuple[str, ...]) -> None:
    (line,) = safelight("models", "verify", *id).stdout.splitlines()
    assert line.startswith("nothing to verify: ")
    done = safelight("models", "verify", *id, "--json")
    assert done.stdout == "" and "nothing to verify" in done.stderr


def test_a_file_of_ones_own_that_is_gone_is_not_said_to_be_fetched(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes((MINI / "style_lora" / "mini_pixel_lora.safetensors").read_bytes())
    safelight("models", "add", file, "--id", "mine")
    assert "nothing to verify" not in safelight("models", "verify", "mine").stdout
    file.unlink()
    for command in (("models", "verify", "mine"), ("generate", "x", "--lora", "mine")):
        told = safelight(*command, code=1).stderr
        assert "mine.safetensors" in told and "models.toml" in told and "pull" not in told


# ── scorers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_scorers_kind_is_told() -> None:
    (row,) = [line.split() for line in safelight("models", "list").stdout.splitlines() if "aesthetic-v2" in line]
    assert "aesthetic" in row
    shown = [line.split() for line in safelight("models", "show", "pickscore").stdout.splitlines()]
    assert ["kind", "preference"] in shown
    (told,) = objects(safelight("models", "show", "pickscore", "--json"))
    assert told["kind"] == "scorer" and told["scorer_kind"] == "preference"


# ── what is quick ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", [("list",), ("show", "mini"), ("add", MINI / "base", "--dry-run")])
def test_no_torch_is_imported_for_it(command: tuple[str | Path, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tui", "models", *map(str, command)],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "tui.models_commands" in imported
    assert not imported & {"torch", "diffusers", "transformers", "huggingface_hub", "textual", "httpx2", "numpy"}


def test_every_sampler_is_listed() -> None:
    rows = objects(safelight("generate", "x", "--scheduler", "list", "--json"))
    assert {"euler", "dpmpp_2m_karras", "lcm"} <= {row["name"] for row in rows}
    assert "dpmpp_2m_karras" in safelight("generate", "x", "--scheduler", "list").stdout
