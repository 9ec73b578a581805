"""From files to components: text encoders, UNet, VAE, small decoders and scorers.

One way for all models: a folder in diffusers' layout gives the base; a UNet file replaces its UNet; LoRAs are fused
into copies of the parts that they change. Nothing is fetched and no pickle is opened.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engines import files
from engines.catalogue import Catalogue, Folder, LoraOver, Model, PreviewDecoder, UnetOver
from engines.diffusion import device as devices
from engines.diffusion import fusing
from engines.diffusion.conditioning import Conditioner, TextEncoders
from engines.diffusion.device import Device
from engines.diffusion.residency import Residency
from engines.errors import LoadError, SafelightError, Stopped
from engines.events import Loading
from engines.requests import JobId, Lora, Precision

log = logging.getLogger(__name__)

_T = TypeVar("_T")

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
    unet_file: Path
    "The file that the UNet's weights come from, for its hash."
    keys: frozenset[Hashable]
    "What of Residency this uses."


class Loader:
    """Turns catalogue entries into components, through a Residency that shares what is equal."""

    def __init__(self, catalogue: Catalogue, device: Device, residency: Residency, cache: Path) -> None:
        self.catalogue = catalogue
        self.device = device
        self.residency = residency
        self.cache = cache

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
        used: set[Hashable] = set()

        def part(what: str, fraction: float, key: Hashable, build: Callable[[], _T]) -> Generator[Loading, None, _T]:
            used.add(key)
            if key in self.residency:
                return self.residency.get(key, build)
            yield Loading(job_id, f"{model.title}: {what}", fraction)
            if stop():
                raise Stopped
            return self.residency.get(key, lambda: _read(what, base.path, build))

        where = (str(base.path), base.variant, dtype)
        conditioner = yield from part(
            "text encoders", 0.1, ("text", *where, adapters), lambda: self._text(base, dtype, adapters)
        )
        unet_file = next((x.source.file for x in chain if isinstance(x.source, UnetOver)), None)
        unet = yield from part(
            "denoiser", 0.4, ("unet", *where, unet_file, adapters), lambda: self._unet(base, dtype, unet_file, adapters)
        )
        vae = yield from part("VAE", 0.8, ("vae", *where), lambda: self._vae(base, dtype))
        decoder = self.catalogue.preview_decoder(model.family)
        preview = None
        if decoder is not None:
            small = decoder
            preview = yield from part(
                "preview decoder", 0.95, ("preview", str(small.folder), dtype), lambda: self._tiny(small, dtype)
            )
        self.residency.keep(used)
        return Components(
            model=model,
            conditioner=conditioner,
            unet=unet,
            vae=vae,
            scheduler_config=read_json(base.path / "scheduler" / "scheduler_config.json"),
            dtype=dtype,
            preview=preview,
            unet_file=unet_file or _weights(base.path / "unet"),
            keys=frozenset(used),
        )

    def holds(self, components: Components) -> bool:
        """Whether all of these components are still in memory."""
        return all(key in self.residency for key in components.keys)

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


def fingerprint(path: Path, cache: Path) -> str:
    """The first 16 hex digits of a file's sha256, remembered in `cache` by path, size and time of change."""
    known_at = cache / "hashes.json"
    stat = path.stat()
    key = f"{path}|{stat.st_size}|{stat.st_mtime_ns}"
    try:
        known = json.loads(known_at.read_text())
    except (OSError, ValueError):
        known = {}
    if isinstance(known, dict) and isinstance(known.get(key), str):
        return str(known[key])
    with path.open("rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()[:16]
    try:
        files.replace(known_at, json.dumps({**(known if isinstance(known, dict) else {}), key: digest}).encode())
    except SafelightError as e:
        log.warning("hashes are not remembered: %s", e.message)
    return digest


def _weights(folder: Path) -> Path:
    """The first weights file of a component's folder, for its hash."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise LoadError(f"{folder} has no .safetensors file", "download the model again, or convert its pickle")
    return found[0]


def _probe_width(unet_config: dict[str, Any]) -> int:
    """Channels in the middle of the UNet, what most of its time goes into."""
    channels = unet_config.get("block_out_channels")
    return int(max(channels)) if isinstance(channels, list) and channels else 320


def _read(what: str, folder: Path, build: Callable[[], _T]) -> _T:
    """Runs `build`, turning what libraries raise on bad files into one line; memory errors pass through."""
    try:
        return build()
    except READ_ERRORS as e:
        if devices.is_out_of_memory(e):
            raise
        log.exception("loading the %s from %s", what, folder)
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:200]
        raise LoadError(f"the {what} of {folder} can't be loaded: {reason}", "download the model again") from e
    except Exception as e:
        if type(e).__name__ != "SafetensorError":  # not exported by name everywhere
            raise
        raise LoadError(f"the {what} of {folder} is damaged: {e}", "download the model again") from e
