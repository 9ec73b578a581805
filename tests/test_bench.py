"""The benches: that they run and tell their figures. No test asserts a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import psutil
import pytest

from engines.requests import Generate, Warm, to_json
from tui import line_bench, looking_bench, probe, wire_bench
from tui.figures import Figure, Spread
from tui.sweep_bench import OTHERS
from tui.typing_bench import SLIDES

BENCH = [sys.executable, "-m", "tui", "bench"]
TINY = ["-m", "mini-lightning-2step-lora", "--runs", "1", "--json"]


def figures(*names: str) -> list[dict[str, Any]]:
    """What `bench NAME… --json` prints with the quickest model, once."""
    command = [*BENCH, *names, *TINY]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_engine(home: Path) -> None:
    """Both sides did the same work: their pixels are the same."""
    machine, engine, previews = figures("engine")
    assert machine["bench"] == "machine" and machine["model"] == TINY[1] and machine["cores"] >= 1
    assert engine["bench"] == previews["bench"] == "engine"
    for figure in (engine, previews):
        assert figure["unit"] == "s" and figure["runs"] == len(figure["values"]) == 1
        assert figure["median"] > 0 and figure["against"]["median"] > 0 and figure["ratio"] > 0 and figure["goal"]
    assert engine["difference"] == pytest.approx(engine["median"] - engine["against"]["median"], abs=1e-4)
    assert engine["pixels"] <= 2
    assert set(engine["phases"]) == {"bare", "engine", "previews"}
    assert engine["phases"]["bare"].keys() == {"encode", "denoise", "decode", "score", "save", "total"}
    assert engine["met"] in (True, False) and engine["steps"] == 2
    assert not list((home / "cache").glob("bench-*")) and not (home / "pictures").exists()


def test_start_and_memory() -> None:
    """One run gives both; one of them alone may be asked for."""
    _, start, memory = figures("start", "memory")
    assert (start["bench"], memory["bench"]) == ("start", "memory")
    assert 0 < start["median"] <= start["last"]["median"] and memory["unit"] == "B" and memory["median"] > 1e8
    assert start["imports"].keys() == {"torch", "engine", "compel"}
    assert start["seconds"]["denoise"] > 0 and "--count" in start["command"]


def test_paint_and_keys() -> None:
    """Both need no terminal: they bring their own."""
    _, paint, *keys = figures("paint", "keys")
    assert paint["median"] > 0 and paint["against"]["what"] == "an empty Textual app" and paint["ratio"] > 0
    assert [figure["what"] for figure in keys] == [
        "while pictures are made", "with nothing to do", "while torch is imported"
    ]  # fmt: skip
    for figure in keys:
        assert 0 < figure["p50"] <= figure["p90"] <= figure["p99"] <= figure["max"]
        assert len(figure["values"]) + figure["lost"] > 10


def test_live() -> None:
    """The engine's sketch is told with the work that is in it."""
    _, key, sketch = figures("live")
    assert key["bench"] == sketch["bench"] == "live" and key["median"] > 0 and len(key["values"]) == SLIDES
    assert len(sketch["values"]) == len(sketch["against"]["values"]) == SLIDES and sketch["met"] in (True, False)
    assert (sketch["model"], sketch["evaluations"], sketch["batch"], sketch["decoder"]) == (TINY[1], 2, 1, "preview")
    assert (sketch["width"], sketch["height"]) == (128, 128)


def test_sweep() -> None:
    """Both sides made the same pictures, of several models, and none of these was loaded meanwhile."""
    _, sweep, opening, *keys = figures("sweep")
    assert sweep["bench"] == "sweep" and sweep["runs"] == len(sweep["values"]) == len(sweep["against"]["values"]) == 1
    assert sweep["median"] > 0 and sweep["against"]["median"] > 0 and sweep["ratio"] > 0 and sweep["goal"]
    assert len(sweep["models"]) == OTHERS + 1 and TINY[1] in sweep["models"]
    assert all(side["bare"] > 0 and side["sweep"] > 0 for side in sweep["models"].values())
    assert sweep["pixels"] <= 2 and sweep["held"] and sweep["met"] in (True, False) and sweep["scorer"] == "mini-clip"
    assert opening["what"].startswith("opening") and opening["median"] > 0 and opening["met"] in (True, False)
    assert [len(figure["values"]) for figure in keys] == [len(looking_bench.BOARD), len(looking_bench.SHEET)]
    assert sweep["phases"]["bare"].keys() == {"encode", "denoise", "decode", "score", "save", "total"}


@pytest.mark.parametrize("text", ["", to_json(Warm("mini"))])
def test_a_sweep_of_no_pictures_is_not_measured(tmp_path: Path, text: str) -> None:
    """The file is the cells' requests, all of them."""
    file = tmp_path / "cells"
    file.write_text(text, encoding="utf-8")
    done = forked.run([str(file)], program="engines.diffusion.sweep_bench")
    assert done.returncode == 2 and json.loads(done.stdout)["error"].startswith("pictures are needed")


def test_the_bare_work_of_a_sketch_is_what_the_engine_does(tmp_path: Path) -> None:
    """Every call of the UNet counts: both of a second-order step, with both halves of the guidance."""
    asked = [
        Generate(f"a (red){weight} apple", "mini", 7, 128, 128, 3, 4.5, scheduler="heun", sketch=True)
        for weight in (1.2, 1.3)
    ]
    file = tmp_path / "sketches"
    code, found = sketch_bench(file, asked)
    assert code == 0 and (found["evaluations"], found["batch"], found["decoder"]) == (5, 2, "preview")
    assert len(found["bare"]) == len(found["engine"]) == 1 and found["precision"] == "fp32"
    for bad in (asked[:1], [*asked, replace(asked[0], sketch=False)], [asked[0], replace(asked[1], width=64)]):
        code, found = sketch_bench(file, bad)
        assert code == 2 and found["error"].startswith("two or more sketches")


def sketch_bench(file: Path, asked: list[Generate]) -> tuple[int, dict[str, Any]]:
    """The exit code and the last object of the engine's side of the live bench."""
    file.write_text("".join(to_json(one) + "\n" for one in asked), encoding="utf-8")
    done = forked.run([str(file)], program="engines.diffusion.sketch_bench")
    assert done.stdout, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    return done.returncode, last.get("result", last)


def test_unknown_name() -> None:
    """What is typed wrong is told as everywhere."""
    done = subprocess.run([*BENCH, "pant"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[0].startswith("error: no bench 'pant'") and "paint" in done.stderr


def test_an_interrupted_bench_leaves_nothing(home: Path) -> None:
    """Ctrl+C ends what was started, and the temporary home goes."""
    bench = subprocess.Popen([*BENCH, "keys", *TINY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert bench.stdout is not None and bench.stdout.readline()
        until = time.monotonic() + 30
        while not (children := psutil.Process(bench.pid).children(recursive=True)) and time.monotonic() < until:
            time.sleep(0.05)
        assert children
        time.sleep(0.5)
        bench.send_signal(signal.SIGINT)
        bench.communicate(timeout=20)
    finally:
        bench.kill()
        bench.wait()
    assert bench.returncode == 130
    assert not psutil.wait_procs(children, timeout=5)[1]
    assert not list((home / "cache").glob("bench-*"))


def test_typing_is_seen() -> None:
    """A program that echoes has nothing lost; one that swallows every key has everything lost."""
    echo = "import os, tty; tty.setraw(0)\nwhile True: os.write(1, os.read(0, 64))"
    swallow = "import os, tty; tty.setraw(0); os.write(1, b'up')\nwhile True: os.read(0, 64)"
    with probe.Terminal(probe.python("import os; os.write(1, b'up');" + echo), os.environ) as terminal:
        terminal.wait("up", 20)
        typed = terminal.type(iter(probe.alphabet()), 10)
        assert len(typed.late) == 10 and typed.lost == 0 and min(typed.late) >= 0
    with probe.Terminal(probe.python(swallow), os.environ) as terminal:
        terminal.wait("up", 20)
        assert terminal.type(iter(probe.alphabet()), 3) == probe.Typed((), 3)


def test_a_figure_in_words_and_as_json() -> None:
    """Ratios are of the medians."""
    figure = Figure("paint", "it", Spread((0.2, 0.4, 0.3)), "that", Spread((0.1, 0.1, 0.2)), "at most 2x", False)
    told = figure.to_json()
    assert told["median"] == 0.3 and told["ratio"] == 3.0 and told["difference"] == 0.2 and told["met"] is False
    assert "3.00x" in figure.line() and "goal at most 2x: missed" in figure.line()
    assert Spread(tuple(float(i) for i in range(100))).at(0.99) == 99.0


def test_wire() -> None:
    """Both sides were in both terminals, and each part of the session sent something."""
    _, kitty, sixel = figures("wire")
    for figure in (kitty, sixel):
        assert figure["unit"] == "B" and figure["ratio"] > 0 and figure["met"] in (True, False)
        assert set(figure["parts"]) == set(figure["stock"]) == set(wire_bench.PARTS) and figure["previews"] >= 2
        assert all(size > 1000 for size in (*figure["parts"].values(), *figure["stock"].values()))
        assert sum(figure["parts"].values()) == figure["median"]


def test_line() -> None:
    """In every kind of terminal each key was seen, none sooner than the line carries it."""
    for figure in figures("line")[1:]:
        assert figure["bench"] == "line" and figure["lost"] == 0 and figure["bytes"] > 10_000
        assert min(figure["values"]) > line_bench.TRIP and len(figure["values"]) == line_bench.KEYS


def test_a_line_carries_what_it_is_given_in_its_own_time() -> None:
    """It takes all at once, brings it late, and answers when it is there."""
    code = (
        "import os, sys, tty; tty.setraw(0); os.write(1, b'x' * 5000 + b'\\x1b[5n');"
        "os.write(1, b'heard' if os.read(0, 9) == b'\\x1b[0n' else b'?'); os.read(0, 9)"
    )
    with probe.Distant(probe.python(code), os.environ, probe.PLAIN, pace=20_000, trip=0.1) as terminal:
        terminal.wait("x{5000}", 20)
        there = time.perf_counter()
        terminal.wait("heard", 20)
        assert time.perf_counter() - there > 0.09
        assert len(terminal.text()) == 5005
