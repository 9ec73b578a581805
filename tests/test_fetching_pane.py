"""The picker's list, and pulling in the background of other work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from driving import MEDIUM, NARROW, WIDE, Bench, text, toasts, until
from fake_engine import NOW, catalogue

from engines.catalogue import Catalogue
from engines.entries import Folder, Hub, Model, UnetOver
from engines.events import Noted, Queued, Vitals
from engines.requests import Job, Lora, Pull, Warm
from tui import stock
from tui.choice import ChoiceList
from tui.offers import Offer, OfferList
from tui.panes.fetching import FetchScreen
from tui.panes.header import Header
from tui.stock import Device


def header(bench: Bench) -> str:
    return str(bench.app.workbench.query_one(Header).render())


def rows(bench: Bench) -> list[tuple[str, str]]:
    return [(p.prompt, p.state) for p in bench.app.workbench._jobs]


# ── the list ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_thousand_models_are_listed_and_found_by_typing(home: Path) -> None:
    known = catalogue(home)
    far = known.models["far"]
    for i in range(1000):
        known.models[f"model-{i:03}"] = replace(far, id=f"model-{i:03}", title=f"Number {i}")
    bench = Bench(home, known)
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await until(pilot, lambda: len(bench.app.workbench.stocks.models) == len(known.models))
        await pilot.press("f3", "enter")
        await until(pilot, lambda: isinstance(bench.app.screen, ChoiceList))
        offers = bench.app.screen.query_one(OfferList)
        assert len(offers.offers) == len(known.models)
        assert offers.offers[-1].value == "away"  # what can't be had comes last
        await pilot.press("ctrl+end", "up")
        await until(pilot, lambda: "Number 999" in bench.app.export_screenshot().replace("&#160;", " "))
        await pilot.press(*"gb number 77")
        assert len(offers.offers) == 19 and offers.chosen == offers.offers[0]  # 077, 177, … and 770 to 779
        await pilot.press("ctrl+u", *"number 770", "enter")
        await until(pilot, lambda: bench.app.workbench.draft.model == "model-770")
        assert "6.9 GB to get" in str(bench.app.workbench.form.model.choice.render())


async def test_the_disk_is_looked_at_in_another_thread(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    looking: set[str] = set()
    found = stock.look

    def look(*args: object) -> object:
        looking.add(threading.current_thread().name)
        return found(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(stock, "look", look)
    bench = Bench(home)
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
    assert looking and threading.main_thread().name not in looking


async def test_what_cannot_be_had_is_not_taken_and_says_why(home: Path) -> None:
    bench = Bench(home)
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("f3", "enter", *"away", "enter")
        await until(pilot, lambda: "nowhere missing" in toasts(bench.app))
        assert isinstance(bench.app.screen, ChoiceList)
        await pilot.press("backspace", *"zz")
        await until(pilot, lambda: "nothing has these words" in bench.app.export_screenshot().replace("&#160;", " "))
        await pilot.press("enter", "escape")
        assert bench.app.workbench.draft.model == "mini"


async def test_a_click_takes_and_a_click_beside_closes(home: Path) -> None:
    bench = Bench(home)
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await pilot.press("f3", "enter")
        await until(pilot, lambda: isinstance(bench.app.screen, ChoiceList))
        await pilot.click(OfferList, offset=(5, 2))
        await until(pilot, lambda: bench.app.workbench.draft.model == "quick")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(bench.app.screen, ChoiceList))
        await pilot.click(offset=(0, 0))
        await until(pilot, lambda: not isinstance(bench.app.screen, ChoiceList))


async def test_the_list_says_what_fits_as_soon_as_the_memory_is_known(home: Path) -> None:
    known = catalogue(home)
    for name, gigabytes in (("large", 12), ("huge", 900)):
        source = Hub(f"fake/{home.name}-{name}")
        known.models[name] = replace(known.models["far"], id=name, source=source, bytes=gigabytes * 10**9)
    bench = Bench(home, known)
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await until(pilot, lambda: bench.app.workbench._device == Device("cpu", 4_000_000_000))
        bench.engine.tell(Vitals("cuda:0 Fake", "fp16", 0, 8_000_000_000, ()))
        await until(pilot, lambda: bench.app.workbench._device == Device("cuda", 8_000_000_000))
        await until(pilot, lambda: (h := bench.app.workbench.stocks.models.get("huge")) and "too large" in h.fit)
        fits = {id: bench.app.workbench.stocks.models[id].fit for id in ("mini", "large", "huge")}
        assert fits == {"mini": "fits", "large": "fits with offload", "huge": "too large for this GPU"}


def test_an_offer_is_found_by_all_its_words() -> None:
    offer = Offer("sdxl-base", "SDXL 1.0", "30 steps", note="here")
    assert offer.has(["sdxl", "here"]) and offer.has([]) and not offer.has(["sdxl", "turbo"])


@pytest.mark.parametrize(
    ("device", "known"),
    [
        ("cuda:0 NVIDIA H100", Device("cuda", 9)),
        ("cpu, 2 threads", Device("cpu", 9)),
        ("mps", Device("mps", 9)),
        ("", None),
    ],
)
def test_which_device_an_engine_tells_of(device: str, known: Device | None) -> None:
    assert Device.of(Vitals(device, "", 0, 9, ())) == known
    assert Device.of(Vitals(device, "", 0, 0, ())) is None


def test_a_unet_over_a_base_that_is_away_too_costs_both(home: Path) -> None:
    known = catalogue(home)
    far = known.models["far"]
    assert not isinstance(far.source, Folder)
    known.models["base"] = replace(far, id="base", title="Base", source=Hub(f"fake/{home.name}-base"), bytes=7_000)
    file = replace(far.source.file, bytes=500)  # type: ignore[union-attr]
    unet: Model = replace(far, id="unet", title="Unet", source=UnetOver("base", file), notice="", bytes=0)
    known.models["unet"] = unet
    having = stock.look(known, unet)
    assert (having.here, having.can_be_had, having.bytes, having.told) == (False, True, 7500, "7.5 kB to get")
    bill = stock.bill(known, [unet, known.models["base"]])
    assert bill.items == (("Unet", 500), ("Base", 7000)) and len(bill.notices) == 1
    assert stock.bill(known, [unet], told=["base"]).notices == ()
    assert stock.weights(known, unet) == 7000


# ── fetching ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_making_with_what_is_not_here_asks_first_and_no_is_no(home: Path) -> None:
    bench = Bench(home)
    bench.draft(model="far", prompt="a cat")
    async with bench.app.run_test(size=WIDE) as pilot:
        assert "ready" in header(bench) or await until(pilot, lambda: "ready" in header(bench)) is None
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        shown = bench.app.export_screenshot().replace("&#160;", " ")
        for told in ("6.9 GB", "Fake Research", "Its licence is for research only.", "Other work goes on"):
            assert told in shown
        await pilot.press("escape")
        await until(pilot, lambda: bench.app.screen is bench.app.workbench)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        await pilot.press("right", "enter")
        await until(pilot, lambda: bench.app.screen is bench.app.workbench)
        assert not bench.pulled and not bench.made


async def test_enter_twice_is_one_question_and_both_pictures(home: Path) -> None:
    bench = Bench(home, held_pull=True)
    bench.draft(model="far", prompt="a cat", seed="1")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: "ready" in header(bench))
        for _ in range(2):
            bench.app.workbench.action_make()
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        await until(pilot, lambda: [len(x) for x in bench.app.workbench._asking.values()] == [2])
        await pilot.press("enter")
        await until(pilot, lambda: bench.app.workbench.held == 2 and bench.app.screen is bench.app.workbench)
        bench.engine.receive(5)
        await until(pilot, lambda: len(bench.store.made) == 2)
        assert bench.pulled == ["far"]


async def test_a_download_runs_beside_pictures_and_what_waited_for_it_is_made(home: Path) -> None:
    bench = Bench(home, held=True, held_pull=True)
    bench.draft(model="far", prompt="a cat")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        await pilot.press("enter")
        await until(pilot, lambda: rows(bench) == [("fetch Far", "running")])
        assert "made when far is here" in text(bench.app, "#caption")
        await pilot.press(*"!", "enter")  # one picture more waits for the same, without a question
        await until(pilot, lambda: bench.app.workbench.held == 2)
        assert bench.pulled == ["far"]
        bench.app.workbench.form.model.choice.action_step(1)
        await until(pilot, lambda: bench.app.workbench.draft.model == "mini")
        await pilot.press("enter")
        bench.engine.advance(2)
        bench.engine.receive(2)
        await until(pilot, lambda: "step 2/4" in header(bench) and "↓ fetching 50%" in header(bench))
        assert (running := bench.app.workbench._jobs.running) and running.prompt == "a cat!"
        shown = bench.app.export_screenshot().replace("&#160;", " ")
        assert "3.5 of 6.9 GB · 85 MB/s" in shown and "41 s" in shown
        bench.engine.receive(3)
        bench.engine.advance(10)
        await until(pilot, lambda: len(bench.store.made) == 3)
        assert [(r.model, r.prompt) for r in bench.made] == [("mini", "a cat!"), ("far", "a cat"), ("far", "a cat!")]
        assert "Far is here" in toasts(bench.app)
        await until(pilot, lambda: bench.app.workbench.stocks.models["far"].here)
        await until(pilot, lambda: "to get" not in header(bench) and "fetching" not in header(bench))


async def test_cancelling_a_download_lets_go_of_what_waited(home: Path) -> None:
    bench = Bench(home, held_pull=True)
    bench.draft(model="far", prompt="a cat")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        await pilot.press("enter")
        await until(pilot, lambda: rows(bench) == [("fetch Far", "running")])
        await pilot.press("escape")  # ends pictures only
        await until(pilot, lambda: "in the queue cancels the download" in toasts(bench.app))
        assert not bench.engine._cancelled
        await pilot.press("f6", "x")
        await until(pilot, lambda: not rows(bench))
        assert "1 picture waited for far" in toasts(bench.app)
        assert not bench.made and not bench.app.workbench.held
        await pilot.press("f2", "enter")  # it can be asked for again
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        assert "research only" not in bench.app.export_screenshot().replace("&#160;", " ")  # that was told


async def test_a_failed_download_says_why_until_it_is_tried_again(home: Path) -> None:
    bench = Bench(home, fail_pull="the connection was cut 5 times")
    bench.draft(model="far", prompt="a cat")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        await pilot.press("enter")
        await until(pilot, lambda: rows(bench) == [("fetch Far", "failed")])
        shown = bench.app.export_screenshot().replace("&#160;", " ")
        assert "the connection was cut" in shown and "look at the connection" in shown
        assert "1 picture waited for far" in toasts(bench.app)
        bench.engine.fail_pull = ""
        await pilot.press("alt+g")
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        await pilot.press("enter")
        await until(pilot, lambda: "Far is here" in toasts(bench.app))
        await until(pilot, lambda: Warm("far") in bench.engine.submitted)  # it is the picked one
        assert not rows(bench) and not bench.made


async def test_fetching_without_making(home: Path) -> None:
    bench = Bench(home)
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+g")
        await until(pilot, lambda: "Mini is here" in toasts(bench.app))
        assert not bench.pulled


async def test_a_lora_that_is_not_here_is_fetched_before_its_picture(home: Path) -> None:
    bench = Bench(home)
    bench.draft(prompt="a cat", loras=("glow:0.5",))
    async with bench.app.run_test(size=NARROW) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        assert "394 MB" in bench.app.export_screenshot().replace("&#160;", " ")
        await pilot.press("y")
        await until(pilot, lambda: bench.store.made)
        assert bench.pulled == ["glow"] and bench.made[0].loras[0].name == "glow"
        assert bench.app.workbench.focused is bench.app.workbench.form.prompt  # what comes later moves no focus


async def test_a_lora_that_the_prompt_names_is_fetched_as_well(home: Path) -> None:
    bench = Bench(home)
    bench.draft(prompt="a {withLora(glow, 0.5)|withLora(glow, 0.5)} cat")
    async with bench.app.run_test(size=NARROW) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        await pilot.press("y")
        await until(pilot, lambda: bench.store.made)
        assert bench.pulled == ["glow"] and bench.made[0].loras == (Lora("glow", 0.5),)


async def test_a_download_of_an_earlier_session_goes_on(home: Path) -> None:
    bench = Bench(home)
    async with bench.app.run_test(size=WIDE) as pilot:
        bench.engine.tell(Queued(Job(77, Pull("far"), None, NOW)))
        await until(pilot, lambda: rows(bench) == [("fetch Far", "waiting")])
        assert "fetching" in header(bench)
        bench.app.workbench.form.model.choice._take("far")
        await pilot.press("enter")
        await until(pilot, lambda: bench.app.workbench.held == 1)
        assert not bench.pulled


async def test_a_quit_says_what_goes_on_and_what_does_not(home: Path) -> None:
    bench = Bench(home, held_pull=True)
    bench.draft(model="far", prompt="a cat")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        await pilot.press("enter")
        await until(pilot, lambda: rows(bench) == [("fetch Far", "running")])
        await pilot.press("ctrl+q")
        await until(pilot, lambda: not bench.app.is_running)
    assert bench.app.farewell == (
        "1 download: it goes on when safelight is opened again; 1 picture that waited for a download is not kept"
    )
    assert json.loads((home / "data" / "draft-1.json").read_text())["prompt"] == "a cat"


async def test_what_is_said_of_memory_is_one_notice(home: Path) -> None:
    bench = Bench(home)
    async with bench.app.run_test(size=WIDE) as pilot:
        for _ in range(2):
            for line in ("fp16, VAE in tiles of 512 px", "the VAE works in tiles: it needs 9 GiB"):
                bench.engine.tell(Noted("info", f"memory: {line}", 1))
            await until(pilot, lambda: "in tiles: it needs" in toasts(bench.app))
            await until(pilot, lambda: not bench.app.workbench._memory)
        assert len([n for n in bench.app._notifications if n.title == "memory"]) == 1


def test_nothing_is_known_of_a_model_that_stands_on_nothing(home: Path) -> None:
    known = Catalogue({"lone": replace(catalogue(home).models["far"], id="lone")})
    assert stock.weights(known, known.models["lone"]) == 0
