"""Models of one architecture, mixed in memory: what engines.blocks.Formula says, in fp32, rounded once.

Each number is treated for itself, so that no more than PIECE of them are held in fp32, whatever a model's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from engines import blocks, headers
from engines.blocks import Formula
from engines.errors import InvalidRequest, LoadError, Stopped

PIECE = 1 << 20
"Numbers computed at a time: 4 MiB in fp32, a few of which are held at once and stay in a CPU's cache."


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the tensors."""

    mixed: int
    "Computed from all models."
    copied: int
    "Whole numbers, taken from the first model."
    kept: int
    "Taken from the first model because another lacks them."
    dropped: int
    "Left out because the first model lacks them."

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know, in sentences; empty if all was mixed."""
        kept, dropped = _count(self.kept, "taken from"), _count(self.dropped, "missing in")
        said = [f"{kept} the first model: another has none of that name"] if self.kept else []
        return (*said, f"{dropped} the first model, and so in the mix") if self.dropped else tuple(said)


def _count(number: int, what: str) -> str:
    return f"{number} {'tensor is' if number == 1 else 'tensors are'} {what}"


def never() -> bool:
    """The `stop` of who doesn't want to."""
    return False


@torch.no_grad()
def mix(
    module: torch.nn.Module,
    component: str,
    others: Sequence[torch.nn.Module | Mapping[str, torch.Tensor]],
    formula: Formula,
    stop: Callable[[], bool] = never,
) -> Tally:
    """Mixes other models into the first one's module, in place, tensor by tensor, on its device and in its type.

    Args:
        module: a UNet, text encoder or VAE that nothing else uses; of no use any more if an error is raised.
        component: which of them: unet, text_encoder, text_encoder_2 or vae.
        others: the same of each other model, as a module, or as what gives a tensor of any type, on any device, for
            each of its names (one at a time is asked for). They aren't changed.
        formula: what is computed; the first model is `module`.
        stop: looked at before each tensor; Stopped is raised when it says so.

    Raises:
        InvalidRequest: the formula is for another number of models.
        LoadError: another is of another architecture, or a result is no finite number.
        Stopped: `stop` said so.
    """
    if len(others) + 1 != len(formula.weights):
        raise InvalidRequest(f"{len(others) + 1} models have {len(formula.weights)} weights", "one each", "weights")
    mine = module.state_dict()
    given = [other.state_dict() if isinstance(other, torch.nn.Module) else other for other in others]
    if component == "unet":
        for i, other in enumerate(given):
            check_same_unet(f"model {i + 2}", set(mine), set(other))
    layers = blocks.layers(mine) if component == "unet" else blocks.LAYERS
    mixed = copied = kept = 0
    seen: set[int] = set()
    for name, target in mine.items():
        if stop():
            raise Stopped
        if not target.is_floating_point():
            copied += 1
            continue
        if any(name not in other for other in given):
            kept += 1
            continue
        if target.data_ptr() in seen:  # tied weights have two names, and must not be mixed twice
            continue
        seen.add(target.data_ptr())
        factors = formula.at(blocks.of(name, component, layers))
        theirs = [other[name] if factor else None for other, factor in zip(given, factors[1:], strict=True)]
        for i, tensor in enumerate(theirs):
            if tensor is not None and tensor.shape != target.shape:
                raise unlike(name, "the first model", target.shape, f"model {i + 2}", tensor.shape)
        _mix_into(name, target, theirs, formula.method, factors)
        mixed += 1
    return Tally(mixed, copied, kept, sum(len(other.keys() - mine.keys()) for other in given))


def blend(tensors: Sequence[torch.Tensor | None], method: str, factors: Sequence[float]) -> torch.Tensor:
    """The mix of fp32 tensors of one shape, as `Formula.at` gives its factors; those whose factor is 0 may be None.

    A sum is a chain of linear interpolations, so that models that agree on a number, or a share of 1, give that number
    exactly. Nothing that is given is changed, but what is returned may be one of them.
    """
    live = [(tensor, factor) for tensor, factor in zip(tensors, factors, strict=True) if factor and tensor is not None]
    result, total = live[0]
    if method == "add-difference":
        if len(live) == 3:
            result = torch.add(result, live[1][0] - live[2][0], alpha=live[1][1])
        return result
    for tensor, factor in live[1:]:
        total += factor
        result = torch.lerp(result, tensor, factor / total)
    return result


def _mix_into(
    name: str, target: torch.Tensor, others: list[torch.Tensor | None], method: str, factors: tuple[float, ...]
) -> None:
    """Mixes into one tensor, some rows at a time."""
    if not target.numel():
        return
    target = _in_rows(target)
    rows = max(1, PIECE * len(target) // target.numel())
    for start in range(0, len(target), rows):
        at = slice(start, start + rows)
        pieces = [
            None if tensor is None else _in_rows(tensor)[at].to(target.device, torch.float32)
            for tensor in (target, *others)
        ]
        result = blend(pieces, method, factors).to(target.dtype)
        check_finite(name, result)
        target[at].copy_(result)


def _in_rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dim() else tensor.unsqueeze(0)


def check_same_unet(label: str, first: set[str], other: set[str]) -> None:
    """Raises LoadError if two UNets have different layers: their numbers would not mean the same."""
    for missing, where in ((first - other, "lacks"), (other - first, "has")):
        if first and other and missing:
            raise LoadError(
                f"{label} is of another architecture: {len(missing)} tensors differ, "
                f"it {where} {headers.shown(min(missing))}",
                "mix models of one architecture",
            )


def check_finite(name: str, result: torch.Tensor) -> None:
    """Raises LoadError for a result with an infinity or a NaN."""
    # the outermost numbers tell of all, twenty times as fast as asking each; what has eight bits has no order
    low, high = torch.aminmax(result.float() if result.element_size() == 1 else result)
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise LoadError(
            f"tensor {headers.shown(name)} of the mix has numbers that are not finite",
            "see whether the models are whole: safelight models verify"
            if result.dtype in (torch.float32, torch.bfloat16)
            else "take bf16 or fp32 instead, or see whether the models are whole: safelight models verify",
        )


def unlike(name: str, first: str, shape: Iterable[int], other: str, theirs: Iterable[int]) -> LoadError:
    """The error for a tensor whose shape two models don't agree on."""
    mine, yours = ("x".join(map(str, sides)) or "one number" for sides in (shape, theirs))
    return LoadError(
        f"tensor {headers.shown(name)} is {mine} in {first} and {yours} in {other}", "mix models of one architecture"
    )
