"""Every id of the catalogue: pulled by its true repository and file names, loaded, run, with the scheduler it wants.

What is expected is written out here from shared/MODELS.md and the papers, never read from models.toml. The models are
tiny and random, the hub is on this machine; names, layouts, depths and everything that acts on them are the real ones.
"""

from __future__ import annotations

import math
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shelf_of_hub as shelf
import torch
from doing import do
from hub import Hub as LoopbackHub
from hub import blob_name
from PIL import Image
from shelf_of_hub import BASE, LIGHTNING, PIPELINE, SSD, TURBO, UNET, VEGA, VEGA_RT

from engines import catalogue, folders
from engines.catalogue import Catalogue
from engines.diffusion import device, origins, sampling
from engines.diffusion.loading import Loader
from engines.diffusion.previews import decode_tiny
from engines.diffusion.residency import Residency
from engines.entries import HubFile
from engines.events import Done, Event, Failed, Noted, Previewed
from engines.hub import cache as cache_of_hub
from engines.local import LocalEngine
from engines.options import Options
from engines.requests import Picture, Pull, Request
from engines.store import Store
from tui import draft
from tui.draft import Draft

MANY = 8
"Steps beyond which two are run in place of them."
FIELDS: dict[str, Any] = {"prompt": "a red apple on a table", "seed": "7", "size": "64x64"}

# ── what MODELS.md says ─────────────────────────────────────────────────────────────────────────────────────────────

SDXL: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
}
"The noise that SDXL was trained with."
NO_LEVELS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
KARRAS = NO_LEVELS | {"use_karras_sigmas": True}
DPM: dict[str, Any] = {
    "solver_order": 2,
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "lower_order_final": True,
    "final_sigmas_type": "zero",
    "thresholding": False,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
    "lambda_min_clipped": -math.inf,
    "variance_type": None,
    "use_flow_sigmas": False,
    "flow_shift": 1.0,
    "use_dynamic_shifting": False,
    "time_shift_type": "exponential",
}
"DPM++ of the second order, which leaves no noise at the end."


def euler(spacing: str, prediction: str = "epsilon") -> dict[str, Any]:
    return {
        **SDXL,
        **NO_LEVELS,
        "prediction_type": prediction,
        "timestep_spacing": spacing,
        "steps_offset": 1,
        "rescale_betas_zero_snr": False,
        "interpolation_type": "linear",
        "timestep_type": "discrete",
        "sigma_min": None,
        "sigma_max": None,
        "final_sigmas_type": "zero",
    }


EULER_ANCESTRAL = SDXL | {"timestep_spacing": "trailing", "steps_offset": 1, "rescale_betas_zero_snr": False}
DPM_2M_KARRAS = {
    **SDXL,
    **DPM,
    **KARRAS,
    "use_lu_lambdas": False,
    "euler_at_final": False,
    "rescale_betas_zero_snr": False,
    # Karras levels are spaced by themselves: these two are in the configuration and without effect
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
DPM_SDE_KARRAS = {**SDXL, **DPM, **KARRAS}
LCM = SDXL | {
    "original_inference_steps": 50,
    "timestep_scaling": 10.0,
    "set_alpha_to_one": True,
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "thresholding": False,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
    "rescale_betas_zero_snr": False,
    # LCM skips within its own fifty: without effect as well
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


def trailing(steps: int) -> list[int]:
    """arXiv:2305.08891, table 2: from the last timestep down in equal strides, the last of each stride."""
    return [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]


def leading(steps: int) -> list[int]:
    """The same table, with the offset of 1 that SDXL's configuration has."""
    return [i * (1000 // steps) + 1 for i in reversed(range(steps))]


def karras(steps: int) -> list[int]:
    """arXiv:2206.00364, equation 5 with ρ = 7, over the training's whole range; the timesteps nearest to the levels."""
    high, low = levels()[-1] ** (1 / 7), levels()[0] ** (1 / 7)
    wanted = [(high + i / (steps - 1) * (low - high)) ** 7 for i in range(steps)]
    return [round(float(np.interp(math.log(level), np.log(levels()), np.arange(1000)))) for level in wanted]


def lcm(steps: int) -> list[int]:
    """arXiv:2310.04378 skips within fifty steps of twenty timesteps each."""
    fifty = [20 * i - 1 for i in range(50, 0, -1)]
    return [fifty[math.floor(i * 50 / steps)] for i in range(steps)]


@cache
def levels() -> np.ndarray[Any, Any]:
    """σ = √((1 - ᾱ) / ᾱ) of the 1000 timesteps: β runs from 0.00085 to 0.012, evenly in its root."""
    kept = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    return np.sqrt((1 - kept) / kept)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Row:
    """What a model is to be run with, and what it is made of."""

    scheduler: str
    "The class in diffusers."
    config: dict[str, Any]
    "All of its arguments."
    spacing: Any
    "Steps → timesteps."
    steps: tuple[int, int]
    "What its makers name."
    guidance: tuple[float, float]
    "The same."
    default: tuple[int, float] | None = None
    "Steps and guidance where one number is named."
    size: tuple[int, int] = (1024, 1024)
    "The first one offered."
    negative: bool = False
    "Whether a negative prompt acts."
    only: tuple[int, ...] = ()
    "The timesteps of the default, as the paper or the card has them."
    files: dict[str, frozenset[str]] = field(default_factory=dict)
    "Repository → what of it is needed."
    unet: tuple[str, str] = ("", "")
    "Where the UNet in force comes from: repository, file."


EULER = "EulerDiscreteScheduler"
WHOLE = {BASE: PIPELINE | {"LICENSE.md"}}
WITHOUT_UNET = {BASE: PIPELINE - {UNET} | {"LICENSE.md"}}


def one(repo: str, file: str) -> dict[str, Any]:
    return {"files": {repo: frozenset({file})}, "unet": (repo, file)}


def lightning(steps: int, timesteps: tuple[int, ...], kind: str) -> Row:
    file = f"sdxl_lightning_{steps}step{kind and '_'}{kind}.safetensors"
    made: dict[str, Any] = one(LIGHTNING, file)
    if kind.startswith("unet"):
        made["files"] |= WITHOUT_UNET
    if kind == "lora":
        made = {"files": {LIGHTNING: frozenset({file}), **WHOLE}, "unet": (BASE, UNET)}
    config = euler("trailing", "sample" if kind == "unet_x0" else "epsilon")
    return Row(
        EULER, config, trailing, (steps, steps), (0, 1 if kind == "lora" else 0), (steps, 0.0), only=timesteps, **made
    )


TWO, FOUR, EIGHT = (999, 499), (999, 749, 499, 249), (999, 874, 749, 624, 499, 374, 249, 124)
MINI: dict[str, Any] = {"size": (128, 128)}
MODELS: dict[str, Row] = {
    "sdxl-lightning-1step-unet": lightning(1, (999,), "unet_x0"),
    "sdxl-lightning-2step-unet": lightning(2, TWO, "unet"),
    "sdxl-lightning-4step-unet": lightning(4, FOUR, "unet"),
    "sdxl-lightning-8step-unet": lightning(8, EIGHT, "unet"),
    "sdxl-base": Row(
        EULER, euler("leading"), leading, (25, 50), (5, 7.5), (30, 7.0), negative=True, files=WHOLE, unet=(BASE, UNET)
    ),
    "sdxl-lightning-2step-lora": lightning(2, TWO, "lora"),
    "sdxl-lightning-4step-lora": lightning(4, FOUR, "lora"),
    "sdxl-lightning-8step-lora": lightning(8, EIGHT, "lora"),
    "sdxl-lightning-2step": lightning(2, TWO, ""),
    "sdxl-lightning-4step": lightning(4, FOUR, ""),
    "sdxl-lightning-8step": lightning(8, EIGHT, ""),
    "sdxl-turbo": Row(
        "EulerAncestralDiscreteScheduler", EULER_ANCESTRAL, trailing, (1, 4), (0, 0), (1, 0.0), (512, 512),
        only=(999,), files={TURBO: PIPELINE | {"LICENSE.md"}}, unet=(TURBO, UNET),
    ),
    "juggernaut-xl": Row(
        "DPMSolverMultistepScheduler", DPM_2M_KARRAS, karras, (30, 40), (3, 7), None, (832, 1216), negative=True,
        **one("RunDiffusion/Juggernaut-XL-v9", "Juggernaut-XL_v9_RunDiffusionPhoto_v2.safetensors"),
    ),
    "juggernaut-xl-lightning": Row(
        "DPMSolverSinglestepScheduler", DPM_SDE_KARRAS, karras, (5, 7), (1.5, 2), negative=True,
        **one("RunDiffusion/Juggernaut-XL-Lightning", "Juggernaut_RunDiffusionPhoto2_Lightning_4Steps.safetensors"),
    ),
    "realvisxl": Row(
        "DPMSolverSinglestepScheduler", DPM_SDE_KARRAS, karras, (30, 50), (5, 7), negative=True,
        **one("SG161222/RealVisXL_V5.0", "RealVisXL_V5.0_fp16.safetensors"),
    ),
    "realvisxl-lightning": Row(
        "DPMSolverSinglestepScheduler", DPM_SDE_KARRAS, karras, (5, 5), (1, 2), negative=True,
        **one("SG161222/RealVisXL_V5.0_Lightning", "RealVisXL_V5.0_Lightning_fp16.safetensors"),
    ),
    "ssd-1b": Row(
        EULER, euler("leading"), leading, (25, 30), (9, 9), negative=True, files={SSD: PIPELINE}, unet=(SSD, UNET)
    ),
    "segmind-vega": Row(
        EULER, euler("leading"), leading, (25, 30), (9, 9), negative=True, files={VEGA: PIPELINE}, unet=(VEGA, UNET)
    ),
    "segmind-vega-rt": Row(
        "LCMScheduler", LCM, lcm, (2, 8), (0, 0), (4, 0.0), only=(999, 759, 499, 259),
        files={VEGA: PIPELINE, VEGA_RT: frozenset({"pytorch_lora_weights.safetensors"})}, unet=(VEGA, UNET),
    ),
    "mini": Row(EULER, euler("leading"), leading, (25, 25), (4.5, 4.5), negative=True, **MINI),
    "mini-lightning-4step-unet": Row(EULER, euler("trailing"), trailing, (4, 4), (0, 0), only=FOUR, **MINI),
    "mini-lightning-2step-lora": Row(EULER, euler("trailing"), trailing, (2, 2), (0, 0), only=TWO, **MINI),
    "mini-lightning-4step-lora": Row(EULER, euler("trailing"), trailing, (4, 4), (0, 0), only=FOUR, **MINI),
    "mini-lightning-8step-lora": Row(EULER, euler("trailing"), trailing, (8, 8), (0, 0), only=EIGHT, **MINI),
}  # fmt: skip
"In an order in which a UNet over sdxl-base comes before sdxl-base itself."

CLIP_FILES = frozenset(
    {
        "README.md", "config.json", "merges.txt", "model.safetensors", "preprocessor_config.json",
        "special_tokens_map.json", "tokenizer_config.json", "vocab.json",
    }
)  # fmt: skip
NETWORK = frozenset({"README.md", "config.json", "diffusion_pytorch_model.safetensors"})


@dataclass(frozen=True)
class Beside:
    """How something that is no model is used."""

    model: str
    "With which model."
    fields: dict[str, Any]
    "What is typed into the form for it."
    files: dict[str, frozenset[str]] = field(default_factory=dict)
    "As in Row."
    changes: bool = True
    "Whether the picture is another one."


def over_any(steps: int) -> Beside:
    """A Lightning LoRA over a fine-tune, whose own recipe it doesn't change."""
    name = f"lightning-{steps}step:1"
    typed = {"loras": (name,), "steps": str(steps), "guidance": "0", "scheduler": "euler_trailing"}
    return Beside("juggernaut-xl", typed, {LIGHTNING: frozenset({f"sdxl_lightning_{steps}step_lora.safetensors"})})


def judge(id: str, repo: str, files: frozenset[str] = CLIP_FILES) -> Beside:
    """A scorer, asked for by its id."""
    return Beside("sdxl-turbo", {"score": id}, {repo: files}, changes=False)


BESIDE: dict[str, Beside] = {
    "lightning-2step": over_any(2),
    "lightning-4step": over_any(4),
    "lightning-8step": over_any(8),
    "sdxl-vae-fp16-fix": Beside("sdxl-turbo", {"vae": "sdxl-vae-fp16-fix"}, {shelf.VAE: NETWORK}),
    "taesdxl": Beside("sdxl-lightning-4step", {}, {shelf.TAESD: NETWORK}, changes=False),
    "taesd-x4-upscaler": Beside("sdxl-turbo", {}, {shelf.TAESD_X4: NETWORK}, changes=False),
    "clip-vit-large-patch14": judge("clip-vit-large-patch14", shelf.CLIP),
    "clip-vit-base-patch16": judge("clip-vit-base-patch16", shelf.CLIP_BASE),
    "pickscore": judge("pickscore", shelf.PICKSCORE),
    "hpsv2": judge("hpsv2", shelf.HPS, CLIP_FILES - {"merges.txt"} | {"tokenizer.json"}),
    "aesthetic-v2": judge("aesthetic-v2", shelf.AESTHETIC),
    "mini-pixel": Beside("mini-lightning-4step-unet", {"loras": ("mini-pixel:1",)}),
    "mini-night": Beside("mini-lightning-4step-unet", {"prompt": "a red apple on a table, mini-night"}),
    "mini-taesd": Beside("mini-lightning-4step-unet", {}, changes=False),
    "mini-clip": Beside("mini-lightning-4step-unet", {"score": "mini-clip"}, changes=False),
}


# ── a user, a hub and what happens between them ─────────────────────────────────────────────────────────────────────


Files = set[tuple[str, str]]
"(repository, file) of each."


@dataclass
class Pulled:
    """What came of one pull."""

    before: Files
    "What was in the cache."
    came: Files
    "What is there since."
    requests: list[tuple[str, str]]
    "What the hub was asked for, contents only."
    events: list[Event]

    def check(self, wanted: Files, hub: LoopbackHub) -> None:
        """All that is wanted came, nothing else, and no contents that were here."""
        assert self.came == wanted - self.before
        names = [blob_name(file, hub.repos[repo][file]) for repo, file in self.requests]
        assert set(self.requests) <= self.came and len(set(names)) == len(names)
        # both tokenizers have one vocabulary
        assert {file for _, file in self.came - set(self.requests)} <= {
            "tokenizer_2/merges.txt", "tokenizer_2/vocab.json"
        }  # fmt: skip


@dataclass
class Ran:
    """What came of one picture."""

    picture: Picture
    events: list[Event]
    scheduler: Any
    "The object that drove it."
    asked: int
    "Requests that reached the hub meanwhile."
    connections: list[Any]
    "Connections that anything tried to make."

    @property
    def pixels(self) -> bytes:
        with Image.open(self.picture.path) as image:
            return image.tobytes()


class User:
    """Somebody with an empty cache, a hub and an engine."""

    def __init__(self, hub: LoopbackHub, known: Catalogue, home: Path) -> None:
        self.hub = hub
        self.catalogue = known
        self.schedulers: list[Any] = []
        self.connections: list[Any] = []
        self.pulled: dict[str, Pulled] = {}
        where = folders.Folders(home / "config", home / "data", home / "cache", home / "pictures")
        self.store = Store(where.store)
        self.engine = LocalEngine(known, where, Options(where.pictures, device="cpu", threads=1), self.store)

    def close(self) -> None:
        self.engine.close()
        self.store.close()

    def do(self, request: Request) -> list[Event]:
        """The events of one job."""
        return do(self.engine, request)

    def pull(self, id: str) -> Pulled:
        """Fetches an entry, once."""
        if id not in self.pulled:
            before, asked = here(), len(self.hub.fetched())
            events = self.do(Pull(id))
            assert isinstance(events[-1], Done), events[-1]
            paths = [each.path.strip("/").partition("/resolve/") for each in self.hub.fetched()[asked:]]
            requests = [(repo, rest.partition("/")[2]) for repo, _, rest in paths]
            self.pulled[id] = Pulled(before, here() - before, requests, events)
        return self.pulled[id]

    def run(self, id: str, **typed: Any) -> Ran:
        """One picture, asked for as a person does; steps beyond MANY are cut to two."""
        recipe = self.catalogue.model(id).recipe
        fewer = {} if recipe.num_inference_steps <= MANY else {"steps": "2"}
        asked, connections = len(self.hub.asked), len(self.connections)
        (request,) = draft.read(Draft(model=id, **FIELDS | fewer | typed), self.catalogue).requests
        self.schedulers.clear()
        events = self.do(request)
        assert isinstance(events[-1], Done), events[-1]
        (scheduler,) = self.schedulers
        (picture,) = events[-1].pictures
        return Ran(picture, events, scheduler, len(self.hub.asked) - asked, self.connections[connections:])


def here() -> Files:
    """What programs find in the hub's cache."""
    found: Files = set()
    for repo in cache_of_hub().glob("models--*"):
        name = repo.name.removeprefix("models--").replace("--", "/")
        for snapshot in repo.glob("snapshots/*"):
            found |= {(name, p.relative_to(snapshot).as_posix()) for p in snapshot.rglob("*") if p.is_file()}
    return found


def as_served(known: Catalogue, hub: LoopbackHub) -> Catalogue:
    """The catalogue with the hashes and sizes of what this hub has, in place of the real ones."""

    def told(entry: Any) -> Any:
        name = "file" if hasattr(entry, "file") else "source"
        source = getattr(entry, name)
        if isinstance(getattr(source, "file", None), HubFile):
            return replace(entry, **{name: replace(source, file=file(source.file))})
        return replace(entry, **{name: file(source)}) if isinstance(source, HubFile) else entry

    def file(one: HubFile) -> HubFile:
        data = hub.repos[one.repo][one.file]
        return replace(one, sha256=one.sha256 and blob_name(one.file, data), bytes=len(data))

    kinds = ("models", "adapters", "embeddings", "vaes", "preview_decoders", "scorers")
    return replace(known, **{kind: {id: told(e) for id, e in getattr(known, kind).items()} for kind in kinds})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("every-model")
    yield place
    shutil.rmtree(place, ignore_errors=True)  # hundreds of megabytes


@pytest.fixture(scope="module")
def hub(place: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(shelf.repositories(place)) as running:
        running.revisions = dict(shelf.REVISIONS)
        yield running


@pytest.fixture(scope="module")
def online(hub: LoopbackHub, place: Path) -> Iterator[pytest.MonkeyPatch]:
    """The hub is reachable, for us and for any library that would like to ask it."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HUB_CACHE", str(place / "cache"))
        yield patch


@pytest.fixture(scope="module")
def user(hub: LoopbackHub, place: Path, online: pytest.MonkeyPatch) -> Iterator[User]:
    somebody = User(hub, as_served(catalogue.load(), hub), place / "home")
    make, connect = sampling.make_scheduler, socket.socket.connect

    def watched(*given: Any) -> Any:
        somebody.schedulers.append(make(*given))
        return somebody.schedulers[-1]

    def counted(self: socket.socket, address: Any) -> None:
        somebody.connections.append(address)
        connect(self, address)

    online.setattr(sampling, "make_scheduler", watched)
    online.setattr(socket.socket, "connect", counted)
    yield somebody
    somebody.close()


@pytest.fixture(scope="module")
def ran(user: User) -> Any:
    """Id → what came of running the model, once."""

    @cache
    def run(id: str) -> Ran:
        user.pull(id)
        return user.run(id)

    return run


def listed(files: dict[str, frozenset[str]]) -> Files:
    return {(repo, name) for repo, names in files.items() for name in names}


# ── the tests ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_entry_of_the_catalogue_is_in_the_tables() -> None:
    known = catalogue.load()
    assert known.models.keys() == MODELS.keys()
    finishing = known.upscalers | known.face_restorers | known.face_detectors  # tests/test_finishing_hub.py has them
    assert {entry.id for entry in known.entries()} - known.models.keys() - finishing.keys() == BESIDE.keys()


@pytest.mark.parametrize("id", MODELS)
def test_a_model_is_pulled_by_its_true_names_and_nothing_else_is(user: User, hub: LoopbackHub, id: str) -> None:
    wanted = listed(MODELS[id].files)
    assert wanted <= {(repo, name) for repo, files in hub.repos.items() for name in files}
    user.pull(id).check(wanted, hub)
    assert not user.catalogue.missing(user.catalogue.model(id))


def test_what_is_here_is_not_fetched_again(
    user: User, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over an empty cache: a UNet spares the base's, a second one brings itself only, a LoRA then brings the rest."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(user, "pulled", {})
    unet, another, lora = (f"sdxl_lightning_{name}.safetensors" for name in ("4step_unet", "8step_unet", "4step_lora"))
    known = user.catalogue
    assert user.pull("sdxl-lightning-4step-unet").came == {*listed(WITHOUT_UNET), (LIGHTNING, unet)}
    assert not known.missing(known.model("sdxl-lightning-4step-unet")) and known.missing(known.model("sdxl-base"))
    assert user.pull("sdxl-lightning-8step-unet").came == {(LIGHTNING, another)}
    assert user.pull("sdxl-lightning-4step-lora").came == {(LIGHTNING, lora), (BASE, UNET)}
    assert not known.missing(known.model("sdxl-base"))
    user.pulled.clear()
    for id in ("sdxl-base", "lightning-4step", "sdxl-lightning-4step-unet"):
        assert user.pull(id).came == set() and user.pull(id).requests == []
    assert user.pull("sdxl-turbo").came == listed(MODELS["sdxl-turbo"].files)


@pytest.mark.parametrize("id", ["sdxl-lightning-4step-unet", "juggernaut-xl", "lightning-4step"])
def test_a_file_that_is_not_the_catalogues_is_refused(
    user: User, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id: str
) -> None:
    """The catalogue as it is shipped knows the real files' hashes, and this hub has others under their names."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    user.engine.catalogue = catalogue.load()
    fetched = len(hub.fetched())
    try:
        events = user.do(Pull(id))
    finally:
        user.engine.catalogue = user.catalogue
    assert isinstance(events[-1], Failed)
    assert "than the catalogue knows" in events[-1].message and "\n" not in events[-1].message and events[-1].hint
    assert len(hub.fetched()) == fetched and not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("id", MODELS)
def test_a_model_draws_without_asking_anyone(user: User, hub: LoopbackHub, ran: Any, id: str) -> None:
    was = ran(id)
    assert not was.asked and not was.connections
    assert not [e for e in was.events if isinstance(e, Noted) and e.level == "warning"]
    picture = was.picture
    assert (picture.width, picture.height) == (64, 64) and Path(picture.path).is_file()
    assert len(set(was.pixels)) > 8, "an even area"
    repo, file = MODELS[id].unet
    if repo:
        assert picture.made_with["unet_sha256"] == blob_name(file, hub.repos[repo][file])[:16]
    assert {"unet_sha256", "vae_sha256"} <= picture.made_with.keys() and "" not in picture.made_with.values()


@pytest.mark.parametrize("id", MODELS)
def test_a_models_scheduler_is_the_one_that_its_makers_name(ran: Any, id: str) -> None:
    row, scheduler = MODELS[id], ran(id).scheduler
    assert type(scheduler).__name__ == row.scheduler
    assert {k: v for k, v in scheduler.config.items() if not k.startswith("_")} == row.config


@pytest.mark.parametrize("id", MODELS)
def test_a_models_recipe_is_its_makers(user: User, ran: Any, id: str) -> None:
    """Steps, guidance, size and the very timesteps and noise levels that follow from them."""
    row, scheduler = MODELS[id], ran(id).scheduler
    (request,) = draft.read(Draft(prompt="x", model=id), user.catalogue).requests
    steps = request.num_inference_steps
    assert row.steps[0] <= steps <= row.steps[1]
    assert row.guidance[0] <= request.guidance_scale <= row.guidance[1]
    assert row.default in (None, (steps, request.guidance_scale))
    assert (request.guidance_scale > 1) == row.negative
    assert (request.width, request.height) == row.size

    scheduler.set_timesteps(steps)
    timesteps = [round(t) for t in scheduler.timesteps.tolist()]
    # Karras's levels lie between timesteps: which one is nearer may hang on the last digit
    assert np.abs(np.subtract(timesteps, row.spacing(steps))).max() <= (row.spacing is karras)
    assert row.only in ((), tuple(timesteps))
    if row.spacing is lcm:
        return
    if row.spacing is karras:
        high, low = levels()[-1] ** (1 / 7), levels()[0] ** (1 / 7)
        wanted = [(high + i / (steps - 1) * (low - high)) ** 7 for i in range(steps)]
    else:
        wanted = [levels()[t] for t in timesteps]
    np.testing.assert_allclose(scheduler.sigmas.numpy(), [*wanted, 0], rtol=1e-3)


@pytest.mark.parametrize("id", MODELS)
def test_a_recipe_alone_needs_no_excuse(user: User, id: str) -> None:
    assert draft.read(Draft(prompt="x", model=id), user.catalogue, look=False).notes == ()


def test_a_distilled_repositorys_own_scheduler_is_not_believed(user: User, ran: Any) -> None:
    ran("sdxl-turbo")
    known = user.catalogue
    said = origins.of(known, known.model("sdxl-turbo")).scheduler_config
    assert said == shelf.MISLEADING
    assert ran("sdxl-turbo").scheduler.config.timestep_spacing == "trailing"


@pytest.mark.parametrize("id", BESIDE)
def test_what_stands_beside_the_models_is_pulled_and_used(
    user: User, hub: LoopbackHub, ran: Any, tmp_path: Path, id: str
) -> None:
    how = BESIDE[id]
    plain = ran(how.model)
    user.pull(id).check(listed(how.files), hub)
    was = user.run(how.model, **how.fields)
    assert not was.asked and not was.connections
    if "steps" not in how.fields:
        assert (was.pixels != plain.pixels) == how.changes
    made_with = was.picture.made_with
    if how.fields.get("loras"):
        assert any(name.startswith("lora ") and value for name, value in made_with.items())
        assert any(e.text.endswith("100 %") or "100 % of its" in e.text for e in was.events if isinstance(e, Noted))
    if "vae" in how.fields:
        name = "diffusion_pytorch_model.safetensors"
        assert made_with["vae_sha256"] == blob_name(name, hub.repos[shelf.VAE][name])[:16]
    if id == "taesd-x4-upscaler":
        # no model here draws the upscaler's latents: it is loaded as a preview decoder is, and decodes some
        cpu = device.choose("cpu")
        loader = Loader(user.catalogue, cpu, Residency(1 << 30), tmp_path)
        decoder = loader._tiny(user.catalogue.preview_decoders[id], torch.float32)
        assert decode_tiny(decoder, torch.zeros(1, 4, 8, 6)).shape == (1, 3, 32, 24)
    if "score" in how.fields:
        assert math.isfinite(was.picture.scores[id]) and id not in plain.picture.scores
    if id in ("taesdxl", "mini-taesd"):
        assert any(isinstance(e, Previewed) for e in was.events)
        assert id == "mini-taesd" or not any(isinstance(e, Previewed) for e in plain.events)
