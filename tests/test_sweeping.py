"""`safelight sweep` as a program, on the embedded family."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import forked
import pytest
from PIL import Image

from engines import catalogue, sweep
from engines.store import Store

SAFELIGHT = [sys.executable, "-m", "tui"]
QUICK = "mini-lightning-2step-lora,mini-lightning-4step-unet"


def safelight(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if not environment:
        return forked.run(arguments)
    return subprocess.run(
        [*SAFELIGHT, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "a sweep needs a prompt"),
        (("x", "--seeds", "none"), 2, "'none' is no seed"),
        (("x", "--models", "minny"), 2, "no model 'minny'"),
        (("x", "--guidance", "a"), 2, "guidance must be"),
        (("x", "--guidance", ","), 2, "the axis guidance has no values"),
        (("x", "--scorer", "nobody"), 2, "no scorer 'nobody'"),
        (("x", "--lora", "nobody:1"), 2, "no LoRA 'nobody'"),
        (("--resume", "last"), 2, "no sweep yet"),
        (("--resume", "x"), 2, "'x' is no sweep"),
        (("--resume", "7"), 2, "no sweep 7"),
        (("x", "--resume", "7"), 2, "has its cells already"),
        (("--seeds", "3", "--resume", "7"), 2, "has its cells already"),
        (("x", "--study", "mini"), 2, "has its prompts"),
        (("--part", "x=1", "--study", "mini"), 2, "has its prompts"),
        (("--part", "x=1", "--resume", "7"), 2, "has its cells already"),
        (("a cat", "--part", "dog=1,2"), 2, "'dog' is not in the prompt 'a cat'"),
        (("a cat", "--part", "cat"), 2, "'cat' is given no weights"),
        (("a cat", "--part", "cat=,"), 2, "'cat' is given no weights"),
        (("a cat", "--part", "=1"), 2, "has no words"),
        (("a cat", "--part", "cat=1,x"), 2, "the weight of 'cat' must be a number, not 'x'"),
        (("a cat", "--part", "cat=11"), 2, "the weight of 'cat' must be 0 to 10"),
        (("a cat", "--part", "cat=2", "--part", "cat=3"), 2, "'cat' is weighed twice"),
        (("a cat", "--part", "cat=2", "--syntax", "a1111"), 2, "in A1111's"),
        (("--study", "nothing"), 2, "no study 'nothing'"),
        (("x", "--models", ""), 2, "--models has nothing behind it"),
        (("x", "--report", ""), 2, "--report has nothing behind it"),
        (("x", "--seeds", "9-5"), 2, "the seeds '9-5' go backwards"),
        (("x", "--device", "gpu"), 2, "no device 'gpu'"),
        (("x", "--out", "/proc/x"), 1, "/proc/x can't be made"),
        (("--list", "--resume", "last"), 2, "do three things"),
        (("--remove", "7"), 2, "no sweep 7"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(home: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = safelight("sweep", *arguments)
    told = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert done.returncode == code and done.stdout == "" and len(told) == 2, done.stderr
    assert says in told[0] and told[1].startswith("hint: ")


def test_a_dry_run_makes_nothing(home: Path) -> None:
    told = safelight("sweep", "an apple", "--models", QUICK, "--guidance", "0,1.5", "--seeds", "3", "--dry-run")
    assert told.returncode == 0 and "12 pictures" in told.stderr and "guidance 1.5" in told.stdout
    cells = lines(safelight("sweep", "an apple", "--models", QUICK, "--seeds", "3", "--dry-run", "--json"))
    assert [cell["cell"] for cell in cells] == list(range(6)) and not list((home / "pictures").glob("*"))
    assert safelight("sweep", "--list").stdout.startswith("no sweep yet")


def test_a_dry_run_counts_what_is_not_here_and_tells_its_size(home: Path) -> None:
    told = safelight("sweep", "--study", "models", "--dry-run")
    assert told.returncode == 0 and "sdxl-lightning-8step-lora  64" in told.stdout, told.stderr
    assert "note: not here: sdxl-base 6.9 GB, sdxl-turbo 6.9 GB" in told.stderr and "32 GB in all" in told.stderr
    assert "512 pictures, the time is not known until one is made" in told.stderr
    assert safelight("sweep", "--list").stdout.startswith("no sweep yet")


def test_models_are_ranked_and_who_is_missing_is_told(home: Path) -> None:
    *cells, board = lines(
        safelight("sweep", "a red apple", "a pizza", "--models", f"{QUICK},sdxl-nothing", "--seeds", "2", "--json")
    )
    assert len(cells) == 8 and all(cell["picture"]["scores"]["mini-clip"] > 0 for cell in cells)
    assert list(board["leaderboards"]) == ["mini-clip"] and board["made"] == board["cells"] == 8
    ranks = board["leaderboards"]["mini-clip"]
    assert {rank["contender"]["model"] for rank in ranks} == set(QUICK.split(","))
    first, second = ranks
    own: dict[str, list[float]] = {}
    for cell in cells:
        own.setdefault(cell["point"]["model"], []).append(cell["picture"]["scores"]["mini-clip"])
    for rank in ranks:
        some = own[rank["contender"]["model"]]
        assert rank["mean"] == pytest.approx(sum(some) / 4, abs=1e-4) and rank["low"] <= rank["mean"] <= rank["high"]
    assert first["mean"] >= second["mean"] and first["place"] == 1 and second["seconds"] > 0
    assert board["missing"][0]["contender"] == "sdxl-nothing" and "no model" in board["missing"][0]["reason"]
    nothing = safelight("sweep", "--resume", "last", "--dry-run")
    assert nothing.returncode == 0 and "0 pictures" in nothing.stderr
    # again from the history, nothing is drawn
    again = safelight("sweep", "--resume", "last")
    assert again.returncode == 0 and "CONTENDER" in again.stdout and len(list((home / "pictures").glob("*.png"))) == 8
    assert "8/8" in safelight("sweep", "--list").stdout
    (row,) = lines(safelight("sweep", "--list", "--json"))
    assert (row["cells"], row["made"]) == (8, 8)


def test_without_a_scorer_pictures_are_made_and_nothing_is_ranked(home: Path) -> None:
    done = safelight("sweep", "a pizza", "--models", QUICK, "--seeds", "7,", "--scorer", "none")
    assert done.returncode == 0 and "2 pictures, not scored" in done.stdout
    assert len(list((home / "pictures").glob("*.png"))) == 2


def test_one_model_that_can_not_be_loaded_does_not_keep_the_rest(home: Path, tmp_path: Path) -> None:
    mini = Path(catalogue.__file__).parent / "mini"
    shutil.copytree(mini, tmp_path / "mini")
    weights = next((tmp_path / "mini").rglob("unet/*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1000])
    folder = weights.parent.parent
    (home / "config").mkdir(parents=True)
    (home / "config" / "models.toml").write_text(
        f"""
        [[model]]
        id = "broken"
        title = "Broken"
        family = "mini"
        licence = "none"
        source = {{ folder = "{folder}" }}
        recipe = {{ num_inference_steps = 4, guidance_scale = 4.5, scheduler = "euler", sizes = [[128, 128]] }}
        """
    )
    done = safelight("sweep", "a pizza", "--models", f"broken,{QUICK}", "--seeds", "5", "--json")
    *cells, board = lines(done)
    assert len(cells) == 10 and board["made"] == 10 and board["cells"] == 15
    (missing,) = board["missing"]
    assert missing["contender"] == "broken" and missing["reason"]
    assert done.stderr.count("the rest goes on") == 1
    store = Store(home / "data" / "safelight.db")
    (failed,) = store.query("SELECT count(*) AS n FROM jobs WHERE state = 'failed'")
    assert failed["n"] <= 4, "two of a kind, and what was queued already"


MINI = Path(catalogue.__file__).parent / "mini"
OF_ONES_OWN = """
[[model]]
id = "{id}"
title = "{id}"
family = "mini"
licence = "none"
source = {{ folder = "{folder}" }}
recipe = {{ num_inference_steps = 2, guidance_scale = 1, scheduler = "euler", sizes = [[128, 128]] }}
"""
JUDGE = """
[[scorer]]
id = "{id}"
title = "{id}"
kind = "clip"
licence = "none"
folder = "{folder}"
"""


def listed(home: Path, *tables: str) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "models.toml").write_text("".join(tables))


def test_two_entries_over_the_same_files_tie(home: Path) -> None:
    listed(home, *(OF_ONES_OWN.format(id=id, folder=MINI / "base") for id in ("one", "other")))
    done = safelight("sweep", "a pizza", "a red apple", "--models", "one,other", "--seeds", "2", "--json")
    first, second = lines(done)[-1]["leaderboards"]["mini-clip"]
    assert first["tie"] and second["tie"] and second["wins"] == 0.5 and first["mean"] == second["mean"]
    assert second["behind"] == second["behind_low"] == second["behind_high"] == 0
    shown = safelight("sweep", "--resume", "last").stdout
    assert shown.splitlines()[2].startswith("=  ") and "= can't be told from the first" in shown


def test_a_scorer_that_is_gone_or_damaged_costs_its_ranks_alone(home: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(MINI / "clip", tmp_path / "damaged")
    os.truncate(damaged / "model.safetensors", 1000)
    folders = {"gone": tmp_path / "nowhere", "damaged": damaged}
    listed(home, *(JUDGE.format(id=id, folder=folder) for id, folder in folders.items()))
    asked = ("sweep", "a pizza", "--models", QUICK, "--seeds", "1", "--scorer", "gone,mini-clip,damaged")
    page = home / "page.md"
    done = safelight(*asked, "--report", str(page), "--json")
    *cells, board = lines(done)
    assert len(cells) == 2 and len(board["leaderboards"]["mini-clip"]) == 2 and not board["leaderboards"]["damaged"]
    gone, hurt = board["missing"]
    assert gone["contender"] == "scorer gone" and ("is missing" in gone["reason"] or "not here" in gone["reason"])
    assert hurt["contender"] == "scorer damaged" and "can't be loaded" in hurt["reason"]
    assert "warning: scorer damaged can't be loaded: " in done.stderr
    assert "By mini-clip:" in page.read_text() and "damaged has scored nothing." in page.read_text()
    assert "- scorer gone: " in page.read_text()


def test_a_prompt_may_come_from_stdin() -> None:
    program = [*SAFELIGHT, "sweep", "-", "a dog", "--models", QUICK, "--seeds", "1,", "--dry-run", "--json"]
    done = subprocess.run(program, input="a pizza\n", capture_output=True, text=True, check=False)
    assert {line["point"]["prompt"] for line in lines(done)} == {"a pizza", "a dog"}


def test_where_no_picture_can_be_made_the_world_said_no(home: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(MINI / "base", tmp_path / "broken")
    weights = next(broken.glob("unet/*.safetensors"))
    os.truncate(weights, weights.stat().st_size - 1000)
    listed(home, OF_ONES_OWN.format(id="broken", folder=broken))
    done = safelight("sweep", "a pizza", "--models", "broken,nobody", "--seeds", "3")
    told = [line for line in done.stderr.splitlines() if not line.startswith(("note: ", "missing: "))]
    assert done.returncode == 1 and len(told) == 2, done.stderr
    assert "error: no picture of sweep 1 could be made" in told[0] and "hint: " in told[1]
    assert "missing: broken: " in done.stderr and "missing: nobody: no model 'nobody'" in done.stderr


def test_a_model_that_nobody_agrees_to_fetch_does_not_keep_the_rest(home: Path) -> None:
    done = safelight("sweep", "a pizza", "--models", f"{QUICK},sdxl-turbo", "--seeds", "1", "--json")
    *cells, board = lines(done)
    assert len(cells) == 2 and board["missing"][0]["contender"] == "sdxl-turbo"
    assert "sdxl-turbo not here" in done.stderr and "; the rest goes on" in done.stderr
    alone = safelight("sweep", "a pizza", "--models", "sdxl-turbo", "--seeds", "1")
    assert alone.returncode == 1 and "error: " in alone.stderr and "sdxl-turbo" in alone.stderr


def test_a_long_and_weighted_prompt_is_scored_in_chunks_and_without_its_weights(home: Path) -> None:
    said = "a red apple on a blue background with a green pear, "
    asked = (
        "sweep",
        f"{said * 8}freckles",
        "--part",
        "freckles=0.5,3",
        "--models",
        QUICK.split(",")[0],
        "--seeds",
        "1",
    )
    done = safelight(*asked, "--json")
    *cells, _ = lines(done)
    assert "note: mini-clip read the prompt in 2 chunks: it takes 77 tokens" in done.stderr
    one, other = (cell["picture"] for cell in cells)
    assert ("(freckles)0.5" in one["prompt"], "(freckles)3.0" in other["prompt"]) == (True, True)
    for picture in (one, other):
        for prompt in (f"{said * 8}freckles", picture["prompt"]):
            scored = safelight("score", picture["path"], "--prompt", prompt, "--json")
            assert "read the prompt in 2 chunks" in scored.stderr
            assert lines(scored)[0]["score"] == pytest.approx(picture["scores"]["mini-clip"], rel=1e-3)


FULL = """
import errno, os, sys
from pathlib import Path
real, pictures, most = os.fsync, Path(sys.argv.pop(1)), int(sys.argv.pop(1))
def fsync(handle):
    inside = Path(os.readlink(f"/proc/self/fd/{handle}"))
    if pictures in inside.parents and len(list(pictures.glob("[!.]*.png"))) >= most:
        raise OSError(errno.ENOSPC, "No space left on device")
    real(handle)
os.fsync = fsync
from tui.cli import main
main()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux what a handle leads to")
def test_a_full_disk_stops_a_sweep_which_goes_on_when_there_is_room(home: Path) -> None:
    asked = ["sweep", "a pizza", "--models", QUICK, "--seeds", "4"]
    run = [sys.executable, "-c", FULL, str(home / "pictures"), "3", *asked]
    done = subprocess.run(run, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    told = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: ", "warning: "))]
    assert done.returncode == 1 and len(told) == 2, done.stderr
    assert "is full" in told[0] and "safelight sweep --resume 1" in told[1]
    assert "5 cells are open" in done.stderr and "Traceback" not in done.stderr
    (row,) = lines(safelight("sweep", "--list", "--json"))
    before = {path: path.stat().st_mtime_ns for path in (home / "pictures").glob("[!.]*.png")}
    assert (row["cells"], row["made"]) == (8, 3) and len(before) == 3
    board = lines(safelight("sweep", "--resume", "last", "--json"))[-1]
    after = list((home / "pictures").glob("[!.]*.png"))
    assert board["made"] == 8 and len(after) == 8 and not board["missing"]
    assert all(path.stat().st_mtime_ns == when for path, when in before.items()), "none was made again"
    assert sum(rank["count"] for rank in board["leaderboards"]["mini-clip"]) == 8


def test_a_killed_sweep_of_the_mini_family_is_resumed_without_redoing_a_cell(home: Path) -> None:
    """24 cells, three kills, and the same leaderboard as an undisturbed run."""
    asked = ("sweep", "a red apple", "a pizza", "--models", QUICK, "--seeds", "6")
    chance = random.Random(11)
    arguments: tuple[str, ...] = asked
    for number in range(3):
        program = subprocess.Popen(
            [*SAFELIGHT, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
        )
        deadline, wanted = time.monotonic() + 120, 4 * number + 2 + chance.randrange(3)
        while time.monotonic() < deadline and made(home) < wanted:
            time.sleep(0.02)
        time.sleep(chance.random() * 0.3)
        program.send_signal(signal.SIGKILL)
        program.wait()
        arguments = ("sweep", "--resume", "last")
    before = {path: path.stat().st_mtime_ns for path in (home / "pictures").glob("*.png")}
    assert 0 < len(before) < 24
    board = lines(safelight(*arguments, "--json"))[-1]
    pictures = list((home / "pictures").glob("*.png"))
    assert board["made"] == 24 and len(pictures) == 24
    assert all(path.stat().st_mtime_ns == when for path, when in before.items()), "none was made again"
    undisturbed = lines(safelight(*asked, "--json"))[-1]
    for one, other in zip(*(x["leaderboards"]["mini-clip"] for x in (board, undisturbed)), strict=True):
        for name in ("contender", "place", "tie", "count", "mean", "low", "high", "behind", "wins"):
            assert one[name] == other[name], name


def made(home: Path) -> int:
    if not (home / "data" / "safelight.db").exists():
        return 0
    store = Store(home / "data" / "safelight.db")
    try:
        return store.count() if sweep.numbers(store) else 0
    finally:
        store.close()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a sweep of two models, two seeds, and one that is not there."""
    home = tmp_path_factory.mktemp("swept")
    prompt = "a <b>red</b> apple & a | pear"
    done = safelight(
        "sweep", prompt, "--models", f"{QUICK},nobody", "--seeds", "2", "--report", str(home / "sub" / "page.html"),
        SAFELIGHT_HOME=str(home),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"written: {home / 'sub' / 'page.html'}" in done.stderr
    return home


def test_a_page_holds_all_in_one_file(swept: Path) -> None:
    page = swept / "sub" / "page.html"
    text = page.read_text()
    assert "<b>" not in text and "&lt;b&gt;red" in text, "what was typed is text"
    assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), "it needs nothing from elsewhere"
    for told in ("mini-lightning-2step-lora", "data:image/jpeg;base64,", "<svg", "nobody: no model", "safelight sweep"):
        assert told in text, told
    assert "unet_sha256 of mini-lightning-4step-unet" in text and text.count('"cell": ') == 4
    assert page.stat().st_mode & 0o044 == 0o044 & ~umask()
    data = base64.b64decode(re.findall(r"base64,([A-Za-z0-9+/=]+)", text)[0])
    with Image.open(io.BytesIO(data)) as sheet:
        assert sheet.width > 2 * 100 and len(sheet.convert("RGB").getcolors(1 << 20) or ()) > 100


def test_a_page_in_markdown_has_its_pictures_beside_it(swept: Path, tmp_path: Path) -> None:
    done = safelight("sweep", "--resume", "last", "--report", str(tmp_path / "page.md"), SAFELIGHT_HOME=str(swept))
    assert done.returncode == 0 and sorted(p.name for p in tmp_path.iterdir()) == [
        "page-plot.svg",
        "page-sheet.jpg",
        "page.md",
    ]
    text = (tmp_path / "page.md").read_text()
    assert "![all pictures, a row for each prompt and seed](page-sheet.jpg)" in text and "](page-plot.svg)" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 3 and all(row.count("|") - row.count("\\|") == 11 for row in rows)
    requests = text.partition("```json\n")[2].partition("\n```")[0].splitlines()
    assert [json.loads(line)["cell"] for line in requests] == [0, 1, 2, 3]
    ElementTree.fromstring((tmp_path / "page-plot.svg").read_text())
    assert "- nobody: no model 'nobody'" in text
    assert "# a \\<b\\>red\\</b\\> apple" in text, "what was typed is text here, too"


@pytest.mark.parametrize("name", ["page.txt", "page", "."])
def test_another_name_is_no_reports(home: Path, tmp_path: Path, name: str) -> None:
    done = safelight("sweep", "x", "--report", str(tmp_path / name))
    assert done.returncode == 2 and "error: " in done.stderr and not list((home / "pictures").glob("*"))


def umask() -> int:
    return int(Path("/proc/self/status").read_text().partition("Umask:")[2].split()[0], 8)


def test_two_scorers_rank_by_themselves(home: Path) -> None:
    (home / "config").mkdir(parents=True)
    folder = Path(catalogue.__file__).parent / "mini" / "clip"
    (home / "config" / "models.toml").write_text(
        f"""
        [[scorer]]
        id = "twin"
        title = "Twin"
        kind = "clip"
        licence = "none"
        folder = "{folder}"
        """
    )
    asked = ("sweep", "a pizza", "a red apple", "--models", QUICK, "--seeds", "2", "--scorer", "mini-clip,twin")
    *cells, board = lines(safelight(*asked, "--json"))
    assert len(cells) == 8 and list(board["leaderboards"]) == ["mini-clip", "twin"]
    one, other = board["leaderboards"].values()
    for mine, theirs in zip(one, other, strict=True):  # the same weights, on the file's pixels
        assert mine["contender"] == theirs["contender"] and mine["mean"] == pytest.approx(theirs["mean"], rel=1e-3)
    (row,) = lines(safelight("history", "show", "last", "--json"))
    assert set(row["scores"]) == {"mini-clip", "twin"}
    page = home / "page.md"
    done = safelight("sweep", "--resume", "last", "--report", str(page))
    assert "MINI-CLIP" in done.stdout and "TWIN" in done.stdout
    assert "By mini-clip:" in page.read_text() and "By twin:" in page.read_text()


def test_one_damaged_file_keeps_no_other_picture_from_its_score(home: Path) -> None:
    asked = ("sweep", "a pizza", "--models", "mini-lightning-2step-lora", "--seeds", "4", "--scorer")
    first = lines(safelight(*asked, "mini-clip", "--json"))
    paths = [cell["picture"]["path"] for cell in first[:-1]]
    store = Store(home / "data" / "safelight.db")
    with store.transaction() as db:
        db.execute("DELETE FROM scores")
    kept = Path(paths[1]).read_bytes()
    size = len(kept)
    Path(paths[1]).write_bytes(kept[: size // 3] + bytes(size // 3) + kept[2 * size // 3 :])  # both ends are whole
    done = safelight("sweep", "--resume", "last", "--json")
    board = lines(done)[-1]
    assert board["leaderboards"]["mini-clip"][0]["count"] == 3
    told = [one for one in board["missing"] if one["contender"] == "scorer mini-clip"]
    assert len(told) == 1 and f"{paths[1]} can't be read as a picture" in told[0]["reason"]
    assert done.stderr.count("can't be read as a picture") == 1
    Path(paths[1]).write_bytes(kept)
    board = lines(safelight("sweep", "--resume", "last", "--json"))[-1]
    assert board["leaderboards"]["mini-clip"][0]["count"] == 4
    assert not [one for one in board["missing"] if one["contender"] == "scorer mini-clip"], "it is over"


def test_a_strength_and_a_variation_are_axes(home: Path) -> None:
    safelight("generate", "a red apple", "--seed", "3", "--steps", "2")
    (photo,) = (home / "pictures").glob("*.png")
    asked = ("sweep", "a pizza", "--models", "mini-lightning-2step-lora", "--seeds", "2")
    plan = lines(safelight(*asked, "--init", str(photo), "--strength", "0.5,1", "--dry-run", "--json"))
    assert [cell["point"]["strength"] for cell in plan] == ["0.5", "0.5", "1", "1"]
    *cells, _ = lines(safelight(*asked, "--variation-strength", "0,0.4", "--scorer", "none", "--json"))
    store = Store(home / "data" / "safelight.db")
    done = sweep.load(store)
    seeds = {cell.request.variation_seed for cell in done.cells}
    assert len(seeds) == 1 and None not in seeds, "every cell goes towards the same noise"
    again = shlex.split(done.command)
    assert again[:4] == ["safelight", "sweep", "--variation-seed", str(seeds.pop())]
    repeated = lines(safelight(*again[1:]))[:-1]
    known = {cell["cell"]: cell["picture"]["path"] for cell in cells}
    for cell in repeated:
        with Image.open(cell["picture"]["path"]) as one, Image.open(known[cell["cell"]]) as other:
            assert one.tobytes() == other.tobytes()
    none = safelight(*asked, "--strength", "0.5,1")
    assert none.returncode == 2 and "there is none to begin with" in none.stderr and "--init FILE" in none.stderr
