"""What is held in two tiers of memory, on a device that is made up: what moves, when, and what is let go."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import pytest
import torch

from engines.diffusion import residency
from engines.diffusion.residency import CPU, HEADROOM, Residency, move, size

GPU = torch.device("cuda", 0)
"Only its name is used: the mover below touches no driver."
MB = 10**6


class Weights:
    """Stands for a component of so many bytes; what it shares with another it holds as the same tensor."""

    def __init__(self, n: int = 0, *shared: torch.Tensor) -> None:
        own = [torch.empty(n, dtype=torch.uint8)] if n else []
        self.tensors = [*own, *shared]
        self.device = CPU

    def parameters(self) -> list[torch.Tensor]:
        return self.tensors

    def to(self, device: torch.device) -> None:
        self.device = device


class Room:
    """A Residency over a made-up GPU, with what happened in it."""

    def __init__(
        self, limit: int = 100, ram: int = 1000, device: torch.device = GPU, available: int = 64 << 30
    ) -> None:
        self.happened: list[tuple[Hashable, str]] = []
        self.available = available
        self.fails: Callable[[Weights, torch.device], BaseException | None] = lambda component, device: None
        self.held = Residency(
            limit, ram, device, self.mover, lambda key, what: self.happened.append((key, what)), lambda: self.available
        )

    def mover(self, component: Weights, device: torch.device) -> None:
        component.to(device)  # what fails has moved half of it by then
        if (error := self.fails(component, device)) is not None:
            raise error

    def hold(self, key: Hashable, n: int = 10, place: residency.Place = "device") -> Weights:
        """Makes room as the loader does, and gets the component."""
        if key not in self.held:
            self.held.make_room({key}, n)
        return self.held.get(key, lambda: Weights(n), place)

    def heard(self) -> list[tuple[Hashable, str]]:
        """What happened since this was last asked."""
        heard, self.happened[:] = list(self.happened), []
        return heard


def test_what_was_used_before_comes_back_without_being_built() -> None:
    room = Room(limit=25)
    a = room.hold("a", 20)
    room.hold("b", 20)
    assert room.heard() == [("a", "built"), ("a", "ram"), ("b", "built")] and a.device == CPU
    assert room.hold("a", 20) is a and a.device == GPU
    assert room.heard() == [("b", "ram"), ("a", "device")]


def test_what_others_take_is_told_without_what_is_shared() -> None:
    room = Room()
    shared = torch.empty(7, dtype=torch.uint8)
    room.held.get("a", lambda: Weights(10, shared))
    room.held.get("b", lambda: Weights(20, shared))
    room.hold("c", 5)
    room.hold("away", 3, "ram")
    assert room.held.used == 42
    assert room.held.used_besides({"a"}) == 25, "what b shares with a is a's as well"
    assert room.held.used_besides({"a", "b", "c"}) == 0


def test_switching_between_variants_over_one_base_moves_only_the_unet() -> None:
    room = Room(limit=80)

    def load(variant: str) -> None:
        used: set[Hashable] = set()
        for key, n in (("text", 16), (f"unet {variant}", 50), ("vae", 2), ("preview", 1)):
            used.add(key)
            if room.held.place(key) != "device":
                room.held.make_room(used, n)
            room.held.get(key, lambda n=n: Weights(n))  # type: ignore[misc]

    load("2 steps")
    load("4 steps")
    room.heard()
    for before, after in (("4", "2"), ("2", "4"), ("4", "2")):
        load(f"{after} steps")
        assert room.heard() == [(f"unet {before} steps", "ram"), (f"unet {after} steps", "device")]


def test_the_least_recently_used_leaves_first_in_both_tiers() -> None:
    room = Room(limit=20, ram=20)
    for key in "abcd":
        room.hold(key, 10)
    assert [room.held.place(key) for key in "abcd"] == ["ram", "ram", "device", "device"]
    room.hold("a", 10)  # c takes its place in main memory, and nothing has to go
    assert [room.held.place(key) for key in "abcd"] == ["device", "ram", "ram", "device"]
    room.hold("e", 10)
    assert [room.held.place(key) for key in "abcde"] == ["device", None, "ram", "ram", "device"]


def test_what_comes_to_the_device_is_not_let_go_to_make_room_for_what_it_displaces() -> None:
    room = Room(limit=10, ram=10)
    a = room.hold("a")
    b = room.hold("b")
    for _ in range(2):
        assert room.hold("a") is a and room.hold("b") is b


def test_what_comes_to_the_device_is_not_let_go_where_main_memory_is_short() -> None:
    room = Room(limit=10)
    a = room.hold("a")
    room.hold("b")
    room.available = HEADROOM + 5
    assert room.hold("a") is a and "b" not in room.held


def test_what_is_in_use_never_leaves() -> None:
    room = Room(limit=20)
    for key in "abc":
        with room.held.using({"a"}):
            room.hold(key, 10)
    with room.held.using({"a"}), room.held.using({"c"}):
        room.held.free()
        room.held.forget()
    assert room.held.place("a") == room.held.place("c") == "device" and "b" not in room.held
    room.held.free()
    assert room.held.place("a") == "ram"


def test_what_is_in_use_may_be_more_than_the_limit() -> None:
    room = Room(limit=15)
    room.hold("a", 10)
    room.held.make_room({"a", "b"}, 10)
    room.held.get("b", lambda: Weights(10))
    assert room.held.used == 20


def test_main_memory_that_is_full_lets_go_instead() -> None:
    room = Room(limit=10, ram=0)
    room.hold("a")
    room.hold("b")
    assert room.heard() == [("a", "built"), ("a", "gone"), ("b", "built")]
    room = Room(limit=10, available=HEADROOM + 5)
    room.hold("a")
    room.hold("b")
    assert "a" not in room.held


def test_what_can_never_fit_main_memory_drives_nothing_out_of_it() -> None:
    room = Room(limit=50, ram=20)
    room.hold("small", 10)
    room.hold("large", 45)
    assert room.held.place("small") == "ram"
    room.held.free()
    assert room.held.place("small") == "ram" and "large" not in room.held


def test_need_empties_the_device_into_main_memory() -> None:
    room = Room()
    for key in "abc":
        room.hold(key)
    room.held.free({"b"})
    assert [room.held.place(key) for key in "abc"] == ["ram", "device", "ram"]
    assert (room.held.used, room.held.used_in_ram) == (10, 20)
    room.held.forget()
    assert room.held.held() == {}


def test_what_rests_is_off_the_device_even_while_in_use() -> None:
    room = Room(ram=0)
    text = room.hold("text")
    with room.held.using({"text"}):
        room.held.rest({"text", "never seen"})
    assert text.device == CPU and room.held.place("text") == "ram"


def test_a_component_may_be_wanted_in_main_memory() -> None:
    room = Room()
    text = room.hold("text", place="ram")
    assert text.device == CPU and room.held.used == 0 and room.held.place("text") != "device"
    assert room.held.get("text", lambda: Weights()) is text and text.device == GPU
    room.held.get("text", lambda: Weights(), "ram")
    assert text.device == CPU


def test_what_nobody_will_ask_for_again_leaves_both_tiers() -> None:
    room = Room(limit=20)
    for key in "abcd":
        room.hold(key)
    with room.held.using({"c"}):
        room.held.drop({"a", "c", "never held"})
    assert [room.held.place(key) for key in "abcd"] == [None, "ram", "device", "device"]
    room.held.drop({"c"})
    assert "c" not in room.held


def test_one_tier_on_a_cpu_moves_nothing() -> None:
    for device in (CPU, torch.device("mps")):
        room = Room(limit=20, device=device)
        room.fails = lambda component, device: AssertionError("moved")
        room.hold("text", place="ram")
        room.held.rest({"text"})
        assert room.held.place("text") == "device"
        room.hold("a")
        room.hold("b")
        assert room.heard() == [("text", "built"), ("a", "built"), ("text", "gone"), ("b", "built")]


def test_memory_that_runs_out_on_the_way_to_the_device_leaves_the_component_in_main_memory() -> None:
    room = Room()
    a = room.hold("a")
    room.held.free()
    room.fails = lambda component, device: torch.OutOfMemoryError("CUDA out of memory") if device == GPU else None
    with pytest.raises(torch.OutOfMemoryError):
        room.hold("a")
    assert room.held.place("a") == "ram" and a.device == CPU
    room.fails = lambda component, device: None
    assert room.hold("a") is a and a.device == GPU


def test_what_main_memory_refuses_is_let_go() -> None:
    room = Room()
    room.hold("a")
    room.fails = lambda component, device: MemoryError()
    room.held.free()
    assert "a" not in room.held and room.heard()[-1] == ("a", "gone")


def test_a_component_that_fails_to_build_is_not_held() -> None:
    room = Room()

    def build() -> Weights:
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        room.held.get("a", build)
    assert "a" not in room.held and room.heard() == []


def test_what_is_shared_counts_once_and_moves_together() -> None:
    room = Room()
    base = room.hold("base", 40)
    dressed = room.held.get("dressed", lambda: Weights(5, *base.tensors))
    assert room.held.used == 45
    with room.held.using({"dressed"}):
        room.held.free()  # nothing would be freed by it
        assert room.held.place("base") == "device"
    room.held.free()
    assert (base.device, dressed.device, room.held.used, room.held.used_in_ram) == (CPU, CPU, 0, 45)
    room.hold("base")
    assert dressed.device == GPU and room.held.place("dressed") == "device"


def test_bytes_are_counted_anew_when_a_component_is_got() -> None:
    room = Room()
    unet = room.hold("unet", 40)
    unet.tensors[:] = [torch.empty(20, dtype=torch.uint8)]
    room.hold("unet")
    assert room.held.used == 20


def test_size_counts_modules_what_holds_them_and_what_only_has_parameters() -> None:
    module, norm = torch.nn.Linear(10, 10, bias=False), torch.nn.BatchNorm1d(2)
    assert size(module) == 400 and size(norm) > 4 * 2 * 4

    class Wearing:
        def parameters(self) -> list[torch.Tensor]:
            return [*module.parameters(), torch.empty(7, dtype=torch.uint8)]

    class Several:
        modules = (Wearing(), module, norm)

    assert size(Wearing()) == 407
    assert size(Several()) == 407 + size(norm)
    assert size(torch.nn.Linear(10, 10, device="meta")) == 0
    assert size(object()) == 0


def test_moving_under_inference_mode_leaves_weights_that_can_be_changed() -> None:
    module = torch.nn.Linear(4, 4).requires_grad_(False)

    class Holder:
        modules = (module,)

    with torch.inference_mode():
        move(Holder(), torch.device("meta"))
    assert module.weight.is_meta and not module.weight.is_inference()


def test_the_default_reads_what_main_memory_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "engines.machine.memory", lambda: __import__("engines.machine").machine.Memory(8 << 30, HEADROOM + 5, False)
    )
    held = Residency(0, 1000, GPU, lambda component, device: component.to(device))
    held.get("a", lambda: Weights(10))
    held.make_room(set())
    assert "a" not in held
    held.get("b", lambda: Weights(4))
    held.make_room(set())
    assert held.place("b") == "ram"
