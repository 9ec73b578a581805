"""The contact sheet: every key, every size, what is gone, what is much."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import toasts, until
from fake_engine import NOW, FakeEngine, FakeStore, catalogue
from PIL import Image
from test_graphics import Wire
from textual import events
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widgets import Static

from engines import browsing, metadata
from engines.folders import Folders
from engines.requests import Finish, Generate, Picture, Seconds
from engines.steps import Hires, Restore
from engines.store import Made, Store
from tui.app import SafelightApp
from tui.choice import ChoiceList
from tui.contact import ContactScreen
from tui.gallery import SIZES, Drawn
from tui.pages import Pages
from tui.panes.closer import Closer
from tui.panes.contact import ContactGrid
from tui.panes.footer import KeyLine
from tui.pictures import graphics, kitty
from tui.pictures.deciding import Decision
from tui.rows import KEPT, Rows
from tui.settings import Settings

WIDE, SMALL, LEAST, LARGEST = (160, 45), (80, 24), (40, 10), (250, 70)
APPLE = Generate("a red apple", "mini", 1, 48, 48, 4, 4.5)


class Desk:
    """A workbench over a store of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.files = FakeStore(home)
        self.engine = FakeEngine(self.files)
        self.store = Store(home / "store.sqlite3")
        folders = Folders(home / "config", home / "data", home / "cache", home / "pictures")
        self.app = SafelightApp(
            self.engine, self.store, catalogue(home), folders, Settings(), sweeps=self.store, clock=lambda: NOW
        )

    def add(self, rating: int | None = None, parent: Picture | None = None, **request: Any) -> Picture:
        """A picture in its file and in the history."""
        file = self.files.add(replace(APPLE, seed=len(self.files.made) + 1, **request))
        with Image.open(file.path) as image:
            small = metadata.thumbnail(image)
        made = Made(file.path, file.request, 48, 48, Seconds(total=1.0), {}, small, file.scores, 0,
                    parent.path if parent else "")  # fmt: skip
        with self.store.transaction() as db:
            row = self.store.insert(db, 0, made, file.created)
        if rating:
            self.store.rate(row.id, rating)
        return row

    def fill(self, count: int) -> None:
        for _ in range(count):
            self.add()

    @property
    def screen(self) -> ContactScreen:
        assert isinstance(self.app.screen, ContactScreen)
        return self.app.screen

    @property
    def grid(self) -> ContactGrid:
        return self.screen.grid

    @property
    def title(self) -> str:
        return self.line("#contact-title")

    @property
    def caption(self) -> str:
        return self.line("#contact-caption")

    def line(self, selector: str) -> str:
        return str(self.screen.query_one(selector, Static).render())

    def seen(self) -> str:
        """All that stands on the grid."""
        return "\n".join("".join(s.text for s in self.grid.render_line(y)) for y in range(self.grid.size.height))


@pytest.fixture
def desk(home: Path) -> Iterator[Desk]:
    made = Desk(home)
    yield made
    made.engine.close()
    made.store.close()


async def opened(pilot: Pilot[None], desk: Desk) -> ContactGrid:
    """The sheet, when all is read."""
    await until(pilot, lambda: desk.app.workbench._ready)
    await pilot.press("alt+semicolon")
    await until(pilot, lambda: isinstance(desk.app.screen, ContactScreen) and desk.screen._counted)
    await settled(pilot, desk)
    return desk.grid


async def settled(pilot: Pilot[None], desk: Desk) -> None:
    await until(pilot, lambda: not desk.grid.busy and not list(desk.screen.workers))
    await pilot.pause()


async def press(pilot: Pilot[None], desk: Desk, *pressed: str) -> int:
    """Where the cursor is then."""
    await pilot.press(*pressed)
    await settled(pilot, desk)
    return desk.grid.cursor


# ── walking ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_arrows_and_their_letters_walk(desk: Desk) -> None:
    desk.fill(50)
    async with desk.app.run_test(size=SMALL) as pilot:
        grid = await opened(pilot, desk)
        assert grid.columns == 4 and grid.page == 2 and grid.picture is not None and grid.picture.id == 50
        assert "50 pictures · newest first" in desk.title
        for keys in (("right", "down", "left", "up"), ("l", "j", "h", "k")):
            walked = [await press(pilot, desk, key) for key in keys]
            assert walked == [1, 5, 4, 0], keys
        assert await press(pilot, desk, "left") == await press(pilot, desk, "up") == 0
        assert [await press(pilot, desk, key) for key in ("end", "home", "G", "g")] == [49, 0, 49, 0]
        assert [await press(pilot, desk, key) for key in ("pagedown", "pagedown", "pageup")] == [8, 16, 8]
        assert await press(pilot, desk, "end", "up", "right", "right") == 47
        assert await press(pilot, desk, "down") == 49, "the last line is short"
        assert await press(pilot, desk, "down") == await press(pilot, desk, "right") == 49
        top = grid.cursor // grid.columns * (grid.high + 1)
        assert grid.scroll_y <= top and top + grid.high < grid.scroll_y + grid.size.height, "in sight"
        assert await press(pilot, desk, "home") == 0 and grid.scroll_y == 0


async def test_larger_and_smaller(desk: Desk) -> None:
    desk.fill(30)
    async with desk.app.run_test(size=WIDE) as pilot:
        grid = await opened(pilot, desk)
        await press(pilot, desk, "end")
        sizes = []
        for key in ("plus", "equals_sign", "plus", "plus", "minus", "minus", "minus", "minus", "minus", "minus"):
            await press(pilot, desk, key)
            sizes.append(grid.wide)
            assert grid.cursor == 29 and all(grid.drawing(picture) for picture in grid.in_sight())
        assert sizes == [24, 36, 48, 48, 36, 24, 16, 12, 8, 8]
        await pilot.press("escape")
        assert (await opened(pilot, desk)).wide == 8, "kept"


@pytest.mark.parametrize("size", [LEAST, SMALL, WIDE, LARGEST, (20, 5)], ids=str)
async def test_sizes(desk: Desk, size: tuple[int, int]) -> None:
    desk.fill(40)
    async with desk.app.run_test(size=size) as pilot:
        grid = await opened(pilot, desk)
        assert grid.high < grid.size.height or grid.wide == SIZES[0], "a whole picture, and what stands under it"
        for _ in SIZES:
            await press(pilot, desk, "plus", "right", "end")
            for y in range(grid.size.height):
                assert grid.render_line(y).cell_length == grid.size.width
        await pilot.resize_terminal(100, 30)
        await press(pilot, desk, "home")
        assert grid.columns == (grid.size.width) // (grid.wide + 1)


async def test_the_mouse(desk: Desk) -> None:
    desk.fill(50)
    async with desk.app.run_test(size=SMALL) as pilot:
        grid = await opened(pilot, desk)
        await pilot.click(ContactGrid, offset=(2 * 17 + 3, 9 + 2))
        await settled(pilot, desk)
        assert grid.cursor == 6
        await pilot.click(ContactGrid, offset=(grid.size.width - 1, 2))
        assert grid.cursor == 6, "beside them is nothing"
        x, y = grid.region.x + 4, grid.region.y + 4
        for _ in range(4):
            grid.post_message(events.MouseScrollDown(grid, 4, 4, 0, 1, 0, False, False, False, x, y))
        await until(pilot, lambda: grid.scroll_y > 0)
        assert grid.cursor == 6
        await press(pilot, desk, "home")
        await pilot.click(ContactGrid, offset=(17 + 3, 2), times=2)
        await until(pilot, lambda: desk.app.screen is desk.app.workbench)
        await until(pilot, lambda: desk.app.workbench.shown is not None and desk.app.workbench.shown.id == 49)


# ── what is done with a picture ─────────────────────────────────────────────────────────────────────────────────────


async def test_enter_shows_it_and_the_sheet_opens_where_it_was(desk: Desk) -> None:
    desk.fill(20)
    async with desk.app.run_test(size=(50, 20)) as pilot:
        await opened(pilot, desk)
        await press(pilot, desk, "end", "left")
        await pilot.press("enter")
        workbench = desk.app.workbench
        await until(pilot, lambda: workbench.shown is not None and workbench.shown.id == 2)
        assert workbench._page == "picture", "where there is one page, it is turned to"
        grid = await opened(pilot, desk)
        assert grid.at == 2
        await press(pilot, desk, "home")
        await pilot.press("alt+semicolon")
        assert desk.app.screen is workbench and workbench.shown is not None and workbench.shown.id == 2
        assert (await opened(pilot, desk)).at == 20, "where it was left"
        await pilot.press("q")
        workbench.show_one(desk.store.picture(7))
        assert (await opened(pilot, desk)).at == 7, "another picture is shown since"
        await pilot.press("escape")
        assert desk.app.screen is workbench


async def test_settings_and_path(desk: Desk) -> None:
    desk.fill(5)
    file = replace(APPLE, prompt="", model="")
    desk.add(prompt=file.prompt, model=file.model)
    async with desk.app.run_test(size=WIDE) as pilot:
        await opened(pilot, desk)
        await press(pilot, desk, "t")
        assert "no settings to take" in toasts(desk.app) and desk.screen.is_attached
        await press(pilot, desk, "right", "y")
        assert desk.app.clipboard.endswith("picture-5.png")
        await pilot.press("t")
        await until(pilot, lambda: desk.app.screen is desk.app.workbench)
        await until(pilot, lambda: desk.app.workbench.draft.seed == "5")
        assert desk.app.workbench.draft.prompt == "a red apple"


async def test_stars(desk: Desk) -> None:
    desk.fill(5)
    async with desk.app.run_test(size=WIDE) as pilot:
        await opened(pilot, desk)
        for stars in "12345":
            await press(pilot, desk, stars)
            assert desk.store.picture(5).rating == int(stars)
        assert "★★★★★" in desk.seen() and "★★★★★" in desk.caption
        await press(pilot, desk, "right", "3", "left", "0")
        assert desk.store.picture(5).rating is None and desk.store.picture(4).rating == 3
        assert "★★★★" not in desk.seen()
        row = desk.app.workbench.history._pages.at(1)
        assert row is not None and row.rating == 3, "the history's row has them, too"


async def test_a_closer_look_and_finishing(desk: Desk) -> None:
    base = desk.add()
    desk.add(finish=(Hires(2.0, 0.4),), parent=base)
    async with desk.app.run_test(size=WIDE) as pilot:
        await opened(pilot, desk)
        assert "hires x2 at 0.4 · of picture 1" in desk.caption
        for key in ("space", "z"):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(desk.app.screen, Closer))
            assert len(desk.app.screen._looks) == 2, "what it was made of lies under it"  # type: ignore[attr-defined]
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(desk.app.screen, ContactScreen))
        for key in ("H", "f12", "f", "f9"):
            await pilot.press(key)
            await until(pilot, lambda: desk.engine.submitted or "Mend" in str(desk.app.screen))
            if isinstance(desk.app.screen, ContactScreen):
                finish = desk.engine.submitted.pop()
                assert isinstance(finish, Finish) and isinstance(finish.finish[0], Hires | Restore), key
        await until(pilot, lambda: not isinstance(desk.app.screen, ContactScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(desk.app.screen, ContactScreen))
        for key in ("u", "f5"):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(desk.app.screen, ChoiceList))
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(desk.app.screen, ContactScreen))


async def test_marked_ones_are_flipped_in_one_place(desk: Desk) -> None:
    desk.fill(6)
    async with desk.app.run_test(size=WIDE) as pilot:
        await opened(pilot, desk)
        await press(pilot, desk, "c")
        assert "marks pictures" in toasts(desk.app)
        await press(pilot, desk, "m")
        assert "1 marked" in desk.title and "●" in desk.seen()
        await press(pilot, desk, "c")
        assert isinstance(desk.app.screen, ContactScreen), "it is not compared with itself"
        await pilot.press("right", "c")
        await until(pilot, lambda: isinstance(desk.app.screen, Closer))

        def line() -> str:
            return str(desk.app.screen.query_one("#closer-line", Static).render())

        await until(pilot, lambda: "Mini seed 6 (1 of 2)" in line())
        await pilot.press("space")
        await until(pilot, lambda: "seed 6 → 5 (2 of 2)" in line())
        await pilot.press("escape")
        await press(pilot, desk, "m", "right", "m", "m", "right", "m")
        assert "3 marked" in desk.title
        await pilot.press("escape")
        await opened(pilot, desk)
        assert "3 marked" in desk.title, "kept"
        await press(pilot, desk, "M")
        assert "marked" not in desk.title and "●" not in desk.seen()


# ── words and orders ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_words_find(desk: Desk) -> None:
    for i in range(12):
        desk.add(prompt=("a red apple", "a 100% green pear")[i % 2])
    async with desk.app.run_test(size=SMALL) as pilot:
        grid = await opened(pilot, desk)
        await press(pilot, desk, "slash", *"100% MINI")
        await until(pilot, lambda: grid.total == 6)
        await press(pilot, desk, "down")
        assert grid.cursor == 4, "the arrows walk meanwhile"
        await press(pilot, desk, "enter")
        assert "6 pictures · newest first · '100% MINI'" in desk.title and grid.has_focus
        await press(pilot, desk, "slash", *"xy", "enter")
        await until(pilot, lambda: not grid.total)
        assert "No picture whose prompt" in desk.seen() and not desk.caption.strip()
        for key in ("end", "m", "c", "t", "y", "u", "f", "H", "5", "enter", "space", "pagedown"):
            await press(pilot, desk, key)
        await press(pilot, desk, "slash", "escape")
        await until(pilot, lambda: grid.total == 12)
        assert "'" not in desk.title
        await press(pilot, desk, "slash", *"pear", "enter")
        await pilot.press("escape")
        assert (await opened(pilot, desk)).total == 12 and "'" not in desk.title, "words are for one look"


async def test_orders(desk: Desk) -> None:
    for i in range(6):
        desk.add(rating=i if i % 2 else None, score="fake-clip" if i > 1 else None)
    async with desk.app.run_test(size=SMALL) as pilot:
        grid = await opened(pilot, desk)
        await press(pilot, desk, "end", "s")
        assert "by fake-clip" in desk.title and list(grid.ids) == [6, 5, 4, 3, 2, 1] and grid.cursor == 0
        desk.store.add_scores(desk.files.made[0].path, {"fake-clip": 99.0})
        await press(pilot, desk, "s")
        assert "by stars" in desk.title and list(grid.ids) == [6, 4, 2, 5, 3, 1]
        await press(pilot, desk, "s")
        assert "newest first" in desk.title
        await press(pilot, desk, "s")
        assert grid.at == 1 and "99.0" in desk.seen()


# ── what is not as it should be ─────────────────────────────────────────────────────────────────────────────────────


async def test_an_empty_history_says_what_to_do(desk: Desk) -> None:
    async with desk.app.run_test(size=LEAST) as pilot:
        grid = await opened(pilot, desk)
        assert "No pictures yet." in desk.seen() and "0 pictures" in desk.title
        for key in ("right", "end", "m", "s", "4", "enter", "t"):
            await press(pilot, desk, key)
        desk.add()
        desk.screen._newest = -1
        await desk.screen._look_again()
        await until(pilot, lambda: grid.total == 1 and grid.picture)


async def test_deleted_and_damaged_files_say_so(desk: Desk) -> None:
    desk.fill(4)
    Path(desk.files.made[3].path).unlink()
    Path(desk.files.made[2].path).write_bytes(b"no picture")
    with desk.store.transaction() as db:
        db.execute("UPDATE pictures SET request = '{' WHERE id = 2")
    async with desk.app.run_test(size=SMALL) as pilot:
        grid = await opened(pilot, desk)
        seen = desk.seen()
        assert "deleted" in seen and seen.count("damaged") == 2
        await pilot.press("space")
        await until(pilot, lambda: isinstance(desk.app.screen, Closer))
        await until(pilot, lambda: "the file is gone" in desk.app.screen.query_one("#closer-view")._message)  # type: ignore[attr-defined]
        await pilot.press("escape")
        await press(pilot, desk, "right", "right", "enter", "t", "4", "m")
        assert grid.cursor == 2 and grid.picture is None, "nothing is done to what can't be read"


async def test_what_is_made_meanwhile_comes_in(desk: Desk) -> None:
    desk.fill(10)
    async with desk.app.run_test(size=SMALL) as pilot:
        grid = await opened(pilot, desk)
        desk.add()
        await desk.screen._look_again()
        await until(pilot, lambda: grid.total == 11)
        assert grid.at == 11, "on top it stays on top"
        await press(pilot, desk, "right", "right")
        desk.add()
        await desk.screen._look_again()
        await until(pilot, lambda: grid.total == 12)
        assert grid.at == 9, "and anywhere else on its picture"


# ── much ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_hundred_thousand(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.fill(1)
    row = desk.store.query("SELECT * FROM pictures")[0]
    names = [name for name in row.keys() if name != "id"]  # noqa: SIM118 - a row's own names
    with desk.store.transaction() as db:
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99999) "
            f"INSERT INTO pictures ({', '.join(names)}) SELECT {', '.join(names)} FROM pictures, n"
        )
    asked: list[int] = []
    some = browsing.some
    monkeypatch.setattr(browsing, "some", lambda store, ids: (asked.extend(ids), some(store, ids))[1])
    async with desk.app.run_test(size=WIDE) as pilot:
        began = time.monotonic()
        grid = await opened(pilot, desk)
        assert grid.total == 100_000 and time.monotonic() - began < 5
        assert "100,000 pictures" in desk.title
        assert await press(pilot, desk, "end") == 99_999 and grid.picture is not None and grid.picture.id == 1
        await press(pilot, desk, "home")
        assert len(asked) < 300, "what is in sight, here and there"
        for _ in range(6):
            await press(pilot, desk, "pagedown")
        assert len(grid._rows._kept) <= KEPT
        assert sum(SIZES[step] ** 2 // 2 for _, step in grid._drawn) <= 60_000


def test_rows_in_sight_are_never_dropped() -> None:
    rows = Rows()
    rows.ids.extend(range(1, 5001))
    seen: set[int] = set()
    while wanted := rows.wanted(0, 1999, 4000):
        assert not seen & set(wanted), "nothing is read twice"
        seen.update(wanted)
        found = [Picture(id, "", APPLE, 1, 1, Seconds(), 0.0) for id in wanted if id != 7]
        rows.add(wanted, found, 2000)
    assert len(seen) == 2001 and rows.is_broken(6) and rows.at(6) is None and rows.at(4000) is not None


# ── the terminal's own pictures ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_kitty_is_sent_what_is_in_sight_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(monkeypatch, Decision("kitty", "", cell=(10, 20)))
    desk.fill(60)
    Path(desk.files.made[58].path).write_bytes(b"no picture")
    async with desk.app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: desk.app.workbench._ready)
        before = dict(wire.terminal.uploads.counts)
        grid = await opened(pilot, desk)

        def sent() -> int:
            return wire.terminal.uploads.counts["uploads"] - before["uploads"]

        seen = grid.in_sight()
        assert len(seen) >= 12 and sent() == len(seen) - 1, "a damaged one is not"
        assert "damaged" in desk.seen()
        assert all(isinstance(one := grid.drawing(p), Drawn) and (one.number or one.lost) for p in seen)
        assert desk.seen().count(kitty.PLACEHOLDER) > 7 * 16 * 8
        assert max(map(len, wire.said)) < 4 * 30_000
        count = sent()
        await press(pilot, desk, "right", "m", "5", "f1", "escape")
        assert sent() == count, "sent once"
        await press(pilot, desk, "pagedown", "pagedown")
        there = sent()
        assert there > count
        await press(pilot, desk, "pageup")
        assert sent() == there, "the terminal keeps a screenful more"
        for _ in range(5):
            await press(pilot, desk, "pagedown")
        assert len(grid._sent) <= 2 * len(grid.in_sight()) + 4
        wire.terminal.uploads.lose()
        grid.refresh()
        await until(pilot, lambda: all(grid._stands(p) for p in grid.in_sight()))
        await press(pilot, desk, "minus")
        assert all((one := grid.drawing(p)) and one.number for p in grid.in_sight())
        await pilot.press("escape")
        await pilot.pause()
        kept = [key for key in wire.terminal.uploads._sent if isinstance(key, tuple) and key[0] is grid]
        assert not kept, "nothing is left in the terminal"


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_palette_and_the_help_know_it(desk: Desk) -> None:
    desk.fill(1)
    async with desk.app.run_test(size=WIDE) as pilot:
        titles = [command.title for command in desk.app.get_system_commands(desk.app.screen)]
        assert "contact sheet · alt+; or shift+f7" in titles
        await opened(pilot, desk)
        titles = [command.title for command in desk.app.get_system_commands(desk.app.screen)]
        assert "compare · c" in titles and "sort · s" in titles and "make · ctrl+g" not in titles
        await pilot.press("f1")
        help = str(desk.app.screen.query_one("Static").render())  # type: ignore[attr-defined]
        assert help.startswith("On the contact sheet")


def test_orders_are_read_from_the_store(desk: Desk) -> None:
    assert list(browsing.order(desk.store)) == [] and browsing.newest(desk.store) == 0
    assert browsing.orders(desk.store) == ("", "stars")
    desk.add(prompt="a_b")
    desk.add(prompt="axb", score="fake-clip")
    assert list(browsing.order(desk.store, "", "a_b")) == [1] and list(browsing.first(desk.store, 1)) == [2]
    assert list(browsing.order(desk.store, "score fake-clip", "mini a")) == [2, 1]
    assert list(browsing.order(desk.store, "score nobody")) == [2, 1]
    assert [p.id for p in browsing.some(desk.store, [2, 77])] == [2] and browsing.newest(desk.store) == 2


async def test_a_terminal_that_is_behind_is_left_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(monkeypatch, Decision("kitty", "", cell=(10, 20)))
    behind = True
    monkeypatch.setattr(graphics.Graphics, "busy", staticmethod(lambda app: behind))
    desk.fill(8)
    async with desk.app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: desk.app.workbench._ready)
        await pilot.press("alt+semicolon")
        await until(pilot, lambda: isinstance(desk.app.screen, ContactScreen) and desk.screen._counted)
        grid = desk.grid
        await until(pilot, lambda: all(grid.drawing(picture) for picture in grid.in_sight()))
        drawn: list[tuple[Region, ...]] = []
        refresh = grid.refresh
        monkeypatch.setattr(grid, "refresh", lambda *cells, **rest: (drawn.append(cells), refresh(*cells, **rest))[1])
        await pilot.pause(0.3)
        assert not drawn and not wire.count("a=T") and grid.busy
        await pilot.press("right")
        assert [len(cells) for cells in drawn] == [2], "the cursor was there, and is here"
        behind = False
        await settled(pilot, desk)
        assert wire.count("a=T") == 8 and all(drawn), "never the whole screen"


async def test_the_line_of_keys_is_clicked(desk: Desk) -> None:
    desk.fill(3)
    async with desk.app.run_test(size=SMALL) as pilot:
        await opened(pilot, desk)
        line = str(desk.screen.query_one(KeyLine).render())
        await pilot.click(KeyLine, offset=(line.index("sort") + 1, 0))
        await settled(pilot, desk)
        assert "by " in desk.title
        await pilot.click(KeyLine, offset=(line.index("close") + 1, 0))
        await until(pilot, lambda: desk.app.screen is desk.app.workbench)


async def test_stars_that_are_given_last_are_kept_though_the_sheet_is_closed_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.fill(3)
    rate = desk.store.rate

    def slowly(id: int, rating: int | None) -> None:
        time.sleep(0.3)
        rate(id, rating)

    monkeypatch.setattr(desk.store, "rate", slowly)
    async with desk.app.run_test(size=SMALL) as pilot:
        await opened(pilot, desk)
        await pilot.press("3", "5", "escape")
        await until(pilot, lambda: not isinstance(desk.app.screen, ContactScreen))
        await until(pilot, lambda: desk.store.pictures()[0].rating == 5)


async def test_what_is_shown_after_a_compare_is_under_the_cursor_of_the_history(desk: Desk) -> None:
    desk.fill(8)
    async with desk.app.run_test(size=WIDE) as pilot:
        bench = desk.app.workbench
        await until(pilot, lambda: bench.shown is not None and bench.history.chosen is not None)
        await opened(pilot, desk)
        await press(pilot, desk, "m", "right", "right", "right", "m")
        await pilot.press("c")
        await until(pilot, lambda: isinstance(desk.app.screen, Closer))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(desk.app.screen, ContactScreen))
        await pilot.press("enter")
        await until(pilot, lambda: bench.shown is not None and bench.shown.id == 5)
        await until(pilot, lambda: bench.history.chosen is not None and bench.history.chosen.id == 5)
        await pilot.press("alt+r")  # the one before it, in its place
        await until(pilot, lambda: bench.shown is not None and bench.shown.id == 8)
        await until(pilot, lambda: bench.history.chosen is not None and bench.history.chosen.id == 8)


async def test_the_history_goes_down_to_a_picture_that_it_has_not_read(desk: Desk) -> None:
    first = desk.add()
    with desk.store.transaction() as db:
        columns = "job_id, path, request, prompt, model, seed, width, height, seconds, made_with, created, thumbnail"
        many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700)"
        db.execute(f"{many} INSERT INTO pictures ({columns}) SELECT {columns} FROM pictures, n")
    async with desk.app.run_test(size=WIDE) as pilot:
        history = desk.app.workbench.history
        await until(pilot, lambda: history.chosen is not None)
        assert history._pages.known < 200
        history.seek(first.id)
        await until(pilot, lambda: history.chosen is not None and history.chosen.id == first.id)
        assert history._cursor == 700
        history.follow()
        history._pages = Pages()
        await history._begin()
        history.seek(first.id)
        history.action_move(1)  # whoever walks meanwhile is not taken away
        await until(pilot, lambda: not list(pilot.app.workers))
        assert history._cursor == 1


async def test_a_picture_that_is_gone_says_in_the_close_look_how_to_go_back(desk: Desk) -> None:
    Path(desk.add().path).unlink()
    async with desk.app.run_test(size=SMALL) as pilot:
        await opened(pilot, desk)
        await pilot.press("z")
        await until(pilot, lambda: isinstance(desk.app.screen, Closer))
        line = desk.app.screen.query_one("#closer-line", Static)
        await until(pilot, lambda: "esc closes" in str(line.render()))
