"""Which build of torch a GPU and its driver need, told without torch: one that can't use a GPU can't tell it."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass

from engines.machine import Version


@dataclass(frozen=True, slots=True)
class Build:
    """A build of torch that its makers publish."""

    index: str
    "The last part of its wheel index: https://download.pytorch.org/whl/<index>."
    needs: Version
    "The driver must run at least this CUDA: within a major version older drivers run newer builds."
    branch: int
    "The first driver branch that does."
    x86: tuple[Version, ...]
    "Compute capabilities that it has code for, on x86_64."
    arm: tuple[Version, ...]
    "The same on aarch64."

    def runs(self, capability: Version | None, arm: bool) -> bool:
        """Whether it has code for a GPU: of the same major version, and not newer. An unknown one is let pass."""
        codes = self.arm if arm else self.x86
        return capability is None or any(c[0] == capability[0] and c[1] <= capability[1] for c in codes)


BUILDS = (
    Build(
        "cu130", (13, 0), 580,
        ((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)), ((8, 0), (9, 0), (10, 0), (11, 0), (12, 0)),
    ),
    Build(
        "cu126", (12, 0), 525,
        ((5, 0), (6, 0), (7, 0), (7, 5), (8, 0), (8, 6), (9, 0)), ((8, 0), (9, 0)),
    ),
)  # fmt: skip
"""Of torch 2.12 to 2.14, newest first: PyTorch's CUDA support matrix in its RELEASE.md, and NVIDIA's table of minimum
drivers for minor version compatibility. cu132 asks for the same driver and has code for the same GPUs as cu130."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Which build of torch fits."""

    index: str = ""
    "The wheel index's last part; empty if no build has code for these GPUs."
    driver: int = 0
    "The driver branch that has to be installed first; 0 if the one that is here will do."


def advise(cuda: Version | None, capabilities: Sequence[Version | None], arm: bool | None = None) -> Advice:
    """The newest build that runs most of these GPUs with this driver; else the newest for a newer driver.

    Args:
        cuda: the newest CUDA that the driver runs; None if unknown, which is taken for an old one.
        capabilities: of the GPUs; None for one that is unknown.
        arm: aarch64 instead of x86_64; this machine's if not given.
    """
    on_arm = platform.machine() in ("aarch64", "arm64") if arm is None else arm

    def best(among: Sequence[Build]) -> Build | None:
        counts = [sum(build.runs(c, on_arm) for c in capabilities) for build in among]
        return among[counts.index(max(counts))] if counts and max(counts) > 0 else None

    if build := best([b for b in BUILDS if b.needs <= (cuda or (12, 0))]):
        return Advice(build.index)
    if build := best(BUILDS):
        return Advice(build.index, build.branch)
    return Advice()


def has_code(archs: Sequence[str], capability: Version) -> bool:
    """Whether a torch with these architectures (`torch.cuda.get_arch_list()`) runs on a GPU of that capability."""
    for arch in archs:
        named = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if named is None:
            continue
        has = (int(named[2]), int(named[3]))
        if named[4] == "a":
            fits = has == capability
        elif named[1] == "compute":  # an intermediate code that the driver translates for any newer GPU
            fits = has <= capability
        else:
            fits = has[0] == capability[0] and has[1] <= capability[1]
        if fits:
            return True
    return False
