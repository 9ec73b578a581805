"""From origins to components: what is held already is used again, the rest is read, placed and dressed in LoRAs.

One way for all models, whatever their files are (`engines.diffusion.origins`). Nothing is fetched and no pickle is
opened.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from diffusers.models import AutoencoderTiny

from engines import planning
from engines.catalogue import Catalogue
from engines.diffusion import device as devices
from engines.diffusion import fusing, origins, placing
from engines.diffusion.conditioning import Conditioner, TextEncoders
from engines.diffusion.device import Device
from engines.diffusion.fusing import Dressed
from engines.diffusion.hashes import Hashes
from engines.diffusion.mixing import never
from engines.diffusion.origins import Origin, Origins
from engines.diffusion.residency import CPU, Place, Residency
from engines.diffusion.updates import Shelf
from engines.entries import Folder, Model, PreviewDecoder
from engines.errors import LoadError, Stopped
from engines.events import Loading, Noted
from engines.planning import Ask, Plan, Weights
from engines.presence import variant_here
from engines.requests import Generate, JobId

log = logging.getLogger(__name__)

_T = TypeVar("_T")
Progress: TypeAlias = Loading | Noted

READ_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError)
"What diffusers, transformers and safetensors raise on files that are missing, cut short or of another kind."
SHELF = 512 * 2**20
"Bytes of LoRA files that are remembered, so that another weight reads nothing."
KEPT_MIXES = 2
"Mixes at a ratio of a request's own that are held: the last, and the one before it, to go back and forth."
PREVIEW_NUMBERS = 2_500_000
"Values in TAESD's weights."


@dataclass(frozen=True, slots=True)
class Text:
    """Both text encoders, as they are held in memory."""

    conditioner: Conditioner
    "What encodes with them."
    dressed: tuple[Dressed, ...]
    "Each in the LoRAs that change it."

    @property
    def modules(self) -> tuple[Dressed, ...]:
        """What holds the weights, for whoever counts or moves them."""
        return self.dressed


@dataclass(frozen=True, slots=True)
class Denoiser:
    """The UNet, as it is held in memory."""

    dressed: Dressed
    "In its LoRAs."
    by_layer: bool
    "Its weights stay in main memory, and it can't be moved."

    def to(self, device: torch.device) -> None:
        """Moves it, unless it comes layer by layer."""
        if not self.by_layer:
            self.dressed.to(device)

    def parameters(self) -> Iterator[torch.Tensor]:
        """The weights, for whoever counts them."""
        return self.dressed.parameters()

    @property
    def beside(self) -> int:
        """Bytes that it takes besides."""
        return self.dressed.beside


@dataclass(frozen=True, slots=True)
class Components:
    """Everything that one picture needs, on its device."""

    model: Model
    "What was asked for."
    text: Text
    "Both text encoders behind one call."
    unet: Any
    "A UNet2DConditionModel in `dtype`."
    vae: Any
    "An AutoencoderKL in its own dtype."
    scheduler_config: dict[str, Any]
    "The model's scheduler_config.json."
    dtype: torch.dtype
    "What the denoiser computes in."
    preview: Any | None
    "An AutoencoderTiny for these latents, or None."
    blank_is_zeros: bool
    "Whether no negative prompt is zeros (`force_zeros_for_empty_prompt`); else it is the encoded empty text."
    unet_files: tuple[Path, ...]
    "The files that the UNet's weights come from, for their hash."
    vae_files: tuple[Path, ...]
    "And the VAE's."
    lora_files: tuple[Path, ...]
    "LoRAs that are added, for theirs."
    embeddings: dict[str, Path]
    "Those that prompts may name, by name in lower case."
    plan: Plan
    "How they share the memory that is there."
    text_key: Hashable
    "What Residency calls the text encoders, which may leave the device when they have encoded."
    unet_key: Hashable
    "And the denoiser, which may have to leave it for them."
    vae_key: Hashable
    "And the VAE."
    keys: frozenset[Hashable]
    "What of Residency this uses."


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to be loaded, and how it shares the memory."""

    model: Model
    "What was asked for."
    origins: Origins
    "Where its parts come from."
    dtype: torch.dtype
    "What the denoiser and the text encoders compute in."
    vae_dtype: torch.dtype
    "What the VAE computes in."
    decoder: PreviewDecoder | None
    "For previews."
    stack: fusing.Stack
    "LoRA files and weights, the model's own first."
    plan: Plan
    "How it shares the memory."
    keep: torch.device | None
    "Where LoRAs' originals are kept; None is beside the weights."
    slid: bool = False
    "Mixed at a ratio of the request's own."


class Loader:
    """Turns catalogue entries into components, through a Residency that shares what is equal."""

    def __init__(self, catalogue: Catalogue, device: Device, residency: Residency, cache: Path) -> None:
        self.catalogue = catalogue
        self.device = device
        self.residency = residency
        self.cache = cache
        self.hashes = Hashes(cache / "hashes.json")
        self._shelf = Shelf(SHELF)
        self._told: set[tuple[str, Path]] = set()
        self._mixes: list[frozenset[Hashable]] = []

    def prepare(self, model: Model, request: Generate) -> Prepared:
        """What loading a model for a request takes, from names, headers and what memory is free; no weight is read.

        Args:
            model: the request's, with the request's mix.

        Raises:
            LoadError: a file is missing or damaged.
        """
        found = origins.of(self.catalogue, model, self.catalogue.vae(request.vae) if request.vae else None)
        dtype = devices.dtype_for(self.device, request.precision, _probe_width(found.unet.config), self.cache)
        vae_dtype = devices.vae_dtype(self.device, dtype, bool(found.vae.config.get("force_upcast", True)))
        decoder = self.catalogue.preview_decoder(model.space)
        stack = (*found.adapters, *((self.catalogue.adapter(x.name).file.path, x.weight) for x in request.loras))
        # what a LoRA changes is kept a second time: beside the weights where there is room, else in main memory
        kept = self._kept(stack) * dtype.itemsize
        plan = self._plan(found, request, dtype, vae_dtype, decoder is not None, kept)
        roomy = not plan.reasons and plan.fits
        if kept and not roomy:
            plan = self._plan(found, request, dtype, vae_dtype, decoder is not None, 0)
        keep = None if roomy else CPU
        # the catalogue's own ratio is kept as any model is, also when it is typed
        slid = bool(request.mix) and model.mix().formula != self.catalogue.model(model.id).mix().formula
        return Prepared(model, found, dtype, vae_dtype, decoder, stack, plan, keep, slid)

    def _kept(self, stack: fusing.Stack) -> int:
        """Values of the UNet's layers that a stack of LoRAs changes, from the files' headers."""
        layers: dict[str, int] = {}
        for file, _ in stack:
            contents = self._shelf.contents(file)
            for name, pair in contents.parts["unet"].items():
                up, down = (contents.header.tensors[key].shape for key in (pair.up, pair.down))
                layers[name] = up[0] * math.prod(down[1:])
        return sum(layers.values())

    def load(self, job_id: JobId, wanted: Prepared, stop: Callable[[], bool]) -> Generator[Progress, None, Components]:
        """All components for a request, from memory where they are held; yields what is loaded next, and returns them.

        Args:
            job_id: whose events they are.
            wanted: what to load.
            stop: looked at between components, and between the tensors of a mix; Stopped is raised when it says so.

        Raises:
            LoadError: a file is missing, broken, or of another architecture.
            Stopped: `stop` said so.
        """
        model, found, dtype, vae_dtype = wanted.model, wanted.origins, wanted.dtype, wanted.vae_dtype
        decoder, stack, plan = wanted.decoder, wanted.stack, wanted.plan
        used: set[Hashable] = set()

        def part(
            what: str, fraction: float, key: Hashable, size: int, build: Callable[[], _T], place: Place = "device"
        ) -> Generator[Progress, None, _T]:
            used.add(key)
            if self.residency.place(key) is None:
                yield Loading(job_id, f"{model.title}: {what}", fraction)
                if stop():
                    raise Stopped
            with self.residency.using(used):
                if place == "device" and self.residency.place(key) != "device":
                    self.residency.make_room(used, size)
                return self.residency.get(key, build, place)

        texts = (found.text_encoder, found.text_encoder_2)
        text_key = ("text", *(origin.key for origin in texts), origins.vocabulary(found), dtype)
        unet_key = self._unet_key(found.unet, dtype, plan, stack)
        vae_key = ("vae", found.vae.key, vae_dtype)
        if wanted.slid:
            made_of = ((text_key, *texts), (unet_key, found.unet), (vae_key, found.vae))
            self._hold_mix(frozenset(key for key, *parts in made_of if any(part.mixed for part in parts)))
        text = yield from part(
            "text encoders",
            0.1,
            text_key,
            sum(origin.numbers for origin in texts) * dtype.itemsize,
            lambda: self._text(found, dtype, stop),
            "ram" if plan.encoders == "leave" else "device",
        )
        unet = yield from part(
            "denoiser",
            0.4,
            unet_key,
            found.unet.numbers * (1 if plan.storage == "fp8" else dtype.itemsize),
            lambda: self._unet(found.unet, dtype, plan, stack, wanted.keep, stop),
            "ram" if plan.denoiser == "sequential" else "device",
        )
        vae = yield from part(
            "VAE",
            0.8,
            vae_key,
            found.vae.numbers * vae_dtype.itemsize,
            lambda: read(found.vae, vae_dtype, stop).to(self.device.torch),
        )
        preview = None
        if decoder is not None:
            small = decoder
            preview = yield from part(
                "preview decoder", 0.95, ("preview", str(small.source.path), dtype), 0, lambda: self._tiny(small, dtype)
            )
        self.residency.make_room(used, plan.working)
        # what comes layer by layer wears what it was loaded with
        parts = text.dressed if unet.by_layer else (unet.dressed, *text.dressed)
        if stack or not all(part.bare for part in parts):
            yield from self._dress(job_id, model, parts, text, stack, len(found.adapters))
        embeddings = self.catalogue.embeddings_of(model.family)
        text.conditioner.learn(embeddings.items())
        # beside the loading it would take the disk and a core from it
        for files in (found.unet.files, found.vae.files, *((file,) for file, _ in stack)):
            self.hashes.begin(files)
        return Components(
            model=model,
            text=text,
            unet=unet.dressed.module,
            vae=vae,
            scheduler_config=found.scheduler_config,
            dtype=dtype,
            preview=preview,
            blank_is_zeros=found.blank_is_zeros,
            unet_files=found.unet.files,
            vae_files=found.vae.files,
            lora_files=tuple(file for file, _ in stack),
            embeddings={name.lower(): file for name, file in embeddings.items()},
            plan=plan,
            text_key=text_key,
            unet_key=unet_key,
            vae_key=vae_key,
            keys=frozenset(used),
        )

    def _plan(
        self, found: Origins, request: Generate, dtype: torch.dtype, vae_dtype: torch.dtype, small: bool, kept: int
    ) -> Plan:
        """How the parts share what is free: what others hold counts as free, for they will make room."""
        own = Weights(
            unet=found.unet.numbers * dtype.itemsize + kept,
            text=(found.text_encoder.numbers + found.text_encoder_2.numbers) * dtype.itemsize,
            vae=found.vae.numbers * vae_dtype.itemsize,
            preview=PREVIEW_NUMBERS * dtype.itemsize if small else 0,
        )
        return planning.plan(
            Ask(
                width=request.width,
                height=request.height,
                batch=request.batch_size,
                guided=request.guidance_scale > 1,
                weights=own,
                free=devices.free_memory(self.device) + self.residency.used,
                kind=self.device.torch.type,  # type: ignore[arg-type]
                dtype=devices.NAMES[dtype],
                vae_dtype=devices.NAMES[vae_dtype],
                precision=request.precision,
            )
        )

    def _text(self, found: Origins, dtype: torch.dtype, stop: Callable[[], bool]) -> Text:
        """Both tokenizers and text encoders."""
        encoders = [read(origin, dtype, stop) for origin in (found.text_encoder, found.text_encoder_2)]
        for encoder in encoders:
            encoder.to(self.device.torch)
        first, second = origins.tokenizers(found)
        conditioner = Conditioner(TextEncoders(first, second, *encoders), self.device.torch, dtype)
        dressed = tuple(
            Dressed(encoder, part, self._shelf)
            for encoder, part in zip(encoders, ("text_encoder", "text_encoder_2"), strict=True)
        )
        return Text(conditioner, dressed)

    def _hold_mix(self, keys: frozenset[Hashable]) -> None:
        """Lets go of the mixes whose ratio was left for others, before the next is made: who slides a ratio leaves
        twenty behind."""
        others = [held for held in self._mixes if held != keys]
        self._mixes = [*others[1 - KEPT_MIXES :], keys]
        self.residency.drop(frozenset[Hashable]().union(*others[: 1 - KEPT_MIXES]).difference(*self._mixes))

    def _unet_key(self, origin: Origin, dtype: torch.dtype, plan: Plan, stack: fusing.Stack) -> Hashable:
        """What tells UNets apart. One that is held can wear any LoRA, but for those whose weights can't be changed any
        more once they are placed: these keep what they were dressed in, by file."""
        fixed = plan.storage == "fp8" or plan.denoiser == "sequential"
        worn = tuple((file, 0.0 if plan.storage == "fp8" else weight) for file, weight in stack) if fixed else ()
        return ("unet", origin.key, dtype, plan.storage, plan.denoiser, worn)

    def _unet(
        self,
        origin: Origin,
        dtype: torch.dtype,
        plan: Plan,
        stack: fusing.Stack,
        keep: torch.device | None,
        stop: Callable[[], bool],
    ) -> Denoiser:
        """The UNet, placed as planned. LoRAs go in before its weights are stored in 8 bits or leave the device."""
        tight = plan.storage == "fp8" or plan.encoders == "leave"
        dressed = Dressed(read(origin, dtype, stop), "unet", self._shelf, CPU if tight else keep)
        by_layer = plan.denoiser == "sequential"
        if by_layer:
            dressed.wear(stack)
            placing.bring_by_layer(dressed.module, self.device.torch)
        elif plan.storage == "fp8":
            dressed.wear(stack)
            dressed.hold(stack)
            placing.store_in_fp8(dressed.module)
        if not by_layer:
            dressed.to(self.device.torch)
        return Denoiser(dressed, by_layer)

    def _dress(
        self, job_id: JobId, model: Model, parts: tuple[Dressed, ...], text: Text, stack: fusing.Stack, own: int
    ) -> Generator[Progress, None, None]:
        """Brings the LoRAs that are worn to those that are asked for, and tells how much of each fits; of the first
        `own`, which the model itself is made of, only where it is not all."""
        yield Loading(job_id, f"{model.title}: LoRAs", 0.97)
        try:
            report = fusing.dress(parts, stack)
        except BaseException:
            # all parts are bare now, and what was encoded with what they wore is of no use any more
            text.conditioner.forget()
            raise
        if report.changed & {"text_encoder", "text_encoder_2"}:
            text.conditioner.forget()
        for fit in report.fits[own:] + tuple(fit for fit in report.fits[:own] if fit.warning):
            if fit.layers and (model.id, fit.file) not in self._told:
                self._told.add((model.id, fit.file))
                yield Noted("warning" if fit.warning else "info", fit.sentence, job_id)

    def _tiny(self, decoder: PreviewDecoder, dtype: torch.dtype) -> Any:
        tiny = AutoencoderTiny.from_pretrained(
            decoder.source.path, dtype=dtype, local_files_only=True, use_safetensors=True
        )
        return tiny.eval().requires_grad_(False).to(self.device.torch)


def read(origin: Origin, dtype: torch.dtype, stop: Callable[[], bool] = never) -> Any:
    """A part as a module on the CPU, what libraries raise on bad files turned into one line; memory errors pass, and so
    does Stopped, where a mix that is being made looked at `stop`."""
    try:
        return origin.read(dtype, stop)
    except READ_ERRORS as e:
        if devices.is_out_of_memory(e):
            raise
        log.exception("loading the %s from %s", origin.part, origin.where)
        raise _unreadable(origin, e) from e
    except Exception as e:
        if type(e).__name__ != "SafetensorError":  # not exported by name everywhere
            raise
        raise _unreadable(origin, e) from e


def _unreadable(origin: Origin, error: Exception) -> LoadError:
    hint = "download the model again"
    folder = Path(origin.where).parent
    if not origin.files and (folder / "model_index.json").is_file():
        marked = variant_here(Folder(folder))
        if marked is not None:
            hint = f'its weights are marked {marked}: write variant = "{marked}" beside its folder in models.toml'
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return LoadError(f"the {origin.part} of {origin.where} can't be loaded: {reason}", hint)


def _probe_width(unet_config: dict[str, Any]) -> int:
    """Channels in the middle of the UNet, what most of its time goes into."""
    channels = unet_config.get("block_out_channels")
    return int(max(channels)) if isinstance(channels, list) and channels else 320
