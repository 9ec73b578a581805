"""From files to components: text encoders, UNet, VAE, small decoders and scorers.

One way for all models: a folder in diffusers' layout gives the base; a UNet file replaces its UNet; LoRAs are fused
into copies of the parts that they change. Nothing is fetched and no pickle is opened.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engines.catalogue import Catalogue, Folder, LoraOver, Model, PreviewDecoder, UnetOver, variant_here
from engines.diffusion import device as devices
from engines.diffusion import fusing
from engines.diffusion.conditioning import Conditioner, TextEncoders
from engines.diffusion.device import Device
from engines.diffusion.hashes import Hashes
from engines.diffusion.residency import Residency
from engines.errors import LoadError, Stopped
from engines.events import Loading
from engines.requests import JobId, Lora, Precision

log = logging.getLogger(__name__)

_T = TypeVar("_T")

VARIANTS = ("fp16", "bf16", "fp32", "non_ema")
"What hub repositories mark weights files with."
READ_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError)
"What diffusers, transformers and safetensors raise on files that are missing, cut short or of another kind."


@dataclass(frozen=True, slots=True)
class Components:
    """Everything that one picture needs, on its device."""

    model: Model
    "What was asked for."
    conditioner: Conditioner
    "Both text encoders behind one call."
    unet: Any
    "A UNet2DConditionModel in `dtype`."
    vae: Any
    "An AutoencoderKL in its own dtype."
    scheduler_config: dict[str, Any]
    "The folder's scheduler_config.json."
    dtype: torch.dtype
    "What the denoiser computes in."
    preview: Any | None
    "An AutoencoderTiny for this family's latents, or None."
    blank_is_zeros: bool
    "Whether a negative prompt without words is zeros (`force_zeros_for_empty_prompt` of the folder)."
    unet_files: tuple[Path, ...]
    "The files that the UNet's weights come from, for their hash."
    lora_files: tuple[Path, ...]
    "LoRAs that are added, for theirs."
    keys: frozenset[Hashable]
    "What of Residency this uses."


class Loader:
    """Turns catalogue entries into components, through a Residency that shares what is equal."""

    def __init__(self, catalogue: Catalogue, device: Device, residency: Residency, cache: Path) -> None:
        self.catalogue = catalogue
        self.device = device
        self.residency = residency
        self.cache = cache
        self.hashes = Hashes(cache / "hashes.json")

    def load(
        self, job_id: JobId, model: Model, loras: tuple[Lora, ...], precision: Precision, stop: Callable[[], bool]
    ) -> Generator[Loading, None, Components]:
        """All components of a model, from memory where they are held; yields what is loaded next, and returns them.

        Args:
            job_id: whose events they are.
            model: what to load; its chain ends at a folder.
            loras: added to those that the model itself is made of.
            precision: as in Generate.
            stop: looked at between components; Stopped is raised when it says so.

        Raises:
            LoadError: a file is missing, broken, or of another architecture.
            Stopped: `stop` said so.
        """
        chain = self.catalogue.chain(model)
        base = chain[-1].source
        assert isinstance(base, Folder)
        unet_config = read_json(base.path / "unet" / "config.json")
        dtype = devices.dtype_for(self.device, precision, _probe_width(unet_config), self.cache)
        adapters = self._adapters(chain, loras)
        # most LoRAs leave the text encoders alone: those are shared with the base then
        text_adapters = tuple(a for a in adapters if fusing.has_text(a[0]))
        unet_file = next((x.source.file for x in chain if isinstance(x.source, UnetOver)), None)
        unet_files = (unet_file,) if unet_file else _weights(base.path / "unet", base.variant)
        self.hashes.begin(unet_files)
        for file, _ in adapters:
            self.hashes.begin((file,))
        used: set[Hashable] = set()

        def part(
            what: str, fraction: float, key: Hashable, weights: Sequence[Path], build: Callable[[], _T]
        ) -> Generator[Loading, None, _T]:
            used.add(key)
            if key in self.residency:
                return self.residency.get(key, build)
            yield Loading(job_id, f"{model.title}: {what}", fraction)
            if stop():
                raise Stopped
            self.residency.make_room(used, sum(path.stat().st_size for path in weights if path.is_file()))
            return self.residency.get(key, lambda: _read(what, base, build))

        where = (str(base.path), base.variant, dtype)
        in_folder = {
            name: _weights(base.path / name, base.variant) for name in ("text_encoder", "text_encoder_2", "vae")
        }
        conditioner = yield from part(
            "text encoders",
            0.1,
            ("text", *where, text_adapters),
            in_folder["text_encoder"] + in_folder["text_encoder_2"],
            lambda: self._text(base, dtype, text_adapters),
        )
        unet = yield from part(
            "denoiser",
            0.4,
            ("unet", *where, unet_file, adapters),
            unet_files,
            lambda: self._unet(base, dtype, unet_file, adapters),
        )
        vae = yield from part("VAE", 0.8, ("vae", *where), in_folder["vae"], lambda: self._vae(base, dtype))
        decoder = self.catalogue.preview_decoder(model.family)
        preview = None
        if decoder is not None:
            small = decoder
            preview = yield from part(
                "preview decoder", 0.95, ("preview", str(small.folder), dtype), (), lambda: self._tiny(small, dtype)
            )
        self.residency.make_room(used)
        return Components(
            model=model,
            conditioner=conditioner,
            unet=unet,
            vae=vae,
            scheduler_config=read_json(base.path / "scheduler" / "scheduler_config.json"),
            dtype=dtype,
            preview=preview,
            blank_is_zeros=bool(read_json(base.path / "model_index.json").get("force_zeros_for_empty_prompt", True)),
            unet_files=unet_files,
            lora_files=tuple(file for file, _ in adapters),
            keys=frozenset(used),
        )

    def _adapters(self, chain: tuple[Model, ...], loras: tuple[Lora, ...]) -> tuple[tuple[Path, float], ...]:
        """LoRA files and weights, the model's own first."""
        own = [(x.source.file, x.source.weight) for x in reversed(chain) if isinstance(x.source, LoraOver)]
        added = [(self.catalogue.adapter(x.name).file, x.weight) for x in loras if x.weight]
        return tuple(own + added)

    def _text(self, base: Folder, dtype: torch.dtype, adapters: tuple[tuple[Path, float], ...]) -> Conditioner:
        """Both tokenizers and text encoders; a LoRA that has parts for the encoders changes them."""
        kinds = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
        encoders = {}
        for name, kind in kinds.items():
            encoder = kind.from_pretrained(
                base.path / name, dtype=dtype, variant=base.variant, local_files_only=True, use_safetensors=True
            )
            encoders[name] = encoder.eval().requires_grad_(False)
        for file, weight in adapters:
            for name, encoder in encoders.items():
                fusing.fuse(encoder, name, file, weight)
        tokenizers = [
            CLIPTokenizer.from_pretrained(base.path / name, local_files_only=True)
            for name in ("tokenizer", "tokenizer_2")
        ]
        ready = TextEncoders(
            tokenizers[0],
            tokenizers[1],
            encoders["text_encoder"].to(self.device.torch),
            encoders["text_encoder_2"].to(self.device.torch),
        )
        return Conditioner(ready, self.device.torch, dtype)

    def _unet(
        self, base: Folder, dtype: torch.dtype, file: Path | None, adapters: tuple[tuple[Path, float], ...]
    ) -> Any:
        """The UNet, from the folder or from a file over the folder's configuration, with LoRAs fused in."""
        if adapters:
            # the plain one is worth holding: most LoRAs go over the same base, one after another
            plain = self.residency.get(
                ("unet", str(base.path), base.variant, dtype, file, ()), lambda: self._unet(base, dtype, file, ())
            )
            unet = copy.deepcopy(plain)
            for path, weight in adapters:
                fusing.fuse(unet, "unet", path, weight)
            return unet
        if file is None:
            unet = UNet2DConditionModel.from_pretrained(
                base.path / "unet", dtype=dtype, variant=base.variant, local_files_only=True, use_safetensors=True
            )
        else:
            from safetensors.torch import load_file

            with torch.device("meta"):
                unet = UNet2DConditionModel.from_config(read_json(base.path / "unet" / "config.json"))
            unet.load_state_dict(load_file(file), assign=True)
            unet = unet.to(dtype)
        return unet.eval().requires_grad_(False).to(self.device.torch)

    def _vae(self, base: Folder, dtype: torch.dtype) -> Any:
        upcast = bool(read_json(base.path / "vae" / "config.json").get("force_upcast", True))
        vae = AutoencoderKL.from_pretrained(
            base.path / "vae",
            dtype=devices.vae_dtype(self.device, dtype, upcast),
            variant=base.variant,
            local_files_only=True,
            use_safetensors=True,
        )
        return vae.eval().requires_grad_(False).to(self.device.torch)

    def _tiny(self, decoder: PreviewDecoder, dtype: torch.dtype) -> Any:
        tiny = AutoencoderTiny.from_pretrained(decoder.folder, dtype=dtype, local_files_only=True, use_safetensors=True)
        return tiny.eval().requires_grad_(False).to(self.device.torch)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises LoadError if it is missing or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise LoadError(f"{path} can't be read: {e}", "download the model again") from e
    if not isinstance(value, dict):
        raise LoadError(f"{path} is no configuration", "download the model again")
    return value


def _weights(folder: Path, variant: str | None) -> tuple[Path, ...]:
    """The weights files of a component that diffusers reads: with the variant where it is there, all of its shards."""
    found = sorted(folder.glob("*.safetensors"))
    marked = [path for path in found if variant and f".{variant}" in path.name]
    plain = [path for path in found if not any(f".{known}." in path.name for known in VARIANTS)]
    return tuple(marked or plain or found)


def _probe_width(unet_config: dict[str, Any]) -> int:
    """Channels in the middle of the UNet, what most of its time goes into."""
    channels = unet_config.get("block_out_channels")
    return int(max(channels)) if isinstance(channels, list) and channels else 320


def _read(what: str, base: Folder, build: Callable[[], _T]) -> _T:
    """Runs `build`, turning what libraries raise on bad files into one line; memory errors pass through."""
    try:
        return build()
    except READ_ERRORS as e:
        if devices.is_out_of_memory(e):
            raise
        log.exception("loading the %s from %s", what, base.path)
        hint = "download the model again"
        if base.variant is None and (marked := variant_here(base)) is not None:
            hint = f'its weights are marked {marked}: write variant = "{marked}" beside its folder in models.toml'
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:200]
        raise LoadError(f"the {what} of {base.path} can't be loaded: {reason}", hint) from e
    except Exception as e:
        if type(e).__name__ != "SafetensorError":  # not exported by name everywhere
            raise
        raise LoadError(f"part of {base.path} is damaged ({what}): {e}", "download the model again") from e
