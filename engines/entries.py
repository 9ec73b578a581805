"""What a catalogue's entries are: models, LoRAs, embeddings, VAEs, preview decoders, scorers, upscalers, face restorers
and face detectors, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from engines import hub
from engines.blocks import Formula
from engines.errors import InvalidRequest

PREDICTIONS = ("epsilon", "v_prediction", "sample")
"What a UNet may have been trained to predict, as diffusers names it."

SCORER_KINDS = ("clip", "preference", "aesthetic")
"How a scorer makes its number; engines.diffusion.scoring says what each is."

UPSCALER_KINDS = ("net", "diffusion")
"How an upscaler works: a network in one go, or a diffusion model in steps."

Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a model wants to be run with; every setting that the user leaves out comes from here."""

    num_inference_steps: int
    "Denoising steps."
    guidance_scale: float
    "Classifier-free guidance; at 1 and below it is off, and so is the negative prompt."
    scheduler: str
    "A name from engines.schedulers."
    sizes: tuple[Size, ...]
    "(width, height) in pixels that the model was trained for; the first is the default."
    guidance_rescale: float = 0.0
    "0 … 1."
    timestep_spacing: str | None = None
    "leading, trailing or linspace; None leaves the model's own configuration."
    prediction_type: str | None = None
    "epsilon, v_prediction or sample; None leaves the model's own configuration."
    rescale_betas_zero_snr: bool | None = None
    "Whether the last training step has no signal left (arXiv:2305.08891); None leaves the model's own configuration."
    fixed_steps: bool = False
    "A distilled model that was made for exactly this number of steps."
    steps_range: tuple[int, int] | None = None
    "(least, most) steps that its makers name; beyond them a note is given."
    guidance_range: tuple[float, float] | None = None
    "(least, most) guidance_scale that its makers name; beyond them a note is given."

    @property
    def size(self) -> Size:
        """The default (width, height) in pixels."""
        return self.sizes[0]


@dataclass(frozen=True, slots=True)
class Local:
    """A file on this machine."""

    path: Path
    "Absolute."

    @property
    def name(self) -> str:
        """What people call it."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository on the hub."""

    repo: str
    "ORG/NAME."
    file: str
    "Its path in the repository."
    revision: str = "main"
    "A branch, a tag or a commit."
    sha256: str = ""
    "What it must be; empty takes the hub's word."
    bytes: int = 0
    "Its size; 0 if the catalogue doesn't say."

    @property
    def path(self) -> Path:
        """Where it lies in the hub's cache, or would."""
        return hub.snapshot(self.repo, self.revision) / self.file

    @property
    def name(self) -> str:
        """What people call it."""
        return self.file.rpartition("/")[2]


File: TypeAlias = Local | HubFile


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder on this machine in diffusers' or transformers' layout."""

    path: Path
    "Absolute."
    variant: str | None = None
    "For instance fp16, where files are named diffusion_pytorch_model.fp16.safetensors."


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository on the hub in diffusers' or transformers' layout."""

    repo: str
    "ORG/NAME."
    variant: str | None = None
    "As in Folder."
    revision: str = "main"
    "A branch, a tag or a commit."

    @property
    def path(self) -> Path:
        """Where its files lie in the hub's cache, or would."""
        return hub.snapshot(self.repo, self.revision)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One .safetensors file with a UNet, and most often text encoders and a VAE."""

    file: File
    "Where it is."
    like: str = ""
    "The id of a model whose configurations and tokenizers it has; empty for SDXL's own, which are shipped."


@dataclass(frozen=True, slots=True)
class UnetOver:
    """A UNet's state dict in one file; all else is another model's."""

    base: str
    "The id of that model."
    file: File
    "A .safetensors file."


@dataclass(frozen=True, slots=True)
class LoraOver:
    """A LoRA that makes another model out of a base."""

    base: str
    "The id of that model."
    file: File
    "A .safetensors file."
    weight: float = 1.0
    "How strongly it is added."


@dataclass(frozen=True, slots=True)
class Parent:
    """One of the models that a merge is made of."""

    model: str
    "Its id."
    weight: float
    "Its share."


@dataclass(frozen=True, slots=True)
class Merged:
    """A mix of two or three models of one architecture, made in memory when it is loaded."""

    parents: tuple[Parent, ...]
    "The first gives the configuration and the tokenizers."
    method: str = "weighted-sum"
    "One of engines.blocks.METHODS; add-difference is the first + weight of the second · (second − third)."
    blocks: tuple[tuple[str, float], ...] = ()
    "(block, share of the second parent) that override its weight there; names as in engines.blocks."

    @property
    def formula(self) -> Formula:
        """What it is mixed by."""
        return Formula(self.method, tuple(parent.weight for parent in self.parents), self.blocks)

    @property
    def told(self) -> str:
        """For people, in one line: 'weighted-sum of 0.7 mini + 0.3 other, in4 0.5'."""
        shares = " + ".join(f"{parent.weight:g} {parent.model}" for parent in self.parents)
        return ", ".join([f"{self.method} of {shares}", *(f"{block} {share:g}" for block, share in self.blocks)])


Rooted: TypeAlias = Folder | Hub | Checkpoint | Merged
"Where a chain of models ends: a source that stands on no other's configuration."
Source: TypeAlias = Folder | Hub | Checkpoint | UnetOver | LoraOver | Merged


@dataclass(frozen=True, slots=True)
class Model:
    """A diffusion model that a user can name."""

    id: str
    "What the command line and the store call it."
    title: str
    "What people call it."
    family: str
    "Models of one family have one architecture: LoRAs, embeddings and merges fit within it."
    source: Source
    "Where its weights are."
    recipe: Recipe
    "What it wants to be run with."
    licence: str
    "SPDX name where there is one."
    rank: int = 0
    "Which model is taken when none is named: the highest rank that is on this machine."
    about: str = ""
    "One sentence for the picker."
    latents: str = ""
    "Whose latents it draws, for VAEs and preview decoders; empty for its family's own."
    bytes: int = 0
    "What has to be downloaded, without what it stands on; 0 if the catalogue doesn't say."
    unet_bytes: int = 0
    "How much of that is its UNet, which isn't fetched where another takes its place."
    notice: str = ""
    "One sentence that is told before its first download: a licence that binds."
    card: str = ""
    "The address of its card."
    vae: str = ""
    "The id of a VAE to decode with instead of its own."

    @property
    def space(self) -> str:
        """The name of its latent space."""
        return self.latents or self.family

    def mix(self) -> Merged:
        """What it is mixed of. Raises InvalidRequest if it is no mix."""
        if isinstance(self.source, Merged):
            return self.source
        raise InvalidRequest(
            f"{self.id} is not mixed of models, so that it has no ratio",
            "leave the mix out, or make a model that is: safelight models merge",
            "mix",
        )

    def mixed(self, weights: tuple[float, ...]) -> Model:
        """The model with other weights of its parents, one each; as it is for none.

        Raises:
            InvalidRequest: it is no mix, or can't be mixed by these.
        """
        if not weights:
            return self
        source = self.mix()
        if len(weights) != len(source.parents):
            raise InvalidRequest(
                f"{self.id} is mixed of {len(source.parents)} models, and the mix has {len(weights)} weights",
                "give one for each",
                "mix",
            )
        parents = tuple(replace(p, weight=weight) for p, weight in zip(source.parents, weights, strict=True))
        source = replace(source, parents=parents)
        try:
            source.formula  # noqa: B018 raises if it makes no mix
        except InvalidRequest as e:
            raise InvalidRequest(e.message, e.hint, "mix") from None
        return replace(self, source=source)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA that can be added to any model of its family."""

    id: str
    "What --lora calls it."
    title: str
    "What people call it."
    family: str
    "Whose models it fits."
    file: File
    "A .safetensors file."
    licence: str
    "SPDX name where there is one."
    words: str = ""
    "Words that it was trained with, to be written into the prompt."
    notice: str = ""
    "As in Model."


@dataclass(frozen=True, slots=True)
class Embedding:
    """A textual inversion (arXiv:2208.01618): a word of its own for the prompt."""

    id: str
    "The word."
    title: str
    "What people call it."
    family: str
    "Whose models it fits."
    file: File
    "A .safetensors file with clip_l and clip_g."
    licence: str
    "SPDX name where there is one."


@dataclass(frozen=True, slots=True)
class Vae:
    """A VAE that can take the place of a model's own."""

    id: str
    "What --vae calls it."
    title: str
    "What people call it."
    latents: str
    "Whose latents it decodes."
    source: Folder | Hub | Local | HubFile
    "A folder in diffusers' layout, or one file."
    licence: str
    "SPDX name where there is one."
    bytes: int = 0
    "As in Model."


@dataclass(frozen=True, slots=True)
class PreviewDecoder:
    """A small decoder that turns a latent space into preview pixels (an AutoencoderTiny)."""

    id: str
    "Its name."
    family: str
    "Whose latents it decodes."
    source: Folder | Hub
    "A folder in diffusers' layout."
    licence: str = ""
    "SPDX name where there is one."


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model that holds a picture against a text."""

    id: str
    "What --score calls it."
    title: str
    "What people call it."
    kind: str
    "How the number is made: one of SCORER_KINDS."
    source: Folder | Hub
    "A folder in transformers' layout."
    licence: str
    "SPDX name where there is one."
    rank: int = 0
    "Which is taken when none is named: the highest rank that is on this machine, of kind clip if there is one."
    bytes: int = 0
    "As in Model."

    @property
    def reads(self) -> bool:
        """Whether it holds the picture against a text; else it looks at the picture alone."""
        return self.kind != "aesthetic"


@dataclass(frozen=True, slots=True)
class Upscaler:
    """What enlarges pictures."""

    id: str
    "What --upscale calls it."
    title: str
    "What people call it."
    kind: str
    "One of UPSCALER_KINDS."
    source: Folder | Hub | Local | HubFile
    "A network's file, or a diffusion model's folder in diffusers' layout."
    scale: int
    "Times as wide and high."
    licence: str
    "SPDX name where there is one."
    rank: int = 0
    "Which one is taken when none is named: the highest rank that is on this machine."
    about: str = ""
    "As in Model."
    bytes: int = 0
    "As in Model."
    weak: Local | HubFile | None = None
    "The file of its pair, which leaves noise where this one takes it away."
    notice: str = ""
    "As in Model."
    card: str = ""
    "As in Model."


@dataclass(frozen=True, slots=True)
class FaceRestorer:
    """What draws faces anew (GFPGANv1Clean, or CodeFormer)."""

    id: str
    "What --restore-faces calls it."
    title: str
    "What people call it."
    file: File
    "A .pth file with a pinned hash, or a .safetensors file."
    licence: str
    "SPDX name where there is one."
    rank: int = 0
    "As in Upscaler."
    about: str = ""
    "As in Model."
    notice: str = ""
    "As in Model."
    bytes: int = 0
    "As in Model."
    card: str = ""
    "As in Model."


@dataclass(frozen=True, slots=True)
class FaceDetector:
    """What finds faces (YuNet)."""

    id: str
    "Its name."
    title: str
    "What people call it."
    file: File
    "An .onnx file."
    licence: str
    "SPDX name where there is one."
    rank: int = 0
    "As in Upscaler."


Entry: TypeAlias = Model | Adapter | Embedding | Vae | PreviewDecoder | Scorer | Upscaler | FaceRestorer | FaceDetector
"Anything that the catalogue lists."
