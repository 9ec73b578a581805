"""What every job shares: a device, the components that it holds, and how memory is given back."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engines import machine
from engines.catalogue import Catalogue
from engines.diffusion import device as devices
from engines.diffusion import loading, scoring
from engines.diffusion.residency import Residency
from engines.errors import OutOfMemory
from engines.events import Vitals
from engines.options import Options

HELD_SHARE = 0.6
"Of the memory that is free at the start, how much may be held in weights between jobs, where it is main memory."
RAM_SHARE = 0.5
"Of the main memory that is free at the start, how much may be held in weights that left the GPU."


class Room:
    """A device and the components that it holds. For one thread.

    Raises:
        InvalidRequest, LoadError: the device that the options name can't be had.
    """

    def __init__(self, catalogue: Catalogue, options: Options, cache: Path, data: Path) -> None:
        _quiet()
        devices.set_threads(options.threads)
        self.catalogue = catalogue
        self.options = options
        self.cache = cache
        self.data = data
        self.device = devices.choose(options.device)
        shared = self.device.torch.type != "cuda"  # with everything else on the machine
        limit = int(devices.free_memory(self.device) * (HELD_SHARE if shared else 1.0))
        ram = int(machine.memory().available * RAM_SHARE)
        self.residency = Residency(limit, ram, self.device.torch)
        self.loader = loading.Loader(catalogue, self.device, self.residency, cache)
        self.overflowing: set[Hashable] = set()
        "Networks that gave numbers that are not finite in half precision."
        self._precision = ""
        self._told: dict[str, tuple[str, ...]] = {}  # by model, so that one is not told anew after another's turn
        self._ready: dict[str, frozenset[Hashable]] = {}

    def vitals(self) -> Vitals:
        """How the device is now."""
        used, total = devices.memory(self.device)
        ready = tuple(id for id, keys in self._ready.items() if all(key in self.residency for key in keys))
        return Vitals(self.device.title, self._precision, used, total, ready)

    def forget(self, but: frozenset[Hashable] | set[Hashable] = frozenset()) -> None:
        """Lets go of all that is held, except `but`, and gives the memory back."""
        self._ready = {id: keys for id, keys in self._ready.items() if keys <= but}
        self.residency.free(but)
        devices.release(self.device)

    @contextmanager
    def memory(self) -> Iterator[None]:
        """Turns an out-of-memory of any device into the one line that is told."""
        told: OutOfMemory | None = None
        try:
            yield
        except Exception as e:
            if not devices.is_out_of_memory(e):
                raise
            told = devices.out_of_memory(self.device)
        if told is not None:
            self.forget()
            raise told

    def scorer(self, id: str) -> scoring.Judge:
        """What scores pictures, from memory where it is held."""
        entry = self.catalogue.scorer(id)
        key = ("scorer", entry.id, entry.kind, str(entry.source.path), entry.source.variant)
        return self.residency.get(key, lambda: scoring.load(entry, self.device))


def _quiet() -> None:
    """Bars and chatter of the libraries go to the log file, which the root logger writes, and nowhere else."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    for chatter in (diffusers_logging, transformers_logging):
        chatter.disable_progress_bar()
        chatter.disable_default_handler()
        chatter.enable_propagation()
        chatter.set_verbosity_warning()
