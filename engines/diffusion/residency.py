"""What is held in memory: components by key, the least recently used let go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch

_T = TypeVar("_T")


class Residency:
    """Components that were loaded, shared by every model that has the same key, within a limit.

    What is held is never changed in place; whoever needs another UNet builds one under another key.

    Args:
        limit: bytes of weights to hold; one component may exceed it while it is in use.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, build: Callable[[], _T]) -> _T:
        """The component of that key, built if it is not held; it becomes the most recently used."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]  # type: ignore[no-any-return]
        component = build()
        self._held[key] = (component, size(component))
        return component

    def make_room(self, keys: set[Hashable], more: int = 0) -> None:
        """Lets go of the least recently used components, but of none in `keys`, until `more` bytes fit the limit."""
        for key in list(self._held):
            if self.used + more <= self.limit:
                return
            if key not in keys:
                del self._held[key]

    def free(self, keys: set[Hashable] | None = None) -> None:
        """Lets go of everything but `keys`: the one door through which memory is given back in need."""
        for key in list(self._held):
            if key not in (keys or set()):
                del self._held[key]

    def __contains__(self, key: Hashable) -> bool:
        return key in self._held

    @property
    def used(self) -> int:
        """Bytes of weights held."""
        return sum(n for _, n in self._held.values())


def size(component: object) -> int:
    """Bytes of the parameters and buffers of a module, or of the `modules` that something else holds."""
    if isinstance(component, torch.nn.Module):
        return sum(t.numel() * t.element_size() for t in (*component.parameters(), *component.buffers()))
    return sum(size(module) for module in getattr(component, "modules", ()))
