"""settings.toml: each setting told once, read line by line, written without losing a comment; and its commands."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import threading
import tomllib
from pathlib import Path

import forked
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import InvalidRequest, StorageError
from tui import keys, settings, settings_file, theme_files
from tui.settings import BY_NAME, OPTIONS, Option, Settings
from tui.settings_file import change, changed
from tui.wishes import Wishes

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
FILE = '''# my settings

theme = "paper"  # for the train
unknown = 3
file_name = """\\
{date}-{seed}"""

# keys of my own
[keys]
# as in the other program
make = "f9"   # with one finger

[other]
x = 1
'''


def safelight(*arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run(arguments)


# ── told once ───────────────────────────────────────────────────────────────────────────────────────────────────────


def row(option: Option) -> str:
    """What the README has of it."""
    takes = ""
    if option.choices:
        takes = " " + ", ".join(f"`{choice}`" for choice in option.choices) + "."
    elif option.least is not None:
        takes = f" {option.takes[0].upper()}{option.takes[1:]}."
    acts = "at once" if option.at_once else "at the next start"
    return f"| `{option.name}` | `{json.dumps(option.default)}` | {option.sentence}{takes} | {acts} |"


def test_the_readme_has_every_setting_as_it_is() -> None:
    table = README.partition("| setting | default |")[2].partition("\n\n")[0].splitlines()
    assert [line for line in table if line.startswith("| `") and "[keys]" not in line] == [row(o) for o in OPTIONS]


def test_every_setting_tells_all_of_itself() -> None:
    assert [o.name for o in OPTIONS] == [n for n in Settings.__dataclass_fields__ if n not in ("keys", "given")]
    for option in OPTIONS:
        assert option.group in settings.GROUPS and option.sentence.endswith("."), option.name
        assert option.of_kind(option.default) and not option.wrong(option.default), option.name
        assert getattr(Settings(), option.name) == option.default == option.read(option.text(option.default))
        assert (option.kind == "choice") == bool(option.choices)
        assert (option.least is None) == (option.kind not in ("whole", "number")) == (option.most is None)


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("score", "off", False), ("score", "TRUE", True), ("threads", " 4 ", 4), ("probe_seconds", "2", 2.0),
        ("device", "cuda:1", "cuda:1"), ("device", "", ""), ("notify", "osc9", "osc9"), ("notify_after", "3600", 3600),
    ],
)  # fmt: skip
def test_what_is_typed_is_read(name: str, typed: str, value: object) -> None:
    read = BY_NAME[name].read(typed)
    assert read == value and type(read) is type(BY_NAME[name].default)


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("score", "2"), ("threads", "1.5"), ("threads", "-1"), ("threads", "1025"), ("probe_seconds", "nan"),
        ("probe_seconds", "inf"), ("probe_seconds", "0.05"), ("probe_seconds", "fast"), ("device", "gpu"),
        ("precision", "fp7"), ("notify", "loud"), ("notify_after", "3601"), ("file_name", "{prompt}"),
        ("file_name", " "), ("folder", "a\x1b[31mb"), ("folder", "a\nb"), ("folder", "x" * 2000),
    ],
)  # fmt: skip
def test_what_cannot_be_says_why(name: str, typed: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        BY_NAME[name].read(typed)
    assert name in caught.value.message and caught.value.hint and "\x1b" not in caught.value.message


def test_a_bad_line_is_named_and_the_rest_holds(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('notify = "loud"\nprobe_seconds = 2\nnotify_after = true\ntitle = false\nkeys = 3\nx = 1\n')
    read = settings.look(path)
    assert read.settings == Settings(probe_seconds=2.0, title=False)
    assert type(read.settings.probe_seconds) is float and {"probe_seconds", "title"} <= read.named
    assert [p.removeprefix(f"{path}: ") for p in read.problems] == [
        "notify can't be 'loud': it is auto, bell, osc9, osc777 or off", "notify_after must be a whole number",
        "keys must be a table", "no setting is called 'x'",
    ]  # fmt: skip


def test_an_older_file_holds(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('pictures = "textual-image"\n')
    assert settings.load(tmp_path / "s.toml") == (Settings(pictures="textual-image"), ())


# ── written ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_line_is_changed_and_all_others_stay() -> None:
    made = changed(FILE, "theme", "nordic")
    assert made == FILE.replace('"paper"', '"nordic"')
    made = changed(FILE, "threads", 3)
    assert made == FILE.replace('{seed}"""\n', '{seed}"""\nthreads = 3\n')
    made = changed(FILE, "keys.quit", "f10")
    assert made == FILE.replace("one finger\n", 'one finger\nquit = "f10"\n')
    assert changed(FILE, "score", None) == FILE == changed(FILE, "keys.quit", None)


def test_what_was_said_beside_a_line_outlives_it() -> None:
    assert changed(FILE, "theme", None) == FILE.replace('theme = "paper"  #', "#")
    assert changed(FILE, "keys.make", None) == FILE.replace('make = "f9"   #', "#")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "score = false\n"),
        ("# only a comment", "# only a comment\nscore = false\n"),
        ("# of keys\n[keys]\nmake = 'f9'\n", "score = false\n# of keys\n[keys]\nmake = 'f9'\n"),
        ("threads = 1\r\n# end\r\n", "threads = 1\r\nscore = false\r\n# end\r\n"),
        ("threads = 1\n\n[keys]\nmake = 'f9'", "threads = 1\nscore = false\n\n[keys]\nmake = 'f9'"),
        ("keys.make = 'f9'\n", "keys.make = 'f9'\nscore = false\n"),
        ("keys = {make = 'f9'}\n[a]\n[a.b]\n", "keys = {make = 'f9'}\nscore = false\n[a]\n[a.b]\n"),
        ("score=true#x", "score=false#x"),
        ('a = """\n[b]\n"""', 'a = """\n[b]\n"""\nscore = false\n'),
    ],
)
def test_where_a_line_goes(before: str, after: str) -> None:
    assert changed(before, "score", False) == after


@pytest.mark.parametrize("before", ["", "[keys]\n", "keys = {}\n", "keys.make = 'f9'\n", "keys = {make='f9'}\n"])
def test_keys_are_written_however_their_table_is(before: str) -> None:
    made = changed(before, "keys.quit", "f10")
    assert tomllib.loads(made)["keys"]["quit"] == "f10"
    assert tomllib.loads(changed(made, "keys.quit", None)).get("keys", {}) == tomllib.loads(before).get("keys", {})


comments = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12)
lines = st.lists(
    st.one_of(
        comments.map(lambda text: f"# {text}"),
        st.just(""),
        st.sampled_from(["a = 1", "b = [\n 1, # one\n]", "c.d = 2"]),
    ),
    max_size=8, unique=True,
)  # fmt: skip


@given(lines, lines, st.sampled_from(["theme = 'x'  # beside", "", "[keys]\nmake = 'f9' # beside", "[[z]]\ny = 1"]))
def test_no_comment_is_ever_lost(above: list[str], below: list[str], middle: str) -> None:
    text = "\n".join([*above, middle, *(line for line in below if line.startswith("#"))])
    kept = [line.partition("#")[2].strip() for line in text.splitlines() if "#" in line]
    for name, value in (("theme", "nordic"), ("score", False), ("keys.make", "f5")):
        for wanted in (value, None):
            made = changed(text, name, wanted)
            assert [line.partition("#")[2].strip() for line in made.splitlines() if "#" in line] == kept, (text, made)


def test_a_broken_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    for broken in (b"theme = ", b"theme = '\xff'", b"keys = 3"):
        path.write_bytes(broken)
        with pytest.raises(InvalidRequest):
            change(path, "keys.make", "f9")
        assert path.read_bytes() == broken
    assert os.listdir(tmp_path) == ["settings.toml"]


def test_it_is_written_whole_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config" / "settings.toml"
    change(path, "theme", "paper")
    assert path.read_text() == 'theme = "paper"\n' and stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    change(path, "theme", "forest")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and os.listdir(path.parent) == ["settings.toml"]

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError):
        change(path, "theme", "nordic")
    assert path.read_text() == 'theme = "forest"\n' and os.listdir(path.parent) == ["settings.toml"]


def test_a_link_into_somebodys_dotfiles_stays_one(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "dotfiles" / "s.toml").write_text("# mine\n")
    link = tmp_path / "settings.toml"
    link.symlink_to("dotfiles/s.toml")
    change(link, "title", False)
    assert link.is_symlink() and (tmp_path / "dotfiles" / "s.toml").read_text() == "# mine\ntitle = false\n"


def test_what_an_editor_saves_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("threads = 1\n")
    plain, saved = settings_file.changed, []

    def slow(text: str, name: str, value: settings.Value | None) -> str:
        if not saved:
            saved.append(path.write_text("threads = 2 # by hand\n"))
        return plain(text, name, value)

    monkeypatch.setattr(settings_file, "changed", slow)
    change(path, "title", False)
    assert path.read_text() == "threads = 2 # by hand\ntitle = false\n"


def test_of_many_that_write_at_once_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    names = [f"keys.{action.id}" for action in keys.TABLE[:12]]
    threads = [threading.Thread(target=change, args=(path, name, "f12")) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(settings.look(path).settings.keys) == len(names)


# ── where a value comes from ────────────────────────────────────────────────────────────────────────────────────────


def test_origins(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('device = "cuda"\npictures = "sixel"\ntheme = "paper"\n')
    now = Settings(device="cpu", given=("device",), pictures="sixel", theme="paper")
    wishes = Wishes(now, path, {"SAFELIGHT_PICTURES": "kitty"})
    assert wishes.learn(settings.look(path)) == ()
    told = {o.name: (wishes.value(o), wishes.origin(o)) for o in OPTIONS}
    assert told["device"] == ("cpu", "command line") and told["pictures"] == ("kitty", "environment")
    assert told["theme"] == ("paper", "file") and told["threads"] == (0, "default")
    assert not any(wishes.waits(option) for option in OPTIONS)

    assert wishes.take("threads", 3) == () and wishes.waits(BY_NAME["threads"]) and wishes.now.threads == 0
    assert wishes.take("title", False) == ("title",) and wishes.now.title is False
    wishes.not_written("title")
    wishes.borrow("theme", "forest")
    assert wishes.learn(settings.look(path)) == ()  # the file has neither, and both hold
    assert (wishes.now.title, wishes.now.theme) == (False, "forest")
    assert wishes.origin(BY_NAME["title"]) == "this session" == wishes.origin(BY_NAME["theme"])

    path.write_text("theme = ")
    assert wishes.learn(settings.look(path)) == () and wishes.now.theme == "forest"


# ── the commands ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_setting_is_set_and_unset_from_the_shell(home: Path) -> None:
    path = home / "config" / "settings.toml"
    assert safelight("settings", "path").stdout == f"{path}\n"
    assert safelight("settings", "get", "theme").stdout == "safelight-dark\n"
    path.parent.mkdir()
    path.write_text(FILE)
    done = safelight("settings", "set", "theme", "nordic")
    assert (done.returncode, done.stdout) == (0, "theme = nordic (file)\n"), done.stderr
    assert path.read_text() == FILE.replace('"paper"', '"nordic"')
    done = safelight("settings", "get", "theme", "--json")
    assert {"name": "theme", "value": "nordic", "from": "file"}.items() <= json.loads(done.stdout).items()
    assert "no setting is called 'unknown'" in done.stderr
    assert safelight("settings", "get", "keys.make").stdout == "f9\n"
    assert json.loads(safelight("settings", "unset", "keys.make", "--json").stdout) == {
        "name": "keys.make",
        "value": None,
    }
    assert "with one finger" in path.read_text() and "f9" not in path.read_text()
    listed = [json.loads(line) for line in safelight("settings", "list", "--json").stdout.splitlines()]
    assert [one["name"] for one in listed] == [*BY_NAME, "keys"]
    shown = safelight("settings", "list").stdout
    assert all(option.name in shown for option in OPTIONS)


@pytest.mark.parametrize(
    ("arguments", "says", "hint"),
    [
        (("set", "theme", "papre"), "no theme 'papre'", "paper"),
        (("set", "threads", "many"), "threads can't be 'many'", "whole number from 0 to 1024"),
        (("set", "them", "paper"), "no setting is called 'them'", "theme"),
        (("set", "model", "mni"), "mni", "mini"),
        (("set", "keys.make", "f9"), "keys", "[keys]"),
        (("get", "keys.make"), "keys.make", "list"),
        (("unset", "notifi"), "notifi", "notify"),
    ],
)
def test_what_is_typed_wrong_ends_with_2(home: Path, arguments: tuple[str, ...], says: str, hint: str) -> None:
    done = safelight("settings", *arguments)
    error, told = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert error.startswith("error: ") and says in error and told.startswith("hint: ") and hint in told
    assert not (home / "config" / "settings.toml").exists()


def test_a_folder_that_cannot_be_written_ends_with_1(home: Path) -> None:
    (home / "config").write_text("a file")
    done = safelight("settings", "set", "title", "off")
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "hint: " in done.stderr


def test_themes_have_their_names_without_textual(tmp_path: Path) -> None:
    from tui import palette

    (tmp_path / "mine.toml").write_text("")
    shipped = [theme.name for theme in palette.load_themes()[0]]
    assert sorted(theme_files.names(tmp_path)) == sorted([*shipped, "mine"])


def test_the_terminal_is_asked_as_long_as_the_setting_says() -> None:
    import pty
    import time

    from tui.pictures.asking import Asking

    master, slave = pty.openpty()
    try:
        asked = Asking(slave, slave, {"TERM": "xterm"}, patience=30)
        began = time.monotonic()
        asked.wait(0.1)
        assert not asked.finish().answered and time.monotonic() - began < 5
    finally:
        os.close(master)
        os.close(slave)
