"""Pictures in the terminal's own pixels: what is asked, what follows from it, and what is sent."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from test_picture_view import Dialog, Shown, flat, settle
from textual.drivers import linux_driver
from textual.pilot import Pilot

import tui.app  # noqa: F401
from engines.events import Pixels
from tui.keyboard import Keyboard
from tui.pictures import asking, card, graphics, kitty, sixels
from tui.pictures.asking import Answers, Tmux
from tui.pictures.deciding import VARIABLE, Decision, decide
from tui.pictures.halfblocks import coarse_strips

KITTY = Answers("kitty(0.41.1)", kitty=True, cell=(10, 20), answered=True)
XTERM = Answers("XTerm(379)", sixel=True, cell=(8, 17), answered=True)
BARE = Answers(answered=True)


def noise(width: int, height: int) -> Pixels:
    image = Image.effect_noise((width, height), 80).convert("RGB")
    return Pixels(width, height, image.tobytes())


# ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_answers_are_told_from_keys() -> None:
    said = b"a\x1bP>|kitty(0.41.1)\x1b\\\x1b[A\x1b_Gi=31;OK\x1b\\\x1b[6;20;10tb\x1b[?62;4;22c\r"
    assert asking.understood(said) == Answers("kitty(0.41.1)", True, True, (10, 20), True, "a\x1b[Ab\r")
    assert asking.understood(b"\x1b[?4;6c") == Answers(answered=True), "the first number is the terminal's kind"
    assert asking.understood(b"\x1b_Gi=31;ENOTSUP:no\x1b\\") == Answers()
    assert asking.understood(b"\x1b[6;0;0t\x1b[?62;c") == Answers(answered=True)
    assert asking.understood("é\x1b[?1".encode()) == Answers(typed="é\x1b[?1")


def test_nobody_is_asked_what_they_would_show_as_text() -> None:
    whole = asking.VERSION + asking.QUERY + asking.CELL + asking.FENCE
    utf8 = {"LANG": "en_US.UTF-8"}
    assert asking.questions({"TERM": "xterm-256color", **utf8}) == whole
    assert asking.questions({"TERM": "xterm-kitty", **utf8}) == whole
    assert asking.questions({"TERM": "tmux-256color", "TMUX": "/tmp/x"}) == whole.replace(asking.QUERY, "")
    for plain in ({"TERM": "linux"}, {"TERM": "vt100"}, {"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}):
        assert asking.questions({**plain, **utf8}) == asking.FENCE


def test_what_tmux_tells() -> None:
    told = asking.tmux("3.5a|on|xterm-kitty|256,RGB,sixel|10x20|/dev/pts/3\n")
    assert told == Tmux("3.5a", True, "xterm-kitty", ("256", "RGB", "sixel"), (10, 20), "/dev/pts/3")
    assert asking.tmux("3.3a||||x|") == Tmux("3.3a") and asking.tmux("") == Tmux()
    assert asking.tmux("3.5a|all|foot||0x0|") == Tmux("3.5a", True, "foot")


def keys(*reads: str) -> list[str]:
    parser, found = Keyboard(), []
    for read in reads:
        found += [*parser.feed(read)]
    if parser._timeout_time is not None:
        parser._timeout_time = 0.0
    found += parser.tick()
    return [event.key for event in found if hasattr(event, "key")]


def test_late_answers_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    late = "\x1bP>|kitty(0.41.1)\x1b\\", "\x1b_Gi=31;OK\x1b\\", "\x1b[?62;4c", "\x1b[6;20;10t"
    assert linux_driver.XTermParser is Keyboard
    assert keys("a" + "".join(late) + "b") == ["a", "b"]
    for one in late[:2]:
        for cut in range(4, len(one)):
            assert keys("a" + one[:cut], one[cut:] + "b") == ["a", "b"]
    monkeypatch.setattr(Keyboard, "ahead", "x\r")
    assert keys("y") == ["y", "x", "enter"] and not Keyboard.ahead, "once, at the next tick"


# ── deciding ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("answers", "environment", "mode", "why"),
    [
        (KITTY, {}, "kitty", "kitty(0.41.1) has kitty's protocol"),
        (replace(KITTY, name="kitty(0.26.5)"), {}, "halfblocks", "kitty(0.26.5) has no placeholders"),
        (replace(KITTY, name="ghostty 1.1.3"), {}, "kitty", "ghostty"),
        (replace(KITTY, name="WezTerm 20240203-110809", sixel=True), {}, "sixel", "WezTerm"),
        (replace(KITTY, name="Konsole 23.08.5"), {}, "halfblocks", "told of no protocol"),
        (XTERM, {}, "sixel", "XTerm(379) takes sixels"),
        (replace(XTERM, cell=None), {}, "halfblocks", "how large a cell is"),
        (BARE, {}, "halfblocks", "the terminal told of no protocol"),
        (Answers(), {}, "halfblocks", "answered nothing"),
        (KITTY, {"NO_COLOR": "1"}, "halfblocks", "NO_COLOR"),
        (KITTY, {"NO_COLOR": ""}, "kitty", ""),
        (XTERM, {"STY": "1.pts"}, "halfblocks", "screen hands no pictures on"),
        (XTERM, {"ZELLIJ": "0"}, "halfblocks", "zellij hands no pictures on"),
        (replace(XTERM, tmux=Tmux("3.5a", True, "xterm-kitty")), {}, "kitty", "tmux hands it on to xterm-kitty"),
        (replace(XTERM, tmux=Tmux("3.5a", False, "xterm-kitty", ("sixel",))), {}, "halfblocks", "hands nothing on"),
        (replace(XTERM, tmux=Tmux("3.5a", False, "xterm-256color", ("sixel",))), {}, "sixel", "tmux draws sixels"),
        (replace(XTERM, tmux=Tmux("3.5a", False, "xterm-256color")), {}, "halfblocks", "doesn't know whether"),
        (replace(BARE, tmux=Tmux("3.3a", False, "xterm")), {}, "halfblocks", "tmux 3.3a can't draw pictures"),
        (replace(BARE, tmux=Tmux()), {}, "halfblocks", "tmux can't draw pictures"),
    ],
)
def test_the_way_follows_from_the_answers(answers: Answers, environment: dict[str, str], mode: str, why: str) -> None:
    made = decide("auto", answers, environment)
    assert made.mode == mode and why in made.why and "\n" not in made.why + made.better
    assert made.wrapped == (answers.tmux is not None and mode == "kitty")
    assert (made.mode != "halfblocks") <= (made.better == ""), "what is best can't be better"


def test_a_wish_is_a_wish_and_the_environment_overrides_the_settings() -> None:
    for wish in ("kitty", "sixel", "halfblocks"):
        assert decide(wish, BARE, {}).mode == wish
        assert decide("auto", KITTY, {VARIABLE: wish}).mode == wish
    assert decide("kitty", XTERM, {VARIABLE: "halfblocks"}).better.startswith("auto would be sixel")
    assert decide("textual-image", KITTY, {}).mode == "kitty" and decide("auto", KITTY, {VARIABLE: "?"}).mode == "kitty"
    assert decide("kitty", replace(BARE, tmux=Tmux()), {}).wrapped


# ── kitty ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def data_of(written: str) -> bytes:
    return base64.standard_b64decode("".join(re.findall(r"\x1b_G[^;\x1b]*;([^\x1b]*)\x1b", written)))


def test_a_picture_is_sent_once_placed_anew_and_let_go() -> None:
    made = kitty.Uploads(first=0x0A0B0C)
    data = kitty.png(noise(300, 200), (300, 200))
    number, written = made.show("one", "view", 30, 10, data)
    assert number == 0x0A0B0D and data_of(written) == data
    first, *rest = re.findall(r"\x1b_G([^;\x1b]*);", written)
    assert first == f"a=T,U=1,i={number},p=1,c=30,r=10,f=100,q=2,m=1" and set(rest[:-1]) == {"m=1,q=2"}
    assert rest[-1] == "m=0,q=2" and max(map(len, written.split("\x1b\\"))) < 4200
    assert made.show("one", "view", 30, 10, None) == (number, "")
    assert made.show("one", "view", 12, 4, None) == (number, f"\x1b_Ga=p,U=1,i={number},p=1,c=12,r=4,q=2\x1b\\")
    with pytest.raises(KeyError):
        made.show("two", "view", 1, 1, None)
    swapped, written = made.show("one", "view", 12, 4, b"other")
    assert swapped == number and data_of(written) == b"other" and made.counts["uploads"] == made.counts["swaps"] == 1
    assert made.clear() == f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\" and made.clear() == "" and made.counts["deletes"] == 1


def test_the_terminal_keeps_a_few_pictures_and_all_that_are_shown() -> None:
    made = kitty.Uploads()
    made.show("kept", "left", 1, 1, b"x")
    for number in range(40):
        made.show(number, "right", 1, 1, b"x")
    assert made.number("kept") and made.number(39) and made.number(38) and made.number(0) is None
    assert made.counts["uploads"] - made.counts["deletes"] == kitty.KEPT + 2
    made.leave("right")
    made.leave("left")
    assert made.counts["uploads"] - made.counts["deletes"] == kitty.KEPT
    made.clear()
    assert made.counts["uploads"] == made.counts["deletes"]
    made.show("a", "v", 1, 1, b"x")
    made.lose()
    assert made.number("a") is None and made.clear() == "", "another terminal never had it"


def test_for_tmux_each_sequence_is_wrapped() -> None:
    plain, wrapped = kitty.Uploads(first=7), kitty.Uploads(True, first=7)
    data = kitty.png(noise(200, 200), (200, 200))
    one, other = plain.show("a", "v", 9, 9, data)[1], wrapped.show("a", "v", 9, 9, data)[1]
    assert one.count("\x1b_G") > 3 == other.count("\x1bPtmux;") - one.count("\x1b_G") + 3
    assert "".join(kitty.unwrapped(other)) == one


def test_a_png_is_small_and_no_larger_than_the_picture() -> None:
    def opened(data: bytes) -> Image.Image:
        return Image.open(io.BytesIO(data))

    pixels = noise(400, 200)
    assert opened(kitty.png(pixels, (1000, 1000))).size == (400, 200)
    assert opened(kitty.png(pixels, (100, 100))).size == (100, 50)
    assert opened(kitty.png(pixels, (100, 100))).mode == "P" and opened(kitty.png(pixels, (400, 400), 0)).mode == "RGB"
    sent = kitty.Uploads().show("a", "v", 9, 9, kitty.png(noise(512, 512), (128, 128), 64))[1]
    assert len(sent) < 20_000, "a preview of pure noise"


def test_cells_say_where_they_are_also_when_they_are_cut() -> None:
    assert len(kitty.MARKS) == len(set(kitty.MARKS)) == 297
    strips = kitty.rows_of(0x123456, 20, 3)
    assert [strip.cell_length for strip in strips] == [20] * 3
    cut = strips[2].crop(5, 9)
    assert cut.cell_length == 4
    assert cut.text == "".join(kitty.PLACEHOLDER + kitty.MARKS[2] + kitty.MARKS[column] for column in range(5, 9))
    (segment,) = cut
    assert segment.style is not None and segment.style.render("x").startswith("\x1b[38;2;18;52;86m")


# ── a card ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_card_takes_the_cells_that_it_says_and_is_what_the_way_shows() -> None:
    shown = card.text(Decision("kitty", "", cell=(10, 20)), "truecolor")
    assert shown.count("a=T") == 1 and shown.count(kitty.PLACEHOLDER) == 16 * 8 and shown.count("\n") == 8
    drawn = card.text(Decision("sixel", "", cell=(8, 17)), "256")
    assert drawn.count("\x1bP0;0;0q") == 1 and drawn.startswith("\n" * 8 + "\x1b[8A\x1b7") and drawn.endswith("\x1b[8B")
    for colours, code in (("truecolor", "48;2;220;30;30"), ("256", "48;5;160"), ("none", "")):
        lines = card.text(Decision("halfblocks", ""), colours).splitlines()  # type: ignore[arg-type]
        assert len(lines) == 8 and code in lines[0]


# ── the view ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Wire:
    """What a view writes for pictures."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, decision: Decision) -> None:
        self.said: list[str] = []
        self.terminal = graphics.Graphics(decision)
        monkeypatch.setattr(graphics, "current", self.terminal)
        monkeypatch.setattr(graphics.Graphics, "write", lambda own, app, text: self.said.append(text) if text else None)

    def count(self, what: str) -> int:
        return sum(one.count(what) for one in self.said)


@pytest.fixture
def in_kitty(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch, Decision("kitty", "", cell=(10, 20)))


def placeholders(app: Shown) -> int:
    return sum(strip.text.count(kitty.PLACEHOLDER) for strip in app.screen._compositor.render_strips())


async def test_one_upload_a_picture_whatever_happens_on_the_screen(
    in_kitty: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "a.png")
    Image.new("RGB", (64, 32), "red").save(tmp_path / "b.png")
    app = Shown()
    app.view.mode = "kitty"
    async with app.run_test(size=(60, 20)) as pilot:
        app.view.show_file(str(tmp_path / "a.png"))
        await settle(app, pilot)
        assert placeholders(app) == 40 * 20 and in_kitty.count("a=T") == 1
        number = in_kitty.terminal.uploads.number(app.view._placed[0])  # type: ignore[index]
        app.view.refresh()
        await pilot.pause()
        await app.push_screen(Dialog())
        await pilot.pause()
        await app.pop_screen()
        await pilot.resize_terminal(50, 18)
        await settle(app, pilot)
        assert in_kitty.count("a=T") == 1 and in_kitty.count("a=p") == 1 and placeholders(app) == 36 * 18
        app.view.show_file(str(tmp_path / "b.png"))
        await settle(app, pilot)
        app.view.show_file(str(tmp_path / "a.png"))
        await settle(app, pilot)
        assert in_kitty.count("a=T") == 2, "the first one is still there"
        assert in_kitty.terminal.uploads.number(app.view._placed[0]) == number  # type: ignore[index]
        in_kitty.terminal.uploads.lose()
        app.view.again()
        await settle(app, pilot)
        assert in_kitty.count("a=T") == 3, "another terminal"
        app.view.clear("nothing")
        await pilot.pause()
        assert placeholders(app) == 0


async def test_previews_swap_in_place_and_are_few_bytes(in_kitty: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui.pictures import view

    monkeypatch.setattr(view, "PREVIEW_EVERY", 0.0)
    app = Shown()
    app.view.mode = "kitty"
    async with app.run_test(size=(60, 20)) as pilot:
        rows = []
        for _ in range(5):
            app.view.show_pixels(noise(256, 256))
            await settle(app, pilot)
            rows.append(app.view._strips)
        assert in_kitty.terminal.uploads.counts == {"uploads": 1, "swaps": 4, "deletes": 0}
        assert all(one is rows[0] for one in rows), "no cell is written again"
        assert max(map(len, in_kitty.said)) < 20_000
        app.view.show_pixels(flat((9, 200, 9)), sharp=True)
        await settle(app, pilot)
        assert in_kitty.terminal.uploads.counts == {"uploads": 2, "swaps": 4, "deletes": 1}


async def test_previews_wait_for_a_terminal_that_is_behind(in_kitty: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    behind, asked = True, []
    monkeypatch.setattr(graphics.Graphics, "busy", staticmethod(lambda app: behind))
    monkeypatch.setattr(graphics.Graphics, "when_free", staticmethod(lambda app, call: asked.append(call)))
    app = Shown()
    app.view.mode = "kitty"
    async with app.run_test(size=(60, 20)) as pilot:
        app.view.show_pixels(noise(256, 256))
        await settle(app, pilot)
        await pilot.pause(0.2)
        assert in_kitty.said == [] and len(asked) == 1
        behind = False
        asked[0]()
        for _ in range(40):
            await pilot.pause(0.05)
            if in_kitty.said:
                break
        assert in_kitty.count("a=T") == 1


async def test_sixels_are_drawn_over_the_cells_only_when_nothing_lies_over_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wire = Wire(monkeypatch, Decision("sixel", "", cell=(8, 17)))
    Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "a.png")
    app = Shown()
    app.CSS = "#box { width: 100%; height: 15; }"
    app.view.mode = "sixel"

    def drawn() -> int:
        return wire.count("\x1bP0;0;0q")

    async def still(pilot: Pilot[None]) -> None:
        await settle(app, pilot)
        await pilot.pause(0.1)

    async with app.run_test(size=(60, 20)) as pilot:
        app.view.show_file(str(tmp_path / "a.png"))
        await still(pilot)
        assert drawn() >= 1
        (column, row) = map(int, re.findall(r"\x1b\[(\d+);(\d+)H\x1bP", wire.said[-1])[0])
        size = re.search(r'"1;1;(\d+);(\d+)', wire.said[-1])
        assert size is not None and (int(size[1]) % 8, int(size[2]) % 17) == (0, 0), "whole cells"
        assert int(size[1]) // 8 + row - 1 <= 60 and column == 1
        before = drawn()
        await app.push_screen(Dialog())
        await still(pilot)
        app.view.refresh()
        await still(pilot)
        assert drawn() == before, "not over a dialog"
        await app.pop_screen()
        await still(pilot)
        assert drawn() == before + 1
        app.view.show_pixels(noise(64, 64))
        await still(pilot)
        assert drawn() == before + 1, "previews are half-blocks"


def test_sixels_choose_a_colour_when_they_define_it_and_fill_their_room() -> None:
    drawn = sixels.encode(flat((200, 30, 30), 40, 40), (40, 40), (48, 51), (0, 0, 0))
    assert drawn.startswith('\x1bP0;0;0q"1;1;48;51') and drawn.endswith("\x1b\\")
    defined = re.findall(r"#(\d+);2;\d+;\d+;\d+(#\d+)?", drawn)
    assert len(defined) == 2 and all(choice == f"#{number}" for number, choice in defined)
    assert sixels.at(4, 2, "S") == "\x1b[?2026h\x1b7\x1b[3;5HS\x1b8\x1b[?2026l"


@pytest.mark.parametrize(
    ("name", "tmux", "true"),
    [
        ("XTerm(379)", None, True), ("XTerm(330)", None, False), ("WezTerm 20240203-110809", None, True),
        ("foot(1.16.2)", None, True), ("iTerm2 3.5.0", None, True), ("VTE(7600)", None, True),
        ("VTE(3400)", None, False), ("kitty(0.26.5)", None, True), ("", None, False), ("unheard-of(7)", None, False),
        ("tmux 3.5a", Tmux("3.5a", False, "xterm-256color", ("256", "RGB")), True),
        ("tmux 3.5a", Tmux("3.5a", False, "xterm-256color", ("256",)), False),
    ],
)  # fmt: skip
def test_who_shows_all_colours_is_told_by_its_name(name: str, tmux: Tmux | None, true: bool) -> None:
    decision = decide("auto", Answers(name=name, answered=True, tmux=tmux), {"TERM": "xterm"})
    assert decision.true_colours is true
    assert decide("sixel", Answers(name=name, answered=True, tmux=tmux), {"TERM": "xterm"}).true_colours is true


def texts(app: Shown) -> list[str]:
    return [app.view.render_line(y).text for y in range(app.view.size.height)]


async def test_nothing_is_drawn_under_sixels_but_where_something_lies_over_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Wire(monkeypatch, Decision("sixel", "", cell=(8, 17)))
    for name, size in (("a", (64, 64)), ("b", (64, 64)), ("wide", (96, 32))):
        Image.effect_noise(size, 90).convert("RGB").save(tmp_path / f"{name}.png")
    app = Shown()
    app.CSS = "#box { width: 100%; height: 15; }"
    app.view.mode = "sixel"

    def cells() -> list[object]:
        return [segment for y in range(app.view.size.height) for segment in app.view.render_line(y)]

    async with app.run_test(size=(60, 20)) as pilot:
        seen = []
        for name in ("a", "b", "wide", "a"):
            app.view.show_file(str(tmp_path / f"{name}.png"))
            await settle(app, pilot)
            await pilot.pause(0.1)
            assert not any(mark in line for line in texts(app) for mark in "▀▄█")
            assert any("\u00a0" in line for line in texts(app))
            seen.append(cells())
        assert seen[0] == seen[1], "the second covers the first"
        assert seen[1] != seen[2] and seen[2] != seen[3] and seen[0] != seen[3]
        app.view.clear("nothing")
        await settle(app, pilot)
        assert not any("\u00a0" in line for line in texts(app)), "what is there now is sent, and takes the sixels away"
        await app.push_screen(Dialog())
        app.view.show_file(str(tmp_path / "a.png"))
        await settle(app, pilot)
        assert any("▀" in line for line in texts(app)), "what sixels can't be drawn for is seen all the same"


def test_a_preview_in_sixel_terminals_is_few_bytes() -> None:
    strips = coarse_strips(noise(512, 512), 76, 38)
    assert len(strips) == 38 and {strip.cell_length for strip in strips} == {76}
    assert sum(len(strip._render_cache or "") for strip in strips) < 20_000
    smooth = Pixels(64, 64, bytes(value for y in range(64) for x in range(64) for value in (x * 4, y * 4, 90)))
    assert sum(len(strip._render_cache or "") for strip in coarse_strips(smooth, 76, 38)) < 10_000
    assert [strip.cell_length for strip in coarse_strips(noise(8, 8), 7, 3)] == [6, 6, 6]


async def test_a_picture_is_drawn_over_the_preview_that_it_grew_out_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No empty cells flash between them; the next picture has nothing under it."""
    wire = Wire(monkeypatch, Decision("sixel", "", cell=(8, 17)))
    Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "a.png")
    app = Shown()
    app.CSS = "#box { width: 100%; height: 15; }"
    app.view.mode = "sixel"
    async with app.run_test(size=(60, 20)) as pilot:
        app.view.show_pixels(noise(64, 64))
        await settle(app, pilot)
        grown = [app.view.render_line(y) for y in range(app.view.size.height)]
        assert any(segment.style and segment.style.bgcolor for line in grown for segment in line)
        app.view.show_file(str(tmp_path / "a.png"))
        await settle(app, pilot)
        await pilot.pause(0.1)
        assert wire.count("\x1bP0;0;0q") == 1
        assert [app.view.render_line(y) for y in range(app.view.size.height)] == grown
        app.view.show_file(str(tmp_path / "a.png"))
        await settle(app, pilot)
        assert any("\u00a0" in line for line in texts(app))


def test_parts_of_sixels_are_the_picture() -> None:
    """Each by itself: its own size, and the colours that it chooses; in the order of its lines."""
    whole = sixels.encode(noise(200, 130), (200, 130), (200, 140), (0, 0, 0))
    some = sixels.parts(whole, 20)
    assert [row for row, _ in some] == [0, 3, 6]
    heights = [int(re.match(r'\x1bP[\d;]*q"1;1;200;(\d+)', part)[1]) for _, part in some]  # type: ignore[index]
    assert heights == [60, 60, 20]
    colours = dict(re.findall(r"#(\d+);2;([\d;]+)#", whole))

    def lines(text: str) -> list[str]:
        body = re.sub(r'^\x1bP[^"]*"[\d;]+|\x1b\\$', "", text)
        return re.sub(r"#\d+;2;\d+;\d+;\d+", "", body).split("-")

    drawn = [line for _, part in some for line in lines(part)]
    assert [line for line in drawn if line] == [line for line in lines(whole) if line]
    for _, part in some:
        defined = dict(re.findall(r"#(\d+);2;(\d+;\d+;\d+)", part))
        chosen = set(re.findall(r"#(\d+)(?!;2;)(?!\d)", part))
        assert chosen <= set(defined) and all(colours[number] == value for number, value in defined.items())
    assert sixels.parts("S", 20) == [(0, "S")]
