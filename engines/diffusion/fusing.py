"""LoRAs, added to the weights of what they change (arXiv:2106.09685): W = W₀ + Σ weight · (alpha / rank) · B·A.

A module is dressed in a stack of LoRAs and dressed anew when the stack changes; it is never loaded again for that. What
a layer was is kept while it differs, so every sum starts from it, is made in fp32 and rounded once: without LoRAs the
weights are the first ones bit for bit, and what was worn before leaves no trace.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from engines.diffusion.updates import (
    CROSS_ATTENTION,
    ENCODERS,
    PARTS,
    Contents,
    Pair,
    Shelf,
    Stamp,
    Update,
)
from engines.errors import LoadError
from engines.headers import shown
from engines.keys import renamed

log = logging.getLogger(__name__)

MANY = 5
"Names of layers that are told."

Stack: TypeAlias = Sequence[tuple[Path, float]]
"LoRA files and weights; the order is that of the sum. A file may stand in it more than once."


@dataclass(frozen=True, slots=True)
class Fit:
    """How much of one LoRA a model has use for."""

    file: Path
    "The LoRA."
    layers: int
    "Layers that the file changes in the parts that were looked at."
    matched: int
    "How many of them the model has."
    missing: tuple[str, ...] = ()
    "The first MANY of those that it doesn't have."

    @property
    def percent(self) -> float:
        """0 … 100; 100 where the file changes nothing in these parts."""
        return 100 * self.matched / self.layers if self.layers else 100.0

    @property
    def sentence(self) -> str:
        """One line for people: how much of the LoRA the model has use for, and what is left out."""
        told = f"LoRA {self.file.name}: {int(self.percent)} % of its {self.layers} layers match this model"
        if self.matched == self.layers:
            return told
        more = self.layers - self.matched - 1
        return f"{told}; left out: {self.missing[0]}{f' and {more} more' if more else ''}"

    @property
    def warning(self) -> str:
        """The sentence if a part of the LoRA is left out, else empty."""
        return self.sentence if self.matched < self.layers else ""

    def __add__(self, other: Fit) -> Fit:
        """Of both parts of one LoRA together."""
        missing = (self.missing + other.missing)[:MANY]
        return Fit(self.file, self.layers + other.layers, self.matched + other.matched, missing)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of dressing."""

    fits: tuple[Fit, ...]
    "One for each LoRA of the stack, in its order."
    changed: frozenset[str]
    "The parts whose weights are others now; what was computed with them must be forgotten."


@dataclass(slots=True, eq=False)
class _Plan:
    """A stack that was checked for one part: nothing that can be wrong with its files is left."""

    key: tuple[tuple[Stamp, float], ...]
    fits: tuple[Fit, ...]
    layers: dict[str, tuple[tuple[Stamp, float], ...]] = field(default_factory=dict)  # layer → what makes up its sum
    updates: dict[tuple[str, Stamp], Update] = field(default_factory=dict)


class Dressed:
    """One module that is held in memory, with whatever LoRAs it wears.

    Only layers that a worn LoRA changes are kept a second time, in their own type: up to the size of the module. They
    lie beside the module's weights and follow them from device to device, unless `keep` says where they are.

    Args:
        module: a UNet or text encoder whose weights are in memory: on any device, but not on "meta", where sequential
            offload leaves them. Nobody else writes to its weights from here on.
        part: its name in PARTS.
        shelf: remembers what was read; one may serve all modules.
        keep: where originals are kept; None is the device of the layer. The CPU saves device memory and costs a copy.
        originals: gives a layer's own weight by its name in the module, in the precision of computing, any device:
            what `layer.weight` was before it was stored in 8 bits. With it nothing is kept a second time, and a module
            that was stored in 8 bits (diffusers' enable_layerwise_casting) can be dressed: the sum is rounded to the
            original's type, then to the layer's. Without it such a module has to be dressed before it is stored so, and
            only layers that were dressed then, or held, can change.

    The same stack gives the same weights bit for bit on the same device; another multiplies matrices in another order,
    which may tell in a weight's last bit.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        part: str,
        shelf: Shelf | None = None,
        keep: torch.device | None = None,
        originals: Callable[[str], torch.Tensor] | None = None,
    ) -> None:
        assert part in PARTS, part
        self.module = module
        self.part = part
        self.shelf = shelf or Shelf()
        self.keep = keep
        self.originals = originals
        self._names = {
            name.replace(".", "_").removeprefix("text_model_"): name
            for name, layer in module.named_modules()
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
        }
        self._kept: dict[str, torch.Tensor] = {}
        self._worn: dict[str, tuple[tuple[Stamp, float], ...]] = {}
        self._settled: _Plan | None = None  # what is worn came of this one; without its updates

    @property
    def bytes(self) -> int:
        """What the originals that are kept take in memory."""
        return sum(tensor.nbytes for tensor in self._kept.values())

    def parameters(self) -> Iterator[torch.Tensor]:
        """The module's weights, for whoever counts them."""
        yield from self.module.parameters()

    @property
    def beside(self) -> int:
        """Bytes of originals that are kept on the device of the weights."""
        return self.bytes if self.keep is None else 0

    @property
    def bare(self) -> bool:
        """Whether no layer differs from its original."""
        return not self._worn

    def to(self, device: torch.device | str) -> None:
        """Moves the module, and with it the originals unless `keep` says where they are."""
        self.module.to(device)
        if self.keep is None:
            self._kept = {name: tensor.to(device) for name, tensor in self._kept.items()}

    def wear(self, stack: Stack) -> Report:
        """Makes the weights those of exactly this stack, as `dress` does; an empty one takes everything off."""
        return dress((self,), stack)

    @torch.inference_mode(False)
    @torch.no_grad()
    def hold(self, stack: Stack) -> None:
        """Keeps the originals of all layers that these LoRAs change, whatever their weights, from now on: so that the
        weights can still move once the module is stored in 8 bits. Raises LoadError as `dress` does."""
        for layer in self.plan([(file, 1.0) for file, _ in stack]).layers:
            self._original(layer, self._weight(layer))

    def plan(self, stack: Stack) -> _Plan:
        """Checks and reads every LoRA of a stack for this part; changes nothing. Raises LoadError as `dress` does."""
        known = [self.shelf.contents(file) for file, _ in stack]
        key = tuple((contents.stamp, weight) for contents, (_, weight) in zip(known, stack, strict=True))
        if self._settled is not None and self._settled.key == key:
            return self._settled
        per_block = _per_block(self.module)
        matches = [_match(contents, self.part, self._names, per_block) for contents in known]
        plan = _Plan(key, tuple(self._fit(*pair) for pair in zip(known, matches, strict=True)))
        for contents, match, (_, weight) in zip(known, matches, stack, strict=True):
            updates = self.shelf.updates(contents, self.part)  # also of weight 0: a broken file is no less broken
            for name, (layer, _) in match.items() if weight else ():
                plan.layers[layer] = (*plan.layers.get(layer, ()), (contents.stamp, weight))
                plan.updates[layer, contents.stamp] = updates[name]
        for layer in plan.layers:
            self._check_storage(layer)
        return plan

    def apply(self, plan: _Plan) -> bool:
        """Brings the weights to what was planned, and says whether any are others now."""
        changed = [layer for layer in {*self._worn, *plan.layers} if self._worn.get(layer) != plan.layers.get(layer)]
        for layer in sorted(changed):  # so that where memory ends does not depend on chance
            self._sum(layer, plan.layers.get(layer, ()), plan.updates)
        self._settled = replace(plan, updates={})
        return bool(changed)

    @torch.inference_mode(False)
    @torch.no_grad()
    def undress(self) -> None:
        """Takes everything off; needs no memory on the device beside the weights."""
        for layer in tuple(self._worn):
            self._sum(layer, (), {})

    @torch.inference_mode(False)
    @torch.no_grad()
    def _sum(self, layer: str, adds: tuple[tuple[Stamp, float], ...], updates: dict[Any, Update]) -> None:
        self._settled = None
        target = self._weight(layer)
        if not adds:
            self._restore(layer, target)
            return
        original = self._original(layer, target)
        self._worn[layer] = adds  # before the weights change: if that fails, this one has to be restored as well
        total = original.to(target.device, torch.float32, copy=True).contiguous()
        for stamp, weight in adds:
            updates[layer, stamp].add_to(total, weight)
        if original.dtype != target.dtype:
            total = total.to(original.dtype)
        if target.element_size() == 1:  # what lies beyond 8 bits would become NaN
            most = torch.finfo(target.dtype).max
            total.clamp_(-most, most)
        target.copy_(total)

    def _restore(self, layer: str, target: torch.Tensor) -> None:
        original = self.originals(layer) if self.originals is not None else self._kept[layer]
        target.copy_(original)
        del self._worn[layer]
        # what 8 bits have lost is nowhere else
        if original.dtype == target.dtype:
            self._kept.pop(layer, None)

    def _original(self, layer: str, target: torch.Tensor) -> torch.Tensor:
        """The layer's own weight; kept from now on if nobody else has it."""
        if self.originals is not None:
            return self.originals(layer)
        where = self.keep or target.device
        kept = self._kept.get(layer)
        if kept is None:
            kept = target.detach().to(where, copy=True)
        elif kept.device != where:
            kept = kept.to(where)
        self._kept[layer] = kept
        return kept

    def _weight(self, layer: str) -> torch.Tensor:
        weight = self.module.get_submodule(layer).weight
        assert isinstance(weight, torch.Tensor)
        return weight.data

    def _check_storage(self, layer: str) -> None:
        """Raises LoadError if nothing can be added to this layer any more."""
        weight = self._weight(layer)
        if weight.is_meta:
            raise LoadError("a LoRA can't be added while the weights are not in memory", "choose another offload")
        if weight.element_size() == 1 and self.originals is None and layer not in self._kept:
            raise LoadError("a LoRA can't be added to weights in 8 bits", "choose another precision, fp16 for instance")

    def _fit(self, contents: Contents, match: dict[str, tuple[str, Pair]]) -> Fit:
        """How much of a LoRA this module has. Raises LoadError if it was made for another architecture."""
        layers = contents.parts[self.part]
        if layers and (not match or contents.width(self.part) not in (None, self._width)):
            nothing = "" if match else f", and has none of its {len(layers)} layers"
            raise LoadError(
                f"LoRA {contents.file.name} is for {contents.made_for(self.part)}; the model is {self._kind}{nothing}",
                "look for one that was made for this model",
            )
        for layer, pair in match.values():
            down, up = (contents.header.tensors[key].shape for key in (pair.down, pair.up))
            _check(contents.file, layer, down, up, tuple(self._weight(layer).shape))
        missing = tuple(shown(name) for name in layers if name not in match)
        return Fit(contents.file, len(layers), len(match), missing[:MANY])

    @property
    def _width(self) -> int:
        """What tells this module's architecture: the width of the text that a UNet attends to, or of an encoder."""
        config = getattr(self.module, "config", None)
        return getattr(config, "cross_attention_dim" if self.part == "unet" else "hidden_size", 0)

    @property
    def _kind(self) -> str:
        """The module's architecture for people."""
        if self.part == "unet":
            known = CROSS_ATTENTION.get(self._width)
            return f"{known} ({self._width})" if known else f"one of {self._width}"
        return f"{ENCODERS.get(self._width, 'one')} ({self._width} wide) in its {self.part}"


@torch.inference_mode(False)
@torch.no_grad()
def dress(parts: Sequence[Dressed], stack: Stack) -> Report:
    """Makes the weights of some parts of one model those of exactly this stack of LoRAs.

    Every LoRA is checked for every part before a weight is changed. If something fails after that, such as memory, all
    parts are left without any LoRA. Layers whose sum stays the same are not touched.

    Args:
        parts: the UNet and both text encoders of one model; what is told of a LoRA counts these parts only.
        stack: files and weights, 0 for one that is only checked.

    Raises:
        LoadError: a file is no LoRA, is damaged, of a kind that isn't added, has numbers that are not finite, or was
            made for another architecture.
    """
    plans = [part.plan(stack) for part in parts]
    changed = set()
    try:
        for part, plan in zip(parts, plans, strict=True):
            if part.apply(plan):
                changed.add(part.part)
    except BaseException:
        plans.clear()
        for part in parts:
            part.undress()
        raise
    fits = [sum(fits[1:], fits[0]) for fits in zip(*(plan.fits for plan in plans), strict=True)]
    for fit, (_, weight) in zip(fits, stack, strict=True):
        log.info("LoRA %s at %g: %d of %d layers", fit.file.name, weight, fit.matched, fit.layers)
    return Report(tuple(fits), frozenset(changed))


def _per_block(module: torch.nn.Module) -> int:
    found = getattr(getattr(module, "config", None), "layers_per_block", 2)
    return int(found[0] if isinstance(found, list | tuple) else found)


def _match(contents: Contents, part: str, names: dict[str, str], per_block: int) -> dict[str, tuple[str, Pair]]:
    """A LoRA's flat name → (layer of the module, its tensors), of what both have; each layer once."""
    match: dict[str, tuple[str, Pair]] = {}
    taken: set[str] = set()
    own = contents.parts[part]
    for name in sorted(own, key=lambda name: name not in names):  # diffusers' names before the original's
        layer = names.get(name) or (names.get(renamed(name, per_block)) if part == "unet" else None)
        if layer is not None and layer not in taken:
            taken.add(layer)
            match[name] = layer, own[name]
    return match


def _check(file: Path, layer: str, down: tuple[int, ...], up: tuple[int, ...], target: tuple[int, ...]) -> None:
    """Raises LoadError unless an update of these shapes fits a layer of that shape."""
    theirs = (up[0], down[1], *down[2:])
    if up[1] != down[0] or math.prod(up[2:]) != 1 or theirs[:2] != target[:2] or math.prod(theirs) != math.prod(target):
        raise LoadError(
            f"LoRA {file.name} does not fit this model: {layer} is {'x'.join(map(str, theirs))} in it and "
            f"{'x'.join(map(str, target))} in the model",
            "it was made for another architecture",
        )
