"""What is held in memory: components by key, on the device, then in main memory; the least recently used goes first."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Set
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import torch

from engines import machine

log = logging.getLogger(__name__)

_T = TypeVar("_T")
Place: TypeAlias = Literal["device", "ram"]
Moved: TypeAlias = Literal["built", "device", "ram", "gone"]
"What happened to a component: made by its `build`, brought to the device, put into main memory, let go."
Mover: TypeAlias = Callable[[Any, torch.device], object]

CPU = torch.device("cpu")
HEADROOM = 2 * 2**30
"Bytes of main memory that stay free for everything else when a component is put there."


def move(component: Any, device: torch.device) -> None:
    """Brings a component to a device, in place: what has `to` (a module, for one), else its `modules`.

    A module whose layers are brought one by one stays where it is. Main memory is not pinned: that takes as long as
    reading the weights from the disk's cache, and locks them there.
    """
    if any(hasattr(module, "_hf_hook") for module in _modules(component)):
        return
    # what is moved under someone's inference mode could never be changed outside it again
    with torch.inference_mode(False), torch.no_grad():
        for each in (component,) if callable(getattr(component, "to", None)) else _modules(component):
            each.to(device)


class _Held(NamedTuple):
    component: Any
    place: Place
    tensors: dict[int, int]

    @property
    def size(self) -> int:
        return sum(self.tensors.values())


class Residency:
    """Components that were loaded, shared by every model that has the same key, in two tiers with a limit each.

    What leaves the device goes to main memory and comes back from there without the disk being read; what leaves main
    memory is gone. Where both are the same memory (a CPU, Apple's GPUs) there is one tier.

    A component is moved in place. It may be changed in place too (LoRAs, weights in 8 bits) as long as its key says so;
    its bytes are counted whenever it is got (16 ms for SDXL's UNet). What two components share is counted once, and
    they move together.

    Args:
        limit: bytes of weights to hold on the device; what is in use may exceed it.
        ram: bytes of weights to hold in main memory besides.
        device: where components are used.
        mover: brings a component to a device, in place; whatever it raises means that it could not.
        moved: told of everything that happens to a component.
        available: bytes of main memory that can be had; HEADROOM of them stay free.
    """

    def __init__(
        self,
        limit: int,
        ram: int = 0,
        device: torch.device = CPU,
        mover: Mover = move,
        moved: Callable[[Hashable, Moved], object] = lambda key, what: None,
        available: Callable[[], int] = lambda: machine.memory().available,
    ) -> None:
        self.limit = limit
        self.ram = ram
        self.device = device
        self._move = mover
        self._moved = moved
        self._available = available
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self._in_use: list[Set[Hashable]] = []

    def get(self, key: Hashable, build: Callable[[], _T], place: Place = "device") -> _T:
        """The component of that key, built if it is not held, and the most recently used from now on.

        Args:
            key: what it is; equal keys are equal components.
            build: makes it, on the device or in main memory.
            place: where it is wanted. In main memory is for what is brought to the device for a moment only, encoders
                that encode for instance. One tier takes both for the same.

        Raises:
            Whatever `build` or the mover raises: memory errors above all. What was held stays held.
        """
        held = self._held.get(key)
        if held is None:
            component = build()
            self._moved(key, "built")
            if self._two:
                self._move(component, self.device if place == "device" else CPU)
            self._held[key] = _Held(component, place if self._two else "device", _tensors(component))
            return component
        held = self._held[key] = held._replace(tensors=_tensors(held.component))
        self._held.move_to_end(key)
        if self._two and held.place != place:
            if place == "device":
                self.make_room({key}, held.size)
            self._bring(key, place)
        return held.component  # type: ignore[no-any-return]

    @contextmanager
    def using(self, keys: Set[Hashable]) -> Iterator[None]:
        """Keeps components from being moved away or let go, by whatever happens inside, except `rest`."""
        busy = frozenset(keys)
        self._in_use.append(busy)
        try:
            yield
        finally:
            self._in_use.remove(busy)

    def make_room(self, keys: Set[Hashable], more: int = 0) -> None:
        """Moves the least recently used components off the device, but none in `keys` or in use, until `more` bytes fit
        its limit. Of `keys`, what is in main memory is taken to be on its way to the device."""
        for key in self._idle("device", keys):
            if self.used + more <= self.limit:
                return
            self._put_away(key, keys)

    def rest(self, keys: Set[Hashable]) -> None:
        """Moves components off the device now, whatever main memory's limit: encoders that have encoded, for instance.
        In one tier they stay where they are."""
        for key in keys:
            if self._two and self.place(key) == "device":
                self._room_in_ram(self._held[key].size)
                self._bring(key, "ram")

    def free(self, keys: Set[Hashable] | None = None) -> None:
        """Empties the device but for `keys` and what is in use: the door through which memory is given back in need.

        What main memory has room for goes there, the rest is let go. With one tier all of it is let go.
        """
        for key in self._idle("device", keys or frozenset()):
            self._put_away(key)

    def forget(self, keys: Set[Hashable] | None = None) -> None:
        """Lets go of everything but `keys` and what is in use, in both tiers."""
        for key in [*self._idle("device", keys or frozenset()), *self._idle("ram", keys or frozenset())]:
            self._drop(key)

    def drop(self, keys: Set[Hashable]) -> None:
        """Lets go of these, in both tiers, but for what is in use: what nobody will ask for again."""
        for place in ("device", "ram"):
            for key in self._idle(place, frozenset()):
                if key in keys:
                    self._drop(key)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._held

    def place(self, key: Hashable) -> Place | None:
        """Where a component is, or None if it is not held."""
        held = self._held.get(key)
        return None if held is None else held.place

    def held(self) -> dict[Hashable, Any]:
        """Everything that is held, the least recently used first."""
        return {key: held.component for key, held in self._held.items()}

    @property
    def used(self) -> int:
        """Bytes of weights on the device."""
        return self._bytes("device")

    def used_besides(self, keys: Set[Hashable]) -> int:
        """Bytes of weights on the device that none of these components have."""
        counted: dict[int, int] = {}
        own: set[int] = set()
        for key, held in self._held.items():
            if key in keys:
                own |= held.tensors.keys()
            elif held.place == "device":
                counted.update(held.tensors)
        return sum(size for tensor, size in counted.items() if tensor not in own)

    @property
    def used_in_ram(self) -> int:
        """Bytes of weights in main memory, of the second tier."""
        return self._bytes("ram")

    # ── tiers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _two(self) -> bool:
        return self.device.type not in ("cpu", "mps")

    def _bytes(self, place: Place, but: Set[Hashable] = frozenset()) -> int:
        counted: dict[int, int] = {}
        for key, held in self._held.items():
            if held.place == place and key not in but:
                counted.update(held.tensors)
        return sum(counted.values())

    def _idle(self, place: Place, keys: Set[Hashable]) -> list[Hashable]:
        """What is in that tier and may go, the least recently used first; never what shares tensors with the rest."""
        busy = set(keys).union(*self._in_use)
        return [
            key
            for key, held in self._held.items()
            if held.place == place and busy.isdisjoint(self._group(key) if busy else (key,))
        ]

    def _group(self, key: Hashable) -> list[Hashable]:
        """The key, and those in its tier whose components share tensors with its component."""
        held = self._held[key]
        own = held.tensors.keys()
        return [
            other
            for other, entry in self._held.items()
            if other == key or (entry.place == held.place and not own.isdisjoint(entry.tensors))
        ]

    def _put_away(self, key: Hashable, leaving: Set[Hashable] = frozenset()) -> None:
        """Off the device: into main memory if it has room, else gone."""
        if self.place(key) != "device":  # it went with another
            return
        if self._two and self._room_in_ram(self._held[key].size, leaving):
            self._bring(key, "ram")
        else:
            self._drop(key)

    def _room_in_ram(self, more: int, leaving: Set[Hashable] = frozenset()) -> bool:
        """Lets go of the least recently used in main memory until `more` bytes fit; of nothing if they never will.

        What is `leaving` for the device is not let go and counts for nothing: for a moment the limit is exceeded by it.
        """
        idle = self._idle("ram", leaving)
        going = sum(self._held[key].size for key in idle)
        if more > self.ram or more + HEADROOM > self._available() + going:
            return False
        for key in [*idle, None]:
            if self._bytes("ram", leaving) + more <= self.ram and more + HEADROOM <= self._available():
                return True
            if key is not None:
                self._drop(key)
        return False

    def _bring(self, key: Hashable, place: Place) -> None:
        """Moves a component, and with it those that share tensors with it."""
        group = self._group(key)
        try:
            for each in group:
                self._move(self._held[each].component, self.device if place == "device" else CPU)
        except BaseException as e:
            if place == "device":
                # half of it may be there: back, so that it is whole somewhere and that half is free again
                self._bring(key, "ram")
                raise
            for each in group:
                self._drop(each)
            if not isinstance(e, (RuntimeError, MemoryError)):
                raise
            log.warning("a component could not be put into main memory: %s", e)
            return
        for each in group:
            self._held[each] = self._held[each]._replace(place=place)
            self._moved(each, place)

    def _drop(self, key: Hashable) -> None:
        if self._held.pop(key, None) is not None:
            self._moved(key, "gone")


def size(component: object) -> int:
    """Bytes of a component's parameters and buffers, each counted once; of a module whose layers are brought one by
    one, nothing."""
    return sum(_tensors(component).values())


def _modules(component: object) -> tuple[Any, ...]:
    """A component that has parameters, or the `modules` that it is made of."""
    if callable(getattr(component, "parameters", None)):
        return (component,)
    return tuple(getattr(component, "modules", ()))


def _tensors(component: object) -> dict[int, int]:
    """The identity of each parameter and buffer → its bytes. What moves keeps its parameters' identities."""
    found: dict[int, int] = {}
    for module in _modules(component):
        tensors = (*module.parameters(), *getattr(module, "buffers", tuple)())
        found.update({id(t): t.numel() * t.element_size() for t in tensors if t.device.type != "meta"})
        if beside := getattr(module, "beside", 0):
            found[id(module)] = beside  # under one number: what it is made of changes with every move
    return found
