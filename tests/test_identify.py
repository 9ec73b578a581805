"""What a file, a folder or a repository is, and the entry that is proposed for it."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tiny

from engines import headers, hints, identify, keys, proposing, tables
from engines.errors import CatalogueError, LoadError
from engines.proposing import Place

MINI = Path(identify.__file__).parent / "mini"


def test_no_torch_is_imported() -> None:
    code = "import sys, engines.scanning, engines.proposing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("build", "architecture"),
    [
        (tiny.sd1_file, "sd1"),
        (tiny.sd2_file, "sd2"),
        (tiny.refiner_file, "sdxl-refiner"),
        (tiny.inpainting_file, "sdxl-inpainting"),
    ],
)
def test_what_can_not_be_drawn_with_is_named_and_refused(build: Any, architecture: str, tmp_path: Path) -> None:
    found = identify.file(build(tmp_path / "model.safetensors"))
    assert (found.kind, found.architecture, found.supported) == ("model", architecture, False)
    with pytest.raises(LoadError, match="safelight draws with SDXL models"):
        proposing.entry(found, Place(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("architecture", ["sdxl", "ssd-1b", "segmind-vega"])
def test_depths_tell_sdxl_from_its_descendants(architecture: str, tmp_path: Path) -> None:
    found = identify.file(tiny.single_file(tmp_path / "model.safetensors", architecture=architecture, true=True))
    assert (found.kind, found.architecture, found.supported, found.precision) == ("model", architecture, True, "fp16")
    assert "base recipe assumed" in found.reasons[0]


@pytest.mark.parametrize("spelling", ["kohya", "kohya-diffusers", "peft", "diffusers"])
@pytest.mark.parametrize(("architecture", "width"), [("sdxl", 2048), ("sd1", 768), ("sd2", 1024)])
def test_a_lora_shows_its_architecture_in_every_spelling(
    spelling: str, architecture: str, width: int, tmp_path: Path
) -> None:
    place = tiny.lora(tmp_path / "l.safetensors", spelling, architecture=architecture, true=True, only=r"\.0\.attn2")
    found = identify.file(place)
    assert (found.kind, found.architecture, found.width) == ("lora", architecture, width)
    assert found.supported is (architecture == "sdxl")


@pytest.mark.parametrize("spelling", ["kohya", "kohya-diffusers", "peft", "diffusers"])
@pytest.mark.parametrize("base", ["diffusers", "ldm", "bare-ldm"])
def test_all_of_a_lora_fits_its_base_whatever_the_names(spelling: str, base: str) -> None:
    lora = headers.read(tiny.shared(tiny.lora, spelling=spelling))
    fit = keys.fits(lora.shapes, headers.read(tiny.shared(tiny.unet_file, keys=base)).shapes)
    assert (fit.matched, fit.total, fit.missing, fit.mismatched) == (722, 722, (), ())


def test_the_fusing_code_counts_the_same_layers() -> None:
    from engines.diffusion import updates

    for spelling in ("kohya", "kohya-diffusers", "peft", "diffusers"):
        place = tiny.shared(tiny.lora, spelling=spelling, text=True)
        ours, theirs = keys.layers(headers.read(place).shapes), updates.look(place).parts
        assert {part: set(names) for part, names in ours.items()} == {p: set(n) for p, n in theirs.items()}


def test_a_lora_of_another_width_is_told_with_both_shapes() -> None:
    lora = headers.read(MINI / "style_lora" / "mini_pixel_lora.safetensors")
    fit = keys.fits(lora.shapes, headers.read(tiny.shared(tiny.unet_file)).shapes)
    assert fit.percent < 100
    assert fit.mismatched[0][1] != fit.mismatched[0][2]


@pytest.mark.parametrize(
    ("name", "family", "steps"),
    [
        ("sdxl_lightning_4step_unet", "lightning", 4),
        ("Hyper-SDXL-8steps-lora", "hyper", 8),
        ("dreamshaperXL_lightningDPMSDE", "lightning", None),
        ("sd_xl_turbo_1.0_fp16", "turbo", None),
        ("juggernautXL_v9Rdphoto2Lightning", "lightning", None),
        ("dmd2_sdxl_4step_lora", "dmd2", 4),
        ("turbodiesel", "", None),
        ("hyperrealism_v3", "", None),
        ("HyperRealism", "", None),
        ("photo_30steps", "", None),
    ],
)
def test_names_tell_a_distillation_by_whole_words(name: str, family: str, steps: int | None) -> None:
    found = hints.find(name, (), {})
    assert (found.distilled, found.steps) == (family, steps)
    assert bool(found.reasons) is bool(family)


def test_metadata_goes_before_markers_and_markers_before_names() -> None:
    assert hints.find("noobaiXL_Vpred", (), {}).prediction_type == "v_prediction"
    assert hints.find("noobaiXL_Vpred", (), {"modelspec.prediction_type": "epsilon"}).prediction_type == "epsilon"
    marked = hints.find("model", ("v_pred", "ztsnr"), {})
    assert (marked.prediction_type, marked.zero_snr) == ("v_prediction", True)
    assert "marker" in marked.reasons[0]
    assert hints.find("sdxl_lightning_1step_unet_x0", (), {}).prediction_type == "sample"


def test_folders_are_told(tmp_path: Path) -> None:
    found = identify.folder(tiny.shared(tiny.folder, variant="fp16"))
    assert (found.kind, found.architecture, found.variant, found.width) == ("model", "sdxl-shaped", "fp16", 128)
    assert identify.folder(tiny.taesd_folder(tmp_path / "taesdxl")).kind == "preview_decoder"
    for name, kind in (("clip", "clip"), ("PickScore_v1", "preference"), ("HPSv2-hf", "preference")):
        found = identify.folder(tiny.clip_folder(tmp_path / name))
        assert (found.kind, found.architecture) == ("scorer", kind)
        assert f'kind = "{kind}"' in proposing.entry(found, Place(tmp_path / name))
    found = identify.folder(tiny.aesthetic_folder(tmp_path / "predictor"))
    assert (found.kind, found.architecture, found.supported) == ("scorer", "aesthetic", True)
    found = identify.folder(tiny.taesd_folder(tmp_path / "taesd-x4", levels=3))
    assert (found.kind, found.architecture) == ("preview_decoder", "sd-x4-upscaler")
    assert identify.folder(tiny.vae_folder(tmp_path / "vae")).kind == "vae"


@pytest.mark.parametrize("network", ["AutoencoderTiny", "AutoencoderKL"])
@pytest.mark.parametrize("levels", [3, 4])
def test_a_decoder_of_sixteen_channels_is_no_stable_diffusions(network: str, levels: int) -> None:
    files = {"config.json": 1, "diffusion_pytorch_model.safetensors": 10}
    config = {"_class_name": network, "latent_channels": 16, "decoder_block_out_channels": [64] * levels}
    found = identify.listing(files, {"config.json": config}, "taef1")
    assert (found.architecture, found.supported) == ("flux", False) and "Flux" in found.why_not


def test_a_repository_is_told_from_its_index() -> None:
    files = {"model_index.json": 1, "unet/config.json": 1}
    for part in identify.COMPONENTS:
        stem = "model" if part.startswith("text") else "diffusion_pytorch_model"
        files |= {f"{part}/{stem}.safetensors": 20, f"{part}/{stem}.fp16.safetensors": 10}
    index = {"_class_name": "StableDiffusionXLPipeline", **{part: ["x", "y"] for part in identify.COMPONENTS}}
    configs = {"model_index.json": index, "unet/config.json": tiny.config("unet", true=True)}
    found = identify.listing(files, configs, "sdxl-turbo")
    assert (found.kind, found.architecture, found.variant, found.bytes) == ("model", "sdxl", "fp16", 40)
    assert found.hints.distilled == "turbo"
    toml = tomllib.loads(proposing.entry(found, Place(repo="stabilityai/sdxl-turbo")))
    model = tables.model(toml["model"][0], Path())
    assert (model.recipe.num_inference_steps, model.recipe.scheduler, model.recipe.size) == (1, "euler_a", (512, 512))
    with pytest.raises(LoadError, match=r"no model_index\.json"):
        identify.listing({"a.safetensors": 1}, {}, "org/name")


def test_every_proposal_is_an_entry_that_the_catalogue_reads(tmp_path: Path) -> None:
    for name, steps, scheduler in (
        ("model", 30, "euler"),
        ("realvisxlV50_v50LightningBakedvae", 6, "dpmpp_sde_karras"),
        ("sdxl_lightning_8step", 8, "euler"),
        ("some_lcm_xl", 4, "lcm"),
        ("noobai-xl-vpred", 28, "euler"),
    ):
        place = tiny.single_file(tmp_path / f"{name}.safetensors", true=True)
        read = tomllib.loads(proposing.entry(identify.file(place), Place(place)))["model"][0]
        model = tables.model(read, tmp_path)
        assert (model.recipe.num_inference_steps, model.recipe.scheduler) == (steps, scheduler)
        assert model.family == "sdxl"
    lora = tiny.lora(
        tmp_path / "style.safetensors", true=True, only="mid", metadata={"modelspec.title": 'A "b"\\\x1b', "x": ""}
    )
    read = tomllib.loads(proposing.entry(identify.file(lora), Place(lora)))["lora"][0]
    assert tables.adapter(read, tmp_path).title == 'A "b"\\'


def test_a_small_model_needs_its_family(tmp_path: Path) -> None:
    place = MINI / "lightning" / "mini_lightning_4step_unet.safetensors"
    with pytest.raises(CatalogueError, match="family"):
        proposing.entry(identify.file(place), Place(place))
    text = proposing.entry(identify.file(place), Place(place), family="mini", base="mini")
    model = tables.model(tomllib.loads(text)["model"][0], tmp_path)
    assert (model.recipe.num_inference_steps, model.recipe.fixed_steps) == (4, True)
    assert "# 4 steps: its name says Lightning 4-step" in text


def test_an_entry_goes_in_and_out_and_the_rest_stays(tmp_path: Path) -> None:
    place = tmp_path / "models.toml"
    text = "# mine\n\n[[lora]] # one\nid = 'a'\nnote = '''\n[[lora]]\n'''\nl = [\n  \"[[lora]]\", # }\n]\n\n# last\n"
    place.write_text(text)
    proposing.append(place, '# why\n[[model]]\nid = "m"\n\n[model.recipe]\nsteps = 1\n')
    assert place.read_text().startswith(text.rstrip())
    with pytest.raises(CatalogueError, match="already"):
        proposing.append(place, '[[model]]\nid = "m"\n')
    proposing.append(place, '[[lora]]\nid = "b"\n')
    proposing.drop(place, "m")
    assert [table["id"] for table in tomllib.loads(place.read_text())["lora"]] == ["a", "b"]
    assert "# why" not in place.read_text()
    proposing.drop(place, "b")
    assert place.read_text().rstrip() == text.rstrip()
    proposing.drop(place, "a")
    assert tomllib.loads(place.read_text()) == {}
    assert "# mine" in place.read_text() and "# last" in place.read_text()
    with pytest.raises(CatalogueError, match="no entry"):
        proposing.drop(place, "a")


def test_a_broken_file_of_the_user_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "models.toml"
    place.write_text("[[model]\n")
    with pytest.raises(CatalogueError, match=r"models\.toml"):
        proposing.append(place, '[[model]]\nid = "m"\n')
    assert place.read_text() == "[[model]\n"


def test_a_known_sha256_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    sha256 = "ab" * 32
    tiny.lora(blobs / sha256, only="mid")
    (tmp_path / "x.safetensors").symlink_to(blobs / sha256)
    found = identify.file(tmp_path / "x.safetensors", {sha256: "known-one"})
    assert (found.sha256, found.known) == (sha256, "known-one")
    assert found.reasons == ("its sha256 is that of known-one",)
    assert json.dumps(found.reasons)
