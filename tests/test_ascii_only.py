"""The workbench in ASCII: decided by locale, terminal and wish; every sign in its cells."""

from __future__ import annotations

import pytest
from driving import Bench, until, write
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui import lettering
from tui.ascii_only import plain
from tui.pictures import asking
from tui.signs import DRAWN

C, POSIX, UTF8, LATIN = {"LC_ALL": "C"}, {"LC_CTYPE": "C.UTF-8"}, {"LANG": "de_DE.UTF-8"}, {"LANG": "de_DE@euro"}


@pytest.mark.parametrize(
    ("environment", "told", "ascii"),
    [
        (UTF8, None, False),
        (UTF8, False, True),  # tmux says so of a client
        (C, None, True),
        (C, True, False),
        (C, False, True),
        (LATIN, None, True),
        (POSIX, None, False),  # a container: nothing is set, and nothing was answered
        (POSIX, False, True),
        ({**C, "SAFELIGHT_ASCII": "0"}, False, False),
        ({**UTF8, "SAFELIGHT_ASCII": "1"}, True, True),
        ({**UTF8, "SAFELIGHT_ASCII": "yes"}, None, False),
    ],
)
def test_what_is_decided(environment: dict[str, str], told: bool | None, ascii: bool) -> None:
    found = lettering.decide(environment, told)
    assert found.ascii == ascii and found.why


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        (UTF8, False),
        (C, True),
        (LATIN, True),
        (POSIX, True),
        ({**C, "TMUX": "x"}, False),
        ({**C, "SAFELIGHT_ASCII": "1"}, False),
    ],
)
def test_a_terminal_is_asked_where_the_locale_does_not_say(environment: dict[str, str], asked: bool) -> None:
    assert (asking.LETTER in asking.questions({"TERM": "xterm", **environment})) == asked


def test_what_it_answers() -> None:
    known, unknown = b"\x1b[5;1R\x1b[5;2Rabc\x1b[?62c", b"\x1b[5;1R\x1b[5;3R\x1b[?62c"
    assert asking.understood(known).utf8 is True and asking.understood(known).typed == "abc"
    assert asking.understood(unknown).utf8 is False
    key = asking.understood(b"\x1b[1;2R\x1b[?62c")  # shift with F3
    assert key.utf8 is None and key.typed == "\x1b[1;2R"
    inside = asking.understood(b"", asking.tmux("3.5a|off|xterm|x|10x20|/dev/pts/1|0"))
    assert inside.knows_utf8 is False and asking.tmux("3.3a|||").utf8 is None


def test_every_sign_is_one_cell_and_one_of_ascii() -> None:
    for signs, sign in DRAWN.items():
        assert len(sign) == 1 and sign.isascii() and sign.isprintable()
        assert all(cell_len(one) == 1 for one in signs)


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=30))
def test_any_line_stays_in_its_cells(text: str) -> None:
    assert plain(text).isascii() and len(plain(text)) == cell_len(text)


def test_examples() -> None:
    assert plain("▌a réd applé … ─━ · ●○ ▾") == ">a red apple ~ -= - *o v"
    assert plain("木 👩‍🎨 Ａ ﬁ") == "?? ?? A  f"


async def test_a_picture_is_made_in_ascii_and_the_states_differ(home: object) -> None:
    from test_hostile_text import lines_of  # what the terminal is sent

    bench = Bench(home)  # type: ignore[arg-type]
    bench.app.plain = True
    async with bench.app.run_test(size=(132, 30)) as pilot:
        write(bench, "a réd apple, 木")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: bench.store.made and bench.app.workbench.shown)
        await pilot.pause(0.3)
        lines = lines_of(bench.app)
    text = "\n".join(lines)
    assert text.isascii() and all(len(line) == 132 for line in lines)
    assert "a red apple, ??" in text and "===" in text and "---" in text
    assert any(set("#%@*+") & set(line[50:90]) for line in lines[5:20]), "the picture is of characters"
