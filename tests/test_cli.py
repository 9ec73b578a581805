"""The command line as a program: what it prints where, how it ends, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import pytest

SAFELIGHT = [sys.executable, "-m", "tui"]
FAST = ["-m", "mini-lightning-2step-lora", "--seed", "7"]


def safelight(*arguments: str, stdin: str | None = "", **environment: str) -> subprocess.CompletedProcess[str]:
    if stdin is not None and not environment:
        return forked.run(arguments, stdin)
    return subprocess.run(
        [*SAFELIGHT, *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        env={**os.environ, **environment},
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str], code: int, says: str) -> None:
    """Exactly one line `error:` and one `hint:`, nothing on stdout, no traceback."""
    assert done.returncode == code, done.stderr
    lines = [x for x in done.stderr.splitlines() if not x.startswith("note: ")]
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("error: ") and lines[1].startswith("hint: ")
    assert says in lines[0], lines[0]
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate"], "missing argument"),
        (["generate", "x", "--frobnicate"], "no option '--frobnicate'"),
        (["generate", "x", "-m", "minny"], "no model 'minny'"),
        (["generate", "x", "--size", "0x0"], "width must be"),
        (["generate", "x", "--size", "-8x64"], "width must be"),
        (["generate", "x", "--size", "100x100"], "width must be a multiple of 8"),
        (["generate", "x", "--size", "99999999x99999999"], "width must be"),
        (["generate", "x", "--aspect", "3"], "aspect must be"),
        (["generate", "x", "--size", "64x64", "--aspect", "1:1"], "can't both"),
        (["generate", "x", "--steps", "0"], "steps must be"),
        (["generate", "x", "--steps", "51", "--scheduler", "lcm"], "steps must be 1 to 50 with lcm"),
        (["generate", "x", "--guidance", "nan"], "guidance must be"),
        (["generate", "x", "--variation-seed", "3"], "a variation seed without a variation strength"),
        (["generate", "x", "--variation-strength", "1.5"], "variation strength must be 0 to 1"),
        (["generate", "x", "-m", "mini", "--mix", "0.5"], "mini is not mixed of models"),
        (["generate", "x", "--guidance-series", "--rescale-series", "0,1"], "can't both be given"),
        (["generate", "x", "--guidance-series=2,3", "--guidance", "4"], "can't both be given"),
        (["generate", "x", "--rescale-series", "0,1", "--count", "2"], "makes one picture for each value"),
        (["generate", "x", "--guidance-series", "2,ten"], "guidance must be a number, not 'ten'"),
        (["generate", "x", *FAST, "--guidance-series"], "guidance does nothing here"),
        (["generate", "x", "--seed", "-1"], "seed must be"),
        (["generate", "x", "--seed", str(2**63)], "seed must be"),
        (["generate", "x", "--scheduler", "eular"], "no scheduler"),
        (["generate", "x", "--precision", "fp7"], "no precision"),
        (["generate", "x", "--device", "gpu7"], "no device 'gpu7'"),
        (["generate", "x", "--scheduler", ""], "--scheduler has no name behind it"),
        (["generate", "x", "--lora", "nobody"], "no LoRA"),
        (["generate", "x", "--lora", "mini-pixel:"], "no weight behind it"),
        (["generate", "x", "--lora", "mini-pixel:0.5", "--lora", "mini-pixel:0.7"], "mini-pixel is named twice"),
        (["generate", "x" * 100_000], "100,000 characters"),
        (["generate", "x", "--init", "nothing.png"], "nothing.png is no file"),
        (["generate", "x", "--hires", "x2,faces"], "--hires takes one step"),
        (["upscale", "nothing.png"], "nothing.png is no file"),
        (["upscale"], "missing argument"),
        (["upscale", __file__, "--scale", "99"], "scale must be"),
        (["upscale", __file__, "--scale", "2, faces"], "scale must be a number, not '2, faces'"),
        (["upscale", __file__, "--scale", "nan"], "scale must be 0.1 to 16, not nan"),
        (["upscale", __file__, "--scale", "0"], "scale must be 0.1 to 16, not 0"),
        (["generate", "x", "--upscale", "x2 x3"], "upscale is told two things for scale"),
        (["generate", "x", "--upscale", "x0"], "scale must be above 0"),
        (["restore", __file__, "--with", "nosuch", "--yes"], "no face restorer 'nosuch'"),
        (["restore", __file__, "--strength", "2"], "strength must be 0 to 1"),
        (["upscale", __file__, "--denoise", "1 tile=64"], "--denoise takes one word"),
        (["restore", __file__, "--with", "a:0.5"], "--with takes one word"),
        (["restore", __file__], "not here: 349 MB to download"),
        (["upscale", __file__], "can't be read as a picture"),
        (["prompt", "x" * 100_000], "100,000 characters"),
        (["score", "/nowhere.png", "--prompt", "x"], "is no file"),
        (["score", "--prompt", "x"], "there is nothing to score"),
        (["score", "--prompts-from-metadata", "/nowhere"], "is no folder"),
        (["score", "x.png", "--prompts-from-metadata", "docs"], "scored for their own prompts"),
        (["score", "--prompts-from-metadata", "tests"], "no picture in tests tells its prompt"),
        (["models", "show", "nothing"], "no entry"),
        (["models", "frobnicate"], "no such command"),
        (["history", "show", "abc"], "is no picture's number"),
        (["history", "path", "last"], "no picture in the history yet"),
        (["frobnicate"], "no such command"),
        ([], "needs a terminal"),
    ],
)
def test_what_is_typed_wrong_is_told_in_two_lines_with_exit_code_2(arguments: list[str], says: str) -> None:
    refused(safelight(*arguments), 2, says)


def test_a_1_mb_prompt_from_stdin_is_refused() -> None:
    refused(safelight("generate", "-", stdin="x" * 1_000_000), 2, "1,000,000 characters")


def test_near_names_are_in_the_hint() -> None:
    assert "did you mean mini?" in safelight("generate", "x", "-m", "mimi").stderr
    assert "did you mean --seed" in safelight("generate", "x", "--sed", "3").stderr
    assert "did you mean generate?" in safelight("generat").stderr


def test_a_device_that_is_not_here_is_the_worlds_fault() -> None:
    import torch

    if torch.cuda.is_available():
        arguments, says = ["--device", "cuda:77"], "there is no cuda:77"
    else:
        arguments, says = ["--device", "cuda:0"], "can't use a GPU here"
    refused(safelight("generate", "x", *arguments), 1, says)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x", tmp_path / "file"):
        done = safelight("generate", "x", "--out", str(path))
        refused(done, 1, "can't be made")
        assert "hint: choose another folder with --out\n" in done.stderr
    refused(safelight("generate", "x", SAFELIGHT_HOME=str(tmp_path / "file")), 1, "can't be made")


def test_a_log_that_cannot_be_written_is_no_reason_for_a_traceback(home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "safelight.log").symlink_to("/dev/full")
    done = safelight("generate", "an apple", *FAST)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_escape_sequences_in_arguments_do_not_reach_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x9b31m\u202ex"
    for arguments in (
        ["generate", "x", "-m", evil],
        [evil],
        ["prompt", evil],
        ["models", "show", evil],
        ["generate", f"--{evil}"],
    ):
        done = safelight(*arguments)
        for text in (done.stdout, done.stderr):
            assert not any(c in text for c in "\x1b\x07\x9b\u202e"), arguments


def test_lists_and_prompts_need_no_torch_and_print_json_only(home: Path) -> None:
    done = safelight("models", "list", "--json")
    models = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"mini", "mini-lightning-4step-unet"} <= {m["id"] for m in models} and done.stderr == ""
    assert [m["id"] for m in models if m.get("default")] == ["mini"]
    (read,) = map(json.loads, safelight("prompt", "a (red)1.5 apple++ --", "--json").stdout.splitlines())
    weights = {p["text"].strip(): p["weight"] for p in read["parts"]}
    assert weights["red"] == 1.5 and weights["apple"] == pytest.approx(1.21)
    assert all(read["text"][p["start"] : p["end"]].strip() for p in read["parts"])
    assert len(read["tokens"]) == 2
    assert json.loads(safelight("models", "show", "mini", "--json").stdout)["recipe"]["num_inference_steps"] == 25
    for arguments in (["models", "list"], ["models", "show", "mini"], ["prompt", "a (b)1.2"], ["history", "list"]):
        done = safelight(*arguments)
        assert done.returncode == 0 and done.stdout and done.stderr == ""


def test_a_prompt_is_shown_with_what_was_drawn_and_translated(home: Path) -> None:
    (home / "config" / "wildcards").mkdir(parents=True)
    (home / "config" / "wildcards" / "animal.txt").write_text("cat\n")
    typed = "a {(red:1.3)|(red:1.3)} __animal__ [x|y] <lora:mini-pixel:.5> BREAK b"
    arguments = ("prompt", typed, "--seed", "3", "--syntax", "a1111")
    told = json.loads(safelight(*arguments, "--json").stdout)
    assert told["typed"] == typed
    assert told["variants"]["seed"] == 3
    assert told["variants"]["text"] == "a (red:1.3) cat [x|y] <lora:mini-pixel:.5> BREAK b"
    assert [(pick["text"], typed[pick["start"] : pick["end"]]) for pick in told["variants"]["picks"]] == [
        ("(red:1.3)", "{(red:1.3)|(red:1.3)}"),
        ("cat", "__animal__"),
    ]
    assert told["text"] == told["translation"]["text"] == '("a (red)1.3 cat x", "b").and() withLora(mini-pixel, 0.5)'
    assert [told["text"][p["start"] : p["end"]] for p in told["parts"]] == ["a", "red", "cat x", "b"]
    assert [p["weight"] for p in told["parts"]] == [1, 1.3, 1, 1]
    (problem,) = told["problems"]
    assert problem["in"] == "drawn" and told["variants"]["text"][problem["start"] : problem["end"]] == "[x|y]"
    shown = safelight(*arguments).stdout
    for line in ("drawn from seed 3: a (red:1.3) cat", "translated: (", "and, text 1 of 2", "└ red", "LoRA mini-pixel"):
        assert line in shown, shown
    nested = safelight("prompt", "a (b (c d)1.2 e)1.5 (f:2)").stdout.splitlines()
    assert "  ".join(nested[2].split()[-1:]) == "e)" and nested[3].endswith("└ b") and "looks like A1111" in nested[-2]
    refused(safelight("prompt", "x", "--syntax", "invoke"), 2, "no syntax 'invoke'")
    refused(safelight("prompt", "x", "--seed", "x"), 2, "whole number")
    refused(safelight("generate", "x", "--syntax", "invoke"), 2, "no syntax 'invoke'")
    refused(safelight("generate", "x", "--guidance-series", ""), 2, "takes 1 to 100 numbers")
    refused(safelight("generate", "withLora(nothing) x"), 2, "no LoRA 'nothing'")


def test_every_picture_of_a_prompt_with_variants_draws_its_own(home: Path) -> None:
    typed = "{(red:1.2)|[green]} apple <lora:mini-pixel:0.5>"
    done = safelight("generate", typed, *FAST, "--syntax", "a1111", "--count", "4", "--batch-size", "2", "--json")
    assert done.returncode == 0, done.stderr
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["seed"] for one in made] == [7, 8, 9, 10]
    words = {"(red)1.2", "(green)0.9090909"}
    assert {one["prompt"] for one in made} == {f"{word} apple withLora(mini-pixel, 0.5)" for word in words}
    assert all((one["template"], one["syntax"]) == (typed, "a1111") for one in made)
    assert all(one["loras"] == [{"name": "mini-pixel", "weight": 0.5}] for one in made)
    assert f"prompt, variants and translation: {made[0]['prompt']}" in done.stderr
    from engines import metadata

    request, _ = metadata.read(Path(made[0]["path"])) or (None, None)
    assert request is not None and request.template == typed


def test_a_bad_line_of_the_users_files_is_named_and_the_rest_works(home: Path) -> None:
    (home / "config").mkdir()
    (home / "config" / "settings.toml").write_text('theme = 3\nmodel = "mini-lightning-4step-unet"\n')
    (home / "config" / "models.toml").write_text("[[model]]\nid = 'half'\n")
    done = safelight("models", "list")
    assert done.returncode == 0
    notes = done.stderr.splitlines()
    assert len(notes) == 2 and "theme must be text" in notes[0] and "half" in notes[1]


def test_a_day_at_the_command_line(home: Path, tmp_path: Path) -> None:
    """Pictures with seeds told, files named, history listed, scores agreeing: one process after another."""
    out = tmp_path / "out"
    done = safelight(
        "generate", "a red apple on a blue background", *FAST, "--count", "2", "--score", "--json", "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    one, two = (json.loads(line) for line in done.stdout.splitlines())
    assert set(one) >= {
        "id", "path", "prompt", "negative_prompt", "model", "seed", "width", "height", "num_inference_steps",
        "guidance_scale", "guidance_rescale", "scheduler", "loras", "scores", "seconds", "created",
    }  # fmt: skip
    assert set(one["seconds"]) == {"load", "encode", "denoise", "decode", "score", "save", "finish", "total"}
    assert (one["seed"], two["seed"]) == (7, 8)
    assert one["scores"]["mini-clip"] > 30
    assert {Path(one["path"]).parent, Path(two["path"]).parent} == {out}
    assert len(list(out.iterdir())) == 2

    done = safelight("generate", "a red apple on a blue background", *FAST, "--negative", "blurry")
    assert done.returncode == 0
    assert "negative prompt inactive" in done.stderr and "seed 7" in done.stderr
    same = Path(done.stdout.strip())
    assert same.parent == home / "pictures"
    from PIL import Image

    with Image.open(one["path"]) as a, Image.open(same) as b:
        assert a.tobytes() == b.tobytes()

    (scored,) = map(
        json.loads,
        safelight("score", str(same), "--prompt", "a red apple on a blue background", "--json").stdout.splitlines(),
    )
    assert scored["score"] == pytest.approx(one["scores"]["mini-clip"], abs=0.01)

    # the same text is the picture's own: the history keeps that score; against another text it is none of its
    safelight("score", str(same), "--prompt", "a pizza")
    (kept,) = json.loads(safelight("history", "show", "last", "--json").stdout)["scores"].values()
    assert kept == scored["score"]
    again = safelight("score", "--prompts-from-metadata", str(home / "pictures"), "--json").stdout.splitlines()
    assert {json.loads(line)["path"] for line in again} == {str(p) for p in (home / "pictures").glob("*.png")}
    assert json.loads(again[-1])["score"] == pytest.approx(kept, abs=0.01)

    assert safelight("history", "path", "last").stdout.strip() == str(same)
    assert safelight("history", "path", str(one["id"])).stdout.strip() == one["path"]
    rows = [json.loads(x) for x in safelight("history", "list", "--json").stdout.splitlines()]
    assert [r["id"] for r in rows] == [3, 2, 1]
    assert rows[2]["scores"] == one["scores"]
    assert json.loads(safelight("history", "show", "1", "--json").stdout) == rows[2]
    assert "a red apple" in safelight("history", "list", "--search", "APPLE").stdout
    assert "rated 4" in safelight("history", "rate", "1", "4").stdout
    assert json.loads(safelight("history", "show", "1", "--json").stdout) == rows[2] | {"rating": 4}
    refused(safelight("history", "rate", "last", "6"), 2, "rating must be 0 to 5")
    refused(safelight("history", "rate", "99", "1"), 2, "no picture 99")
    safelight("history", "rate", "1", "0")
    assert json.loads(safelight("history", "show", "1", "--json").stdout)["rating"] is None
    same.unlink()
    refused(safelight("history", "path", "last"), 1, "is gone")
    log = (home / "data" / "safelight.log").read_text()
    assert "WARNING" in log and stat.S_IMODE((home / "data" / "safelight.log").stat().st_mode) == 0o600


def test_a_score_is_listed_with_the_name_of_its_scorer(home: Path) -> None:
    from engines import folders
    from engines.requests import Generate, Seconds
    from engines.store import Made, Store

    request = Generate("a red apple", "mini", 1, 128, 128, 25, 4.5)
    store = Store(folders.find().store)
    (job,) = store.add([request], None, store.register("command"))
    store.finish(job.id, [Made("/1.png", request, 128, 128, Seconds(), {}, b"", {"mini-clip": 44.151})])
    store.close()
    assert "44.15 mini-clip" in safelight("history", "list").stdout


def test_no_previews_are_made_where_nobody_sees_them(home: Path) -> None:
    from engines import folders
    from engines.store import Store

    assert safelight("generate", "an apple", *FAST).returncode == 0
    store = Store(folders.find().store)
    assert store.last().request.preview_every == 0
    store.close()


def test_without_a_seed_one_is_drawn_and_told() -> None:
    done = safelight("generate", "", "-m", "mini-lightning-2step-lora", "--json")
    assert done.returncode == 0, done.stderr
    picture = json.loads(done.stdout)
    assert f"seed {picture['seed']}, drawn at random" in done.stderr
    assert "the prompt is empty" in done.stderr


def test_a_variation_is_drawn_told_and_kept_with_the_picture() -> None:
    done = safelight("generate", "an apple", *FAST, "--variation-strength", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    picture = json.loads(done.stdout)
    assert done.stderr == f"note: variation seed {picture['variation_seed']}, drawn at random\n"
    assert picture["variation_strength"] == 0.2
    shown = safelight("history", "show", "last").stdout
    assert f"variation_seed       {picture['variation_seed']}\n" in shown and "variation_strength   0.2\n" in shown
    wanted = ["--variation-seed", str(picture["variation_seed"]), "--variation-strength", "0.2"]
    again = json.loads(safelight("generate", "an apple", *FAST, *wanted, "--json").stdout)
    plain = json.loads(safelight("generate", "an apple", *FAST, "--json").stdout)
    assert "variation" not in safelight("history", "show", "last").stdout
    from PIL import Image

    with Image.open(picture["path"]) as a, Image.open(again["path"]) as b, Image.open(plain["path"]) as c:
        assert a.tobytes() == b.tobytes() != c.tobytes()


def test_a_mix_is_drawn_at_the_ratio_that_is_typed() -> None:
    made = safelight("models", "merge", "mini", "mini-lightning-4step-unet", "--weights", "0.5", "--id", "half")
    assert made.returncode == 0, made.stderr
    half = ["-m", "half", "--seed", "7", "--steps", "4", "--size", "64x64"]
    refused(safelight("generate", "x", *half, "--mix", "1.5"), 2, "mix must be 0 to 1, not 1.5")
    refused(safelight("generate", "x", *half, "--mix", "0.5,0.3,0.2"), 2, "2 models have 3 weights")
    done = safelight("generate", "an apple", *half, "--mix", "0.9", "--json")
    picture = json.loads(done.stdout)
    assert picture["mix"] == [0.1, 0.9] and "0.1 mini + 0.9 mini-lightning" in picture["made_with"]["mix"]
    assert "mix                  [0.1, 0.9]\n" in safelight("history", "show", "last").stdout
    told = safelight("generate", "an apple", *half, "--mix", "1,9")
    plain = json.loads(safelight("generate", "an apple", *half, "--json").stdout)
    assert "· half · mix 1 : 9 · " in told.stderr and plain["mix"] is None
    from PIL import Image

    with (
        Image.open(picture["path"]) as a,
        Image.open(told.stdout.strip()) as b,
        Image.open(plain["path"]) as c,
    ):
        assert a.tobytes() == b.tobytes() != c.tobytes()


def test_a_series_is_one_group_of_one_seed(home: Path) -> None:
    wanted = ["--guidance-series", "2,4,6", "--steps", "2", "--negative", ""]
    done = safelight("generate", "an apple", "-m", "mini", *wanted, "--json")
    assert done.returncode == 0, done.stderr
    pictures = [json.loads(line) for line in done.stdout.splitlines()]
    assert [p["guidance_scale"] for p in pictures] == [2.0, 4.0, 6.0]
    assert len({p["seed"] for p in pictures}) == 1 and len({p["path"] for p in pictures}) == 3
    assert f"note: seed {pictures[0]['seed']}, drawn at random" in done.stderr
    import sqlite3

    with sqlite3.connect(home / "data" / "safelight.db") as db:
        groups = [row[0] for row in db.execute("SELECT DISTINCT grp FROM jobs")]
    assert len(groups) == 1 and groups[0]


def test_a_blank_negative_is_what_the_setting_says_and_an_empty_one_that_is_given_is_meant(home: Path) -> None:
    def negative(*arguments: str) -> Any:
        done = safelight("generate", "an apple", *FAST, *arguments, "--json")
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return json.loads(done.stdout)["negative_prompt"]

    assert negative() is None
    assert negative("--negative", "") == "" == negative("--negative=")
    assert "negative_prompt      (empty)" in safelight("history", "show", "last").stdout
    (home / "config").mkdir()
    (home / "config" / "settings.toml").write_text('blank_negative = "empty"\n')
    assert negative() == ""
    (home / "config" / "settings.toml").write_text('blank_negative = "nothing"\n')
    assert "blank_negative can't be 'nothing'" in safelight("models", "list").stderr


STARTED: list[subprocess.Popen[str]] = []


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    program = subprocess.Popen(
        [*SAFELIGHT, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    STARTED.append(program)
    return program


def wait_for(what: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    """What a test that fails leaves running would slow down all that come after it."""
    yield
    for program in STARTED:
        if program.poll() is None:
            program.kill()
            program.wait()
    STARTED.clear()


def in_log(home: Path, text: str) -> bool:
    try:
        return text in (home / "data" / "safelight.log").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("stage", ["begin", "import", "first picture", "many pictures"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_stage_ends_in_order(home: Path, stage: str, number: signal.Signals) -> None:
    pictures = home / "pictures"
    program = start("generate", "an apple", *FAST, "--steps", "80", "--override", "--count", "50", "--debug")
    if stage == "begin":
        wait_for(lambda: (home / "data" / "safelight.log").exists())
    elif stage == "import":
        wait_for(lambda: (home / "data" / "engines").exists())
        time.sleep(0.5)
    elif stage == "first picture":
        wait_for(lambda: in_log(home, "denoising") or any(pictures.glob("2*.png")))
    else:
        wait_for(lambda: len(list(pictures.glob("2*.png"))) >= 2)
    before = time.monotonic()
    program.send_signal(number)
    out, err = program.communicate(timeout=20)
    assert time.monotonic() - before < 10
    assert program.returncode == 128 + number, err
    assert "Traceback" not in err
    told = [line for line in out.splitlines() if line]
    left = list(pictures.glob("*")) + list(pictures.glob(".*")) if pictures.exists() else []
    assert all(p.suffix == ".png" for p in left), left
    from PIL import Image

    for path in left:
        with Image.open(path) as image:
            image.load()
    assert len(told) <= len(left)
    listed = safelight("history", "list", "--json", "--limit", "1000").stdout.splitlines()
    assert len(listed) == len(left)


@pytest.mark.parametrize(
    "arguments",
    [["models", "list", "--json"], ["models", "list"], ["--help"], ["generate", "x", *FAST, "--count", "3", "--json"]],
)
def test_a_reader_that_goes_away_is_met_quietly(arguments: list[str]) -> None:
    program = start(*arguments)
    assert program.stdout is not None and program.stderr is not None
    program.stdout.close()
    err = program.stderr.read()
    program.stderr.close()
    assert program.wait(timeout=60) == 0 and err == ""


@pytest.mark.parametrize(("arguments", "code"), [(["list"], 0), (["show", "last"], 2), (["path"], 2)])
def test_a_history_that_was_begun_anew_is_told(home: Path, arguments: list[str], code: int) -> None:
    (home / "data").mkdir()
    (home / "data" / "safelight.db").write_bytes(b"no database at all" * 100)
    done = safelight("history", *arguments)
    assert done.returncode == code
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1 and "kept as" in notes[0]


def test_a_prompt_as_json_has_the_place_of_all_that_is_in_it() -> None:
    def read(text: str) -> tuple[str, dict[str, Any]]:
        return text, json.loads(safelight("prompt", text, "--json").stdout)

    text, told = read('("a (red)1.2 cat", "a dog--").blend(0.7, 0.3) withLora(mini-pixel, 0.5)')
    assert told["combination"] == {"operator": "blend", "weights": [0.7, 0.3], "normalize": True}
    (lora,) = told["loras"]
    assert text[lora["start"] : lora["end"]] == "withLora(mini-pixel, 0.5)" and lora["weight"] == 0.5
    assert [(w["text"], w["weight"], text[w["start"] : w["end"]]) for w in told["weights"]] == [
        ("red", 1.2, "(red)1.2"),
        ("dog", pytest.approx(0.81), "dog--"),
    ]
    assert all(text[p["start"] : p["end"]] == p["text"] for p in told["parts"])
    _, told = read("a cat.swap(dog)")
    assert [(p["text"], p["applied"]) for p in told["parts"]] == [("a", True), ("cat", True), ("dog", False)]
    assert told["combination"] is None and told["weights"] == []


def test_tokens_and_chunks_are_those_that_are_encoded() -> None:
    for text, tokens, chunks in (('("a cat", "a dog").and()', 4, 2), ('("a cat", "a").blend(1, 1)', 2, 1)):
        read = json.loads(safelight("prompt", text, "--json").stdout)
        assert (read["tokens"], read["chunks"]) == ([tokens] * 2, [chunks] * 2)
    assert "encoder 2: 4 tokens in 2 chunks" in safelight("prompt", '("a cat", "a dog").and()').stdout


def test_two_at_once_make_all_their_pictures(home: Path) -> None:
    programs = [start("generate", f"apple {i}", *FAST, "--count", "3", "--json") for i in range(2)]
    outs = [p.communicate(timeout=100) for p in programs]
    assert [p.returncode for p in programs] == [0, 0], outs
    rows = [json.loads(line) for out, _ in outs for line in out.splitlines()]
    assert len({r["id"] for r in rows}) == len({r["path"] for r in rows}) == 6
    assert len(list((home / "pictures").glob("*.png"))) == 6


def test_a_kill_leaves_no_half_picture_and_the_next_run_works(home: Path) -> None:
    program = start("generate", "an apple", *FAST, "--count", "500")
    wait_for(lambda: len(list((home / "pictures").glob("2*.png"))) >= 2)
    program.kill()
    program.communicate()
    from PIL import Image

    for path in (home / "pictures").glob("2*.png"):
        with Image.open(path) as image:
            image.load()
    done = safelight("generate", "a pear", *FAST, "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(x) for x in safelight("history", "list", "--json", "--limit", "1000").stdout.splitlines()]
    assert rows[0]["prompt"] == "a pear"
    # a file without a row can be the one that was being written down; never more
    assert 0 <= len(list((home / "pictures").glob("2*.png"))) - len(rows) <= 1


def test_a_picture_is_drawn_over_another_finished_and_files_are_enlarged(home: Path, tmp_path: Path) -> None:
    first = safelight("generate", "a red apple", *FAST, "--size", "64x64", "--upscale", "x2", "--hires", "x1 0.5")
    assert first.returncode == 0, first.stderr
    base, hires, large = first.stdout.splitlines()
    assert hires.endswith("-hires.png") and large.endswith("-hires-x2.png")
    assert "hires x1 at 0.5 · 64x64" in first.stderr and "upscale x2 by mini-x4 · 128x128" in first.stderr
    over = safelight("generate", "a pear", *FAST, "--init", base, "--strength", "0.5", "--size", "64x64", "--json")
    told = json.loads(over.stdout)
    assert (told["init"], told["strength"], told["parent"]) == (base, 0.5, None), over.stderr
    done = safelight("upscale", base, large, "--scale", "3", "--out", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["width"], Path(row["path"]).parent) for row in rows] == [
        (192, tmp_path / "out"), (384, tmp_path / "out"),
    ]  # fmt: skip
    assert [row["finish"][-1]["kind"] for row in rows] == ["upscale"] * 2 and None not in [r["parent"] for r in rows]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    done = safelight("upscale", str(tmp_path / "bad.png"), base, "--denoise", "0.5", "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and len(done.stdout.splitlines()) == 1, done.stderr
    assert "a picture failed, the rest goes on" in done.stderr and "bad.png can't be read" in done.stderr
    assert "note: mini-x4 has no denoise: that does nothing" in done.stderr


def test_a_signal_in_the_middle_of_a_class_is_a_signal() -> None:
    """Python says `RuntimeError: Error calling __set_name__` instead, whatever was raised there; it is at an import."""
    code = (
        "import os, signal, tui.cli as cli\n"
        "class Part:\n"
        "    def __set_name__(self, owner, name): os.kill(os.getpid(), signal.SIGTERM); [0 for _ in range(99)]\n"
        "import tui.commands\n"
        "tui.commands.run = lambda given: type('Whole', (), {'part': Part()})\n"
        "cli.main(['models'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + 15, "interrupted\n")
