"""Line mode: what is typed, what it says, and that nothing it says moves a cursor."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import forked
import pytest
from fake_engine import FakeEngine, FakeStore, catalogue
from test_terminal import Terminal, terminals  # noqa: F401

from engines import folders
from engines.errors import InvalidRequest, SafelightError
from engines.events import Event, Noted
from engines.requests import Finish, Generate, Job, Picture, Pull, Warm
from tui.draft import Draft
from tui.drafts import DraftFile
from tui.plain import commands as plain_commands
from tui.plain import form as plain_form
from tui.plain import opening as plain
from tui.plain import voice as plain_voice
from tui.plain.bench import Bench
from tui.plain.reading import Lines
from tui.plain.voice import Voice
from tui.plain.work import Work
from tui.session import Session
from tui.settings import Settings

FAST = "mini-lightning-2step-lora"


class History(FakeStore):
    """The fake store, with what line mode asks besides."""

    def picture(self, id: int) -> Picture:
        if not 1 <= id <= len(self.made):
            raise InvalidRequest(f"no picture {id} in the history")
        return self.made[id - 1]

    def last(self) -> Picture:
        return self.picture(len(self.made))

    def rate(self, id: int, rating: int | None) -> None:
        self.made[id - 1] = replace(self.picture(id), rating=rating)

    def queued(self) -> list[Job]:
        return [Job(4, Generate("a pear", "mini", 9, 128, 128, 4, 4.5), None, 0.0), Job(5, Warm("mini"), None, 0.0)]


class Desk:
    """Line mode over the fake engine, reading from a descriptor."""

    def __init__(self, home: Path, source: int, **engine: Any) -> None:
        self.store = History(home)
        self.store.add(Generate("an old tree", "mini", 3, 128, 128, 4, 4.5, negative_prompt="fog", score="fake-clip"))
        self.engine = FakeEngine(self.store, **engine)
        self.lines = Lines(source)
        self.voice = Voice()
        work = Work(self.engine, self.lines, self.voice)
        default = Draft(model="mini", score="no", seed="7")
        self.file = DraftFile(home / "data")
        self.bench = Bench(work, self.store, catalogue(home), self.lines, self.voice, default)

    def run(self) -> int:
        try:
            return plain.run(self.bench, self.lines, self.file)
        finally:
            self.file.close()
            self.engine.close()

    @property
    def made(self) -> list[Generate]:
        return [r for r in self.engine.submitted if isinstance(r, Generate)]


@pytest.fixture
def script(home: Path) -> Iterator[Callable[..., Desk]]:
    """A desk after it has read some lines, of which the last is not ended."""
    opened: list[int] = []

    def run(*lines: str, code: int = 0, told: Event | None = None, **engine: Any) -> Desk:
        (home / "script").write_text("\n".join(lines))
        opened.append(os.open(home / "script", os.O_RDONLY))
        desk = Desk(home, opened[-1], **engine)
        if told is not None:
            desk.engine.tell(told)
        assert desk.run() == code
        return desk

    yield run
    for source in opened:
        os.close(source)


class Typist:
    """Somebody at a terminal, in a thread of its own; what is said is read from pytest's capture at the end."""

    def __init__(self, home: Path, **engine: Any) -> None:
        self.master, self.slave = pty.openpty()
        self.desk = Desk(home, self.slave, **engine)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def close(self) -> None:
        for handle in (self.master, self.slave):
            os.close(handle)

    def meanwhile(self, *steps: Callable[[], object]) -> int:
        """Runs the desk while a thread does the steps one after another, each as soon as it can (True)."""
        failed: list[str] = []

        def act() -> None:
            for number, step in enumerate(steps):
                deadline = time.monotonic() + 10
                while step() is False:
                    if time.monotonic() > deadline:
                        failed.append(f"step {number} never came")
                        self.type("\x04")
                        self.desk.engine.advance(1000)
                        return
                    time.sleep(0.01)

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        code = self.desk.run()
        thread.join(10)
        assert not failed, failed
        return code


@pytest.fixture
def typist(home: Path) -> Iterator[Callable[..., Typist]]:
    opened: list[Typist] = []

    def start(**engine: Any) -> Typist:
        opened.append(Typist(home, **engine))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────────

COMMANDS = [
    ("/help", "/set NAME VALUE: a setting of the form"),
    ("/help rate", "/rate ID N: your own judgement"),
    ("/help set", "guidance: a number, 0 to 100"),
    ("/make", "made 2, no prompt, seed 7, 1.6 s"),
    ("/again", "made 2, no prompt, seed "),
    ("/cancel", "nothing runs"),
    ("/queue", "4, of another program, a pear, mini, seed 9"),
    ("/model", "model: mini, here, Mini, 4 steps, guidance 4.5, 128x128"),
    ("/model qui", "model: quick, here, Quick, 2 steps exactly, guidance 0, 128x128"),
    ("/models", "far, not here, 6.9 GB, Far, 1 step, guidance 0, 128x128"),
    ("/models", "mini, here, Mini, 4 steps, guidance 4.5, 128x128, in the form"),
    ("/models loras", "pixel, here, Pixel art, words: pixel art"),
    ("/models sched", "euler, "),
    ("/models vaes", "soft-vae, here, A softer VAE"),
    ("/set", "guidance: 4.5, as the recipe says"),
    ("/set steps", "it takes a whole number"),
    ("/set steps 9", "steps: 9"),
    ("/set model quick", "model: quick, here"),
    ("/set loras pixel:0.5, glow", "loras: pixel:0.5 glow"),
    ("/set init 1", "init: /"),
    ("/set variation-strength 0.2", "variation-strength: 0.2"),
    ("/set scheduler heun", "scheduler: heun"),
    ("/unset seed", "seed: random"),
    ("/unset all", "the form is empty"),
    ("/settings", "not set: batch, loras, vae, "),
    ("/history", ", an old tree, mini, seed 3, 128x128, score 20.3"),
    ("/history 1 tree", ", an old tree"),
    ("/show", "negative: fog"),
    ("/show 1", "score: 20.3 by fake-clip"),
    ("/take 1", "the settings of 1 are in the form, its seed 3 too; /make makes it"),
    ("/rate 1 4", "1 is rated 4"),
    ("/rate last 0", "1 is not rated any more"),
    ("/upscale", "made 2, from 1, upscale by up, 128x128, score 20.3, 1.6 s"),
    ("/upscale 1 big x2", "made 2, from 1, upscale x2 by big"),
    ("/hires", "made 2, from 1, hires"),
    ("/quit", ""),
    ("/qui", ""),
]


@pytest.mark.parametrize(("line", "says"), COMMANDS)
def test_a_command_says_what_it_did(
    script: Callable[..., Desk], capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    script(line)
    out, err = capsys.readouterr()
    assert says in out and "error" not in err
    spoken = [said for said in (out + err).splitlines() if not said.startswith("/")]
    assert all(said.isascii() and said == said.strip() and "  " not in said for said in spoken)


def test_every_command_is_tested() -> None:
    assert {line.split()[0][1:] for line, _ in COMMANDS} | {"faces"} == {*plain_commands.BY_WORD, "qui"}
    for known in plain_commands.COMMANDS:
        assert known.about and plain_commands.command(known.word) is known


@pytest.mark.parametrize(
    ("line", "code", "says", "hint"),
    [
        ("/foo", 2, "no command /foo", "/help lists the commands"),
        ("/mak it", 0, "", ""),
        ("/", 2, "no command /", "/help"),
        ("/h", 2, "/h may be help or history or hires", "write more of it"),
        ("/set colour red", 2, "no setting 'colour'", "did you mean"),
        ("/set s 3", 2, "'s' may be steps or scheduler or size", ""),
        ("/set steps many", 2, "steps must be a whole number, not 'many'", "1 to"),
        ("/set size 100x100", 2, "width must be a multiple of 8", ""),
        ("/set scheduler eular", 2, "no scheduler", "euler"),
        ("/set precision fp7", 2, "no precision", ""),
        ("/set loras nobody", 2, "no LoRA 'nobody'", ""),
        ("/set vae nobody", 2, "no VAE 'nobody'", ""),
        ("/set score nobody", 2, "no scorer 'nobody'", ""),
        ("/set init nowhere.png", 2, "nowhere.png is no file", "name a picture"),
        ("/set override perhaps", 2, "override is yes or no", ""),
        ("/set blank-negative grey", 2, "zeros or empty", ""),
        ("/set syntax latin", 2, "no syntax 'latin'", ""),
        ("/set finish polish", 2, "no step of finishing is called 'polish'", ""),
        ("/set mix 0.5", 2, "mini is not mixed", ""),
        ("/unset", 2, "/unset needs the name of a setting", "/unset all"),
        ("/model nobody", 2, "no model 'nobody'", ""),
        ("/models nobody", 2, "no kind of models 'nobody'", "loras"),
        ("/show 99", 2, "no picture 99", ""),
        ("/show tree", 2, "'tree' is no picture's number", "/history"),
        ("/rate 1", 2, "/rate needs a picture", "/rate last 4"),
        ("/rate 1 9", 2, "rating must be 0 to 5", ""),
        ("/history 0", 2, "the number of pictures must be 1 to", ""),
        ("/upscale 1 nobody", 2, "no upscaler 'nobody'", ""),
        ("/faces", 2, "mend is not on this machine, 348 MB to download", "safelight models pull mend"),
        ("x" * 1_100_000, 2, "characters", ""),
    ],
)
def test_what_is_wrong_is_told_in_two_lines_and_the_rest_goes_on(
    script: Callable[..., Desk], capsys: pytest.CaptureFixture[str], line: str, code: int, says: str, hint: str
) -> None:
    desk = script(line, "/set count 2", code=code)
    out, err = capsys.readouterr()
    if code:
        told = [said for said in err.splitlines() if not said.startswith("note: ")]
        assert len(told) == 2 and told[0].startswith("error: line 1: ") and says in told[0]
        assert told[1].startswith("hint: ") and hint in told[1]
    assert "count: 2" in out and desk.bench.draft.count == "2"
    kept = replace(desk.bench.draft, count="", prompt="")
    assert kept == Draft(model="mini", score="no", seed="7"), "what was refused is not in the form"


def test_a_script_ends_with_its_worst_error(script: Callable[..., Desk], capsys: pytest.CaptureFixture[str]) -> None:
    desk = script("a pear", "/nothing", code=2, fail="no memory")
    assert "error: line 1: no memory\nhint: make the picture smaller\n" in capsys.readouterr().err
    assert len(desk.made) == 1
    script("a pear", code=1, fail="no memory")
    script("", "   ", "# no comment", code=0)


def test_a_failure_that_every_picture_would_repeat_is_told_once(
    script: Callable[..., Desk], capsys: pytest.CaptureFixture[str]
) -> None:
    desk = script("/set count 3", "a pear", code=1, fail="no memory")
    assert len(desk.made) == 3 and capsys.readouterr().err.count("error:") == 1


def test_a_prompt_is_made_with_the_settings_of_the_form(
    script: Callable[..., Desk], capsys: pytest.CaptureFixture[str]
) -> None:
    desk = script(
        "/set negative fog, rain", "/set gui 6", "/set count 2", "/set steps 3", "/set score yes", "/set lor pixel:0.5",
        "a red apple", "/again", " /a slash in front",
    )  # fmt: skip
    first, second, other, _, slash, _ = desk.made
    assert (first.prompt, first.negative_prompt, first.guidance_scale) == ("a red apple", "fog, rain", 6)
    assert (first.num_inference_steps, first.score, first.loras[0].weight) == (3, "fake-clip", 0.5)
    assert (first.seed, second.seed, first.preview_every) == (7, 8, 0)
    assert other.prompt == "a red apple" and other.seed != 7 and slash.prompt == "/a slash in front"
    out, err = capsys.readouterr()
    lines = out.splitlines()
    made = lines.index("made 2, a red apple, seed 7, score 20.7, 1.6 s")
    assert lines[made + 1] == desk.store.made[1].path and Path(lines[made + 1]).is_file()
    assert lines[made + 2] == "made 3, a red apple, seed 8, score 20.8, 1.6 s"
    assert err == "", "how a job goes on is for a terminal only"


def test_what_has_no_effect_is_told_when_it_is_set_and_once_when_it_is_made(
    script: Callable[..., Desk], capsys: pytest.CaptureFixture[str]
) -> None:
    script("/set negative fog", "/set guidance 1", "a pear", "a plum")
    notes = [line for line in capsys.readouterr().err.splitlines() if "negative prompt inactive" in line]
    assert len(notes) == 2 and all(note.startswith("note: ") for note in notes)


def test_settings_that_a_recipe_locks_are_refused_until_they_are_overridden(
    script: Callable[..., Desk], capsys: pytest.CaptureFixture[str]
) -> None:
    desk = script("/model quick", "/set steps 5", "/set override yes", "/set steps 6", "a pear", code=2)
    err = capsys.readouterr().err
    assert "exactly 2 steps" in err and "/set override yes" in err and "--override" not in err
    assert desk.made[0].num_inference_steps == 6 and desk.made[0].overrides


def test_settings_of_a_picture_come_back_into_the_form(script: Callable[..., Desk]) -> None:
    desk = script("/set count 2", "/set finish upscale up", "/take 1", "/unset count", "/make")
    (made,) = desk.made
    assert (made.prompt, made.seed, made.negative_prompt) == ("an old tree", 3, "fog")
    assert made.finish, "what was done to the picture is no setting of its drawing, and the form's stays"


def test_notes_of_the_engine_are_said(script: Callable[..., Desk], capsys: pytest.CaptureFixture[str]) -> None:
    script("a pear", told=Noted("warning", "memory: half of it · the rest waits"))
    assert "warning: memory: half of it, the rest waits\n" in capsys.readouterr().err


# ── the form ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_field_of_the_draft_is_a_setting() -> None:
    assert {field.name for field in plain_form.FIELDS} == {field.name for field in fields(Draft)}


def test_words_may_be_cut_short_where_they_are_one_word() -> None:
    words = ["model", "models", "set", "settings", "show"]
    assert plain_form.chosen("mod", words, "x", "xs") == "model"
    assert plain_form.chosen("Models", words, "x", "xs") == "models"
    assert plain_form.chosen("sett", words, "x", "xs") == "settings"
    with pytest.raises(InvalidRequest, match="may be set or settings or show"):
        plain_form.chosen("s", words, "x", "xs")
    assert plain_form.find("blank_negative").name == "blank_negative"


def test_what_goes_with_a_value_goes_with_it() -> None:
    draft = Draft(model="a", mix="0.5", seed="3", variation_seed="4", variation_strength="0.1", blank_negative="empty")
    assert plain_form.put(draft, plain_form.find("model"), "b").mix == ""
    assert plain_form.put(draft, plain_form.find("seed"), "random").variation_seed == ""
    assert plain_form.put(draft, plain_form.find("seed"), "5").variation_seed == "4"
    assert plain_form.put(draft, plain_form.find("negative"), "fog").blank_negative == ""


def test_the_form_is_the_workbenchs(script: Callable[..., Desk], home: Path) -> None:
    (home / "data").mkdir()
    kept = Draft(prompt="a pear", model="mini", steps="3", loras=("pixel:0.5", "glow:1:off"), score="no", seed="5")
    (home / "data" / "draft-1.json").write_text(kept.to_json())
    desk = script("/make", "/set steps 2")
    assert desk.made[0].num_inference_steps == 3 and [x.name for x in desk.made[0].loras] == ["pixel"]
    left = Draft.from_json((home / "data" / "draft-1.json").read_text())
    assert left == replace(kept, steps="2")


def test_tab_completes_commands_settings_and_models(home: Path) -> None:
    desk = Desk(home, os.open(os.devnull, os.O_RDONLY))
    complete = lambda begun: plain_commands.completions(desk.bench, begun)  # noqa: E731
    assert complete("/mo") == ["/model ", "/models "]
    assert complete("/set gu") == ["/set guidance "]
    assert complete("/model qu") == ["/model quick "]
    assert complete("a pear") == []
    desk.engine.close()


# ── somebody types ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_somebody_is_greeted_asked_and_let_go(
    typist: Callable[..., Typist], capsys: pytest.CaptureFixture[str]
) -> None:
    one = typist()
    one.type("/foo\na pear\n")
    code = one.meanwhile(
        lambda: len(one.desk.store.made) == 2, lambda: one.desk.lines._asking, lambda: one.type("\x04")
    )
    assert code == 0, "errors were seen by who typed them"
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == list(plain.GREETING)
    assert "made 2, a pear, seed 7, 1.6 s" in out
    # stdout is no terminal here, so that what is asked goes to stderr
    assert err == "> error: no command /foo\nhint: /help lists the commands\n> > \n"
    assert [type(r) for r in one.desk.engine.submitted] == [Warm, Generate], "the model is got ready at once"


def test_what_is_typed_while_a_job_runs_waits_unless_it_is_about_the_job(
    typist: Callable[..., Typist], capsys: pytest.CaptureFixture[str]
) -> None:
    one = typist(held=True)
    engine = one.desk.engine
    one.type("/set count 3\na pear\n")
    code = one.meanwhile(
        lambda: len(one.desk.made) == 1,
        lambda: one.type("/history 1\n/queue\n/can\n/quit\n"),
        lambda: len(engine._cancelled) == 1,
    )
    assert code == 0 and len(one.desk.made) == 1, "the two after it were never begun"
    out, err = capsys.readouterr()
    assert "running: picture 1 of 3, a pear, mini, seed 7, 2 more after it" in out
    assert out.index("cancelled, and 2 more") < out.index("1, ", out.index("cancelled"))
    assert err.endswith("> /history 1\n> /quit\n")


def test_ctrl_c_cancels_what_runs_and_empties_the_line_at_the_prompt(
    typist: Callable[..., Typist], capsys: pytest.CaptureFixture[str]
) -> None:
    one = typist(held=True)
    before = signal.getsignal(signal.SIGINT)
    lines = one.desk.lines
    one.type("a pear\n")

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    one.meanwhile(
        lambda: len(one.desk.made) == 1,
        interrupt,
        lambda: lines._asking,
        interrupt,
        lambda: time.sleep(0.3),
        lambda: one.type("\x04"),
    )
    out, err = capsys.readouterr()
    assert "cancelled\n" in out and err == "> > \n> \n"
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_not_here_is_fetched_after_one_question(
    typist: Callable[..., Typist], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    for answer, pulls in (("n", 0), ("y", 1)):
        one = typist()
        one.type(f"/set model far\na pear\n{answer}\n\x04")
        one.desk.run()
        out, err = capsys.readouterr()
        assert "far is not on this machine, 6.9 GB to download" in out and "Fetch? y or n: " in err
        assert "note: far: Its licence is for research only." in err
        assert sum(isinstance(r, Pull) for r in one.desk.engine.submitted) == pulls
        assert ("nothing was fetched" in out) == (not pulls) and len(one.desk.made) == pulls


def test_ctrl_c_at_a_question_is_no(typist: Callable[..., Typist], capsys: pytest.CaptureFixture[str]) -> None:
    one = typist()
    one.type("/set model far\na pear\n")
    one.meanwhile(
        lambda: one.desk.bench.draft.prompt == "a pear" and one.desk.lines._asking,
        lambda: os.kill(os.getpid(), signal.SIGINT),
        lambda: time.sleep(0.3),
        lambda: one.type("/quit\n"),
    )
    out, err = capsys.readouterr()
    assert "nothing was fetched" in out and "Fetch? y or n: \n> " in err and not one.desk.made


def test_without_readline_lines_are_read_plainly(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "readline", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    master, slave = pty.openpty()
    os.write(master, "für\n\x04".encode())
    lines = Lines(slave, editing=True)
    assert lines.ask("> ") == "für" and lines.ask("> ") is None and lines.number == 1
    for handle in (master, slave):
        os.close(handle)


def test_what_is_drawn_together_is_counted_as_batches(
    typist: Callable[..., Typist], capsys: pytest.CaptureFixture[str]
) -> None:
    one = typist(held=True)
    one.type("/set count 4\n/set batch 2\na pear\n")
    one.meanwhile(
        lambda: len(one.desk.made) == 1,
        lambda: one.type("/queue\n/quit\n"),
        lambda: "batch 1 of 2" in one.desk.bench.work.standing,
        lambda: time.sleep(0.3),
        lambda: one.desk.engine.advance(100),
    )
    out = capsys.readouterr().out
    assert "running: batch 1 of 2, a pear, mini, seed 7, 1 more after it" in out
    assert [f"made {n}, a pear, seed {n + 5}, 1.6 s" in out for n in (2, 3, 4, 5)] == [True] * 4
    assert one.desk.bench.work.standing == ""


def test_steps_of_finishing_keep_the_scorer(script: Callable[..., Desk]) -> None:
    desk = script("/upscale 1 big x2")
    (request,) = [r for r in desk.engine.submitted if isinstance(r, Finish)]
    assert request.score == "fake-clip" and request.picture == desk.store.made[0].path


# ── the voice ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_is_told_of_every_two_seconds_at_most_and_never_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(plain_voice.time, "monotonic", lambda: now[0])
    voice = Voice()
    voice._shown = True
    voice.begin("making a picture")
    for step in range(1, 41):
        now[0] += 0.25
        voice.progress(f"step {step} of 40")
        voice.wait()
    said = capsys.readouterr().err.splitlines()
    assert said == ["making a picture", *(f"step {n} of 40" for n in (8, 16, 24, 32, 40))]
    now[0] += 5
    voice.wait()
    assert capsys.readouterr().err == ""
    now[0] += 5
    voice.wait()
    voice.wait()
    assert capsys.readouterr().err == "still step 40 of 40\n"


def test_decoration_is_spelled_and_letters_only_where_they_must_be() -> None:
    assert plain_voice.plain("a · b → c … 2×3") == "a, b to c ... 2x3"
    assert plain_voice.plain("café größe 猫") == "café größe 猫"
    assert plain_voice.plain("café Größe 猫 łódź", ascii_only=True) == "cafe Grosse ? lodz"


@pytest.mark.parametrize(
    ("environment", "encoding", "speaks"),
    [
        ({"LANG": "de_DE.UTF-8"}, "utf-8", True),
        ({"LANG": "de_DE"}, "ISO-8859-1", False),
        ({"LC_CTYPE": "C.UTF-8"}, "utf-8", False),
        ({"LC_CTYPE": "C.UTF-8", "LANG": "en_GB.UTF-8"}, "utf-8", True),
        ({"LC_ALL": "C"}, "ANSI_X3.4-1968", False),
    ],
)
def test_a_locale_that_python_has_chosen_says_nothing(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], encoding: str, speaks: bool
) -> None:
    monkeypatch.setattr(plain_voice.locale, "getencoding", lambda: encoding)
    assert plain_voice.speaks_utf8(environment) is speaks


def test_nothing_that_a_terminal_obeys_is_said(script: Callable[..., Desk], capsys: pytest.CaptureFixture[str]) -> None:
    script("a \x1b]0;owned\x07pear\x9b31m", "/\x1b[31mfoo", "/set negative \x1b[2J", "/settings", code=2)
    out, err = capsys.readouterr()
    assert not any(c in out + err for c in "\x1b\x07\x9b") and "owned" in out


# ── the program ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_script_through_a_pipe_makes_true_pictures(home: Path) -> None:
    lines = f"/model {FAST}\n/set seed 7\n/set score yes\na red apple\nf\xfcr: a caf\xe9 \u2192\n/set steps 9\n/again\n"
    done = forked.run(["--plain"], lines, {"LC_ALL": "C"})
    assert done.returncode == 2 and done.stdout.isascii() and done.stderr.isascii()
    made = [line for line in done.stdout.splitlines() if line.startswith("made ")]
    assert re.fullmatch(r"made 1, a red apple, seed 7, score \d\d\.\d+, [\d.]+ s", made[0])
    assert made[1].startswith("made 2, fur: a cafe to, seed 7, ") and len(made) == 3
    paths = [line for line in done.stdout.splitlines() if line.endswith(".png")]
    assert len(paths) == 3 and all(Path(path).is_file() for path in paths)
    assert done.stderr.splitlines()[0].startswith("error: line 6: ") and len(done.stderr.splitlines()) == 2
    kept = json.loads((home / "data" / "draft-1.json").read_text())
    assert kept["prompt"].startswith("für") and kept["model"] == FAST
    assert forked.run(["--plain"], "").stdout == "" and forked.run(["--plain"], "").returncode == 0


CONTROLLED = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from tui.cli import main; main()"
"The program as a shell starts it, with the terminal as its own, so that Ctrl+C in it is a signal."


@pytest.mark.parametrize("term", ["dumb", "xterm-256color"])
def test_somebody_at_a_terminal_makes_a_picture_cancels_one_and_leaves(
    terminals: Callable[..., Terminal],  # noqa: F811
    home: Path,
    term: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Terminal, "START", ("-c", CONTROLLED))
    terminal = terminals("--plain", TERM=term, cols=200)

    def answered(line: str, says: str) -> None:
        at = len(terminal.output)
        terminal.type(line)
        terminal.until(lambda: says in terminal.output[at:].decode() and terminal.output.endswith(b"> "))

    terminal.until(lambda: terminal.output.endswith(b"> "))
    assert "/help lists the commands" in terminal.text
    terminal.type("half a line")
    terminal.until(lambda: "half a line" in terminal.text)
    answered("\x03", "> ")
    answered("/set steps 900\r", "steps: 900")
    terminal.type("a red apple\r")
    terminal.until(lambda: re.search(r"step \d+ of 900", terminal.text))
    terminal.type("\x03" if term == "dumb" else "/cancel\r")
    answered("", "cancelled")
    answered("/set steps 4\r", "steps: 4")
    answered("a pear\r", ".png")
    assert len(list((home / "pictures").glob("*.png"))) == 1
    terminal.type("\x04")
    terminal.until(terminal.ended)
    for _ in range(5):
        terminal.read()
    assert terminal.program.returncode == 0
    if term == "dumb":
        assert b"\x1b" not in terminal.output and b"\b" not in terminal.output
    assert b"Traceback" not in terminal.output and "half a line" not in (home / "data" / "draft-1.json").read_text()


def test_a_signal_ends_it_in_order_and_keeps_the_form(
    terminals: Callable[..., Terminal],  # noqa: F811
    home: Path,
) -> None:
    terminal = terminals("--plain", TERM="dumb")
    terminal.until(lambda: terminal.output.endswith(b"> "))
    terminal.type("/set steps 900\ra slow pear\r")
    terminal.until(lambda: "making a picture" in terminal.text)
    terminal.program.send_signal(signal.SIGTERM)
    terminal.until(terminal.ended)
    assert terminal.program.returncode == 128 + signal.SIGTERM
    assert "a slow pear" in (home / "data" / "draft-1.json").read_text()


def test_it_takes_no_command_and_is_in_the_help() -> None:
    done = forked.run(["--plain", "doctor"])
    assert done.returncode == 2 and "takes no command" in done.stderr
    assert "--plain" in forked.run(["--help"]).stdout
    refused = forked.run([])
    assert refused.returncode == 2 and "hint: safelight --plain" in refused.stderr


def test_neither_textual_nor_torch_are_imported_before_a_picture_is_asked_for(home: Path) -> None:
    code = (
        "import sys\nfrom tui.plain import opening as plain\ncode = plain.open_plain()\n"
        "print(code, *(m for m in ('textual', 'torch', 'readline') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="/help\n/settings\n", capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "0", done.stderr


def test_a_form_begins_by_the_settings_but_for_what_is_asked_of_them_each_time(home: Path) -> None:
    known = catalogue(home)
    settings = Settings(precision="fp32", blank_negative="empty", score=False)
    form = plain.default(Session(folders.find(), settings, known, (), False))
    assert form == Draft(model=known.default_model().id, precision="fp32", score="no")
    named = plain.default(Session(folders.find(), Settings(model="another"), known, (), False))
    assert named == Draft(model="another", score="yes" if known.scorers else "no")


def test_an_engine_that_ends_is_told(home: Path) -> None:
    desk = Desk(home, os.open(os.devnull, os.O_RDONLY))
    desk.engine.close()
    while desk.bench.work._events.empty():
        time.sleep(0.01)
    with pytest.raises(SafelightError, match="the engine has ended"):
        desk.bench.work.settle()
