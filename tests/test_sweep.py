"""Sweeps: written down first, made once whatever goes down in between, resumed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sweep_child import FakeDarkroom, score_of

from engines import ranking, sweep
from engines.errors import InvalidRequest, StorageError
from engines.ranking import Trial
from engines.requests import Generate, Job, Lora, Seconds
from engines.store import Made, Store, cell_of, group_of
from engines.sweep import Cell
from tui import report, runs

ONE = Generate("a red apple", "mini", 1, 64, 64, 4, 4.5, score="fake")


def grid(models: int, seeds: int) -> list[Cell]:
    asked = [
        ((("prompt", "a red apple"), ("model", f"m{m}"), ("seed", str(s))), replace(ONE, model=f"m{m}", seed=s))
        for s in range(seeds)
        for m in range(models)
    ]
    return sweep.in_order(asked)


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home / "data" / "safelight.db")


def drained(darkroom: FakeDarkroom, job: Job) -> tuple[Made, ...]:
    development = darkroom.develop(job, lambda: False, 0)
    while True:
        try:
            next(development)
        except StopIteration as end:
            made: tuple[Made, ...] = end.value
            return made


def test_each_model_is_loaded_once_and_cells_keep_their_order_within_it() -> None:
    cells = grid(3, 4)
    assert [cell.request.model for cell in cells] == ["m0"] * 4 + ["m1"] * 4 + ["m2"] * 4
    assert [cell.request.seed for cell in cells] == [0, 1, 2, 3] * 3
    assert [cell.number for cell in cells] == list(range(12))
    worn = sweep.in_order([((), replace(ONE, loras=(Lora(x),), seed=s)) for s in (1, 2) for x in "ab"])
    assert [cell.request.loras[0].name for cell in worn] == ["a", "a", "b", "b"]
    with pytest.raises(InvalidRequest, match="no cells"):
        sweep.in_order([])


def test_a_cell_knows_what_is_compared_and_in_what() -> None:
    cell = grid(1, 1)[0]
    assert cell.block == (("prompt", "a red apple"), ("seed", "0")) and cell.contender == (("model", "m0"),)


def test_a_sweep_is_read_back_as_it_was_written_down(store: Store) -> None:
    cells = grid(2, 3)
    begun = sweep.begin(store, cells, "apples", "safelight sweep …", ("fake",), ("prompt", "model", "seed"))
    assert sweep.load(store) == sweep.load(store, begun.id) == begun
    assert sweep.numbers(store)[0][:4] == (begun.id, "apples", 6, 0)
    for id in (99, -1, 2**70):
        with pytest.raises(InvalidRequest, match="no sweep"):
            sweep.load(store, id)


def test_without_any_sweep_that_is_told(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="no sweep yet"):
        sweep.load(store)


@pytest.mark.parametrize("group", [None, "", "sweep-1", "sweep-1-2-3", "sweep-a-1", "live-1", f"sweep-1-{9**30}"])
def test_no_other_group_is_a_cells(group: str | None) -> None:
    assert cell_of(group) is None
    assert cell_of(group_of(12, 345)) == (12, 345)


def test_the_picture_becomes_the_cells_in_the_transaction_that_ends_its_job(store: Store, home: Path) -> None:
    begun = sweep.begin(store, grid(1, 2), "apples")
    engine = store.register("command")
    (job,) = store.add([begun.cells[1].request], group_of(begun.id, 1), engine)
    darkroom = FakeDarkroom(home / "pictures", 0)
    made = drained(darkroom, Job(job.id, job.request, job.group, 0))
    sweep.fail(store, begun.id, [0, 1], "it failed once")
    (picture,) = store.finish(job.id, made)
    first, second = sweep.load(store).cells
    assert (first.picture, first.message) == (None, "it failed once")
    assert (second.picture, second.message) == (picture, "")
    sweep.fail(store, begun.id, [1], "too late")
    assert sweep.load(store).cells[1].message == ""


def test_two_programs_do_not_make_one_sweep(store: Store) -> None:
    with runs.alone(store, 7):
        with pytest.raises(InvalidRequest, match="is being made already"), runs.alone(store, 7):
            pass
        with runs.alone(store, 8):
            pass
    with runs.alone(store, 7):
        pass


def test_a_sweep_that_is_killed_three_times_ends_with_exactly_its_pictures(home: Path, store: Store) -> None:
    """200 cells on an engine that draws nothing; kills between file and row included."""
    begun = sweep.begin(store, grid(5, 40), "killed", scorers=("fake",))
    run = [sys.executable, str(Path(__file__).with_name("sweep_child.py")), str(home), "0.005"]
    chance = random.Random(5)
    for _ in range(3):
        before = sum(cell.picture is not None for cell in sweep.load(store).cells)
        program = subprocess.Popen(run, stderr=subprocess.DEVNULL, env=os.environ)
        deadline, wanted = time.monotonic() + 60, before + chance.randrange(10, 50)
        while time.monotonic() < deadline and sum(c.picture is not None for c in sweep.load(store).cells) < wanted:
            time.sleep(chance.random() * 0.02)
        program.send_signal(signal.SIGKILL)
        program.wait()
        assert len(sweep.load(store).open) > 0, "it was killed on the way"
    assert subprocess.run(run, capture_output=True, env=os.environ, check=False).returncode == 0
    done = sweep.load(store, begun.id)
    pictures = [cell.picture for cell in done.cells if cell.picture is not None]
    assert len(pictures) == 200 == len({picture.path for picture in pictures}) == store.count()
    # what a kill leaves half written begins with a dot, and is removed later
    assert {str(path) for path in (home / "pictures").glob("[!.]*")} == {picture.path for picture in pictures}
    assert all(cell.picture and cell.picture.request.seed == cell.request.seed for cell in done.cells)
    undisturbed = [Trial(cell.contender, cell.block, score_of(cell.request), 0.1) for cell in begun.cells]
    ranks = (ranking.rank(undisturbed), ranking.rank(runs.trials(done, "fake")))
    assert [(r.contender, r.mean, r.low, r.high, r.wins) for r in ranks[0]] == [
        (r.contender, r.mean, r.low, r.high, r.wins) for r in ranks[1]
    ]


@pytest.mark.parametrize("folder", [None, "here"])
def test_what_no_row_knows_is_found_again_and_strangers_are_left_alone(
    home: Path, store: Store, folder: str | None
) -> None:
    pictures = str(home / "pictures")
    asked = [(cell.point, replace(cell.request, folder=folder and pictures)) for cell in grid(1, 3)]
    begun = sweep.begin(store, sweep.in_order([*asked, asked[0]]), "apples with one twice")
    darkroom = FakeDarkroom(home / "pictures", 0)
    for request in (begun.cells[0].request, replace(begun.cells[0].request, prompt="another")):
        drained(darkroom, Job(0, request, None, 0))
    (home / "pictures" / "noise.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    found = sweep.find_again(store, begun, home / "pictures")
    assert [cell.picture is not None for cell in found.cells] == [True, False, False, False] and store.count() == 1
    assert sweep.find_again(store, found, home / "pictures") == found, "not twice"
    assert sweep.find_again(store, begun, home / "nowhere") == begun
    drained(darkroom, Job(0, begun.cells[0].request, None, 0))  # of two equal cells each has its own
    found = sweep.find_again(store, found, home / "pictures")
    assert [cell.picture is not None for cell in found.cells] == [True, False, False, True]


def test_what_was_kept_elsewhere_comes_into_its_folder(home: Path, store: Store) -> None:
    """As after a disk that was full: the picture is in a refuge, and no row knows it."""
    out, refuge = home / "out", home / "refuge"
    asked = [(cell.point, replace(cell.request, folder=str(out))) for cell in grid(1, 3)]
    begun = sweep.begin(store, sweep.in_order(asked), "apples")
    drained(FakeDarkroom(refuge, 0), Job(0, begun.cells[1].request, None, 0))
    full = store.path.with_name("full")
    full.write_text("no folder")
    stays = sweep.find_again(store, begun, full / "out", [refuge])  # there is still no room
    assert [cell.number for cell in stays.cells if cell.picture] == [1] and stays.cells[1].picture is not None
    assert Path(stays.cells[1].picture.path).parent == refuge
    with store.transaction() as db:
        db.execute("UPDATE cells SET picture_id = NULL")
        db.execute("DELETE FROM pictures")
    found = sweep.find_again(store, sweep.load(store), out, [refuge, refuge])
    picture = found.cells[1].picture
    assert picture is not None and Path(picture.path).parent == out and Path(picture.path).is_file()
    assert list(refuge.glob("*.png")) == [] and len(found.open) == 2


def test_a_cell_that_can_not_be_read_is_told_and_the_rest_is_there(store: Store) -> None:
    begun = sweep.begin(store, grid(1, 4), "apples")
    with store.transaction() as db:
        db.execute("UPDATE cells SET request = ? WHERE number = 1", ('{"kind": "generate"}',))
        db.execute("UPDATE cells SET point = 'x' WHERE number = 2")
    read = sweep.load(store)
    assert [cell.number for cell in read.cells] == [0, 3] and begun.cells[0] == read.cells[0]
    assert read.left_out == (("cell 1", "it can't be read"), ("cell 2", "it can't be read"))


def finished(store: Store, folder: Path, scores: bool = True) -> sweep.Sweep:
    """Two models over six seeds, made; the files are there."""
    begun = sweep.begin(store, grid(2, 6), "apples", "", ("fake",), ("prompt", "model", "seed"))
    engine = store.register("command")
    folder.mkdir(exist_ok=True)
    for cell in begun.cells:
        path = folder / f"{cell.number}.png"
        path.write_bytes(sweep.PNG + b"IEND")
        (job,) = store.add([cell.request], group_of(begun.id, cell.number), engine)
        told = {"fake": 20.0 + cell.number} if scores else {}
        store.finish(job.id, [Made(str(path), cell.request, 64, 64, Seconds(denoise=1, total=1), {}, b"", told)])
    return sweep.load(store, begun.id)


def test_what_was_deleted_is_told_and_opened_again(store: Store, tmp_path: Path) -> None:
    done = finished(store, tmp_path / "pictures")
    assert sweep.gone(done) == () and sweep.reopen(store, done) == (done, 0)
    (tmp_path / "pictures" / "3.png").unlink()
    (tmp_path / "pictures" / "7.png").write_bytes(sweep.PNG + bytes(9000))  # cut off
    (tmp_path / "pictures" / "8.png").write_bytes(sweep.PNG + b"IEND" + bytes(99))  # some programs write more behind
    assert [cell.number for cell in sweep.gone(done)] == [3, 7]
    for damage in (b"", b"garbage"):
        (tmp_path / "pictures" / "7.png").write_bytes(damage)
        assert [cell.number for cell in sweep.gone(done)] == [3, 7]
    (page,) = report.write(done, tmp_path / "page.html")
    told = f"pictures: 2 files were deleted or damaged; safelight sweep --resume {done.id} makes them again"
    assert told in page.read_text()
    opened, count = sweep.reopen(store, done)
    assert count == 2 and [cell.number for cell in opened.open] == [3, 7]


def test_a_sweep_is_forgotten_and_its_pictures_are_not(store: Store, tmp_path: Path) -> None:
    done = finished(store, tmp_path / "pictures")
    sweep.mark(store, done.id)
    sweep.remove(store, done.id)
    assert sweep.numbers(store) == [] and sweep.marked(store) is None and store.count() == 12
    assert len(list((tmp_path / "pictures").iterdir())) == 12
    with pytest.raises(InvalidRequest, match="no sweep"):
        sweep.remove(store, done.id)


def test_what_makes_numbers_unsure_is_told(store: Store, tmp_path: Path) -> None:
    done = finished(store, tmp_path / "pictures")
    ranks = ranking.rank(runs.trials(done, "fake"))
    assert len(runs.doubts(done, ranks)) == 1 and runs.unranked(done, ranks) == () and runs.stars(done) == {}
    few = replace(done, cells=tuple(cell for cell in done.cells if cell.request.seed < 2))
    one = replace(done, cells=tuple(cell for cell in done.cells if cell.request.seed < 1))
    assert [runs.ties(rank) for rank in ranking.rank(runs.trials(few, "fake"))] == [True, None], (
        "two pairs tell nothing"
    )
    first, second = ranking.rank(runs.trials(one, "fake"))
    assert (runs.mark(first), runs.wins(first)) == ("1", "") and (runs.mark(second), runs.wins(second)) == ("?", "?")
    told, _ = runs.doubts(few, ranking.rank(runs.trials(few, "fake")))
    assert told.startswith("with fewer than 5 prompts, or pairs") and told.endswith("2 here")
    less = tuple(replace(cell, picture=None) if cell.number == 0 else cell for cell in done.cells)
    _, told = runs.doubts(replace(done, cells=less), ranking.rank(runs.trials(replace(done, cells=less), "fake")))
    assert told == "who was scored in fewer pairs than 6 stands behind all others"
    none = tuple(replace(cell, picture=None) if cell.request.model == "m1" else cell for cell in done.cells)
    ranks = ranking.rank(runs.trials(replace(done, cells=none), "fake"))
    assert runs.unranked(replace(done, cells=none), ranks) == ((("model", "m1"),),)
    (page,) = report.write(replace(done, cells=none), tmp_path / "page.html")
    assert "<td>–</td><td>m1</td><td>0</td>" in page.read_text() and "1 contender without a score" in page.read_text()


def test_prompts_count_as_far_as_they_were_scored(store: Store, tmp_path: Path) -> None:
    done = finished(store, tmp_path / "pictures")
    one = "one prompt says nothing of others: who is better is better at this one"
    assert one in runs.doubts(done, ranking.rank(runs.trials(done, "fake")))
    cells = tuple(
        replace(cell, point=tuple((a, f"p{cell.request.seed}" if a == "prompt" else v) for a, v in cell.point))
        for cell in done.cells
    )
    assert runs.doubts(replace(done, cells=cells), ranking.rank(runs.trials(replace(done, cells=cells), "fake"))) == ()
    cells = tuple(replace(cell, picture=None) if cell.request.seed > 1 else cell for cell in cells)
    told = runs.doubts(replace(done, cells=cells), ranking.rank(runs.trials(replace(done, cells=cells), "fake")))
    assert "2 prompts are too few to speak of others: who is better is better at these" in told


def test_what_kept_a_scorer_is_over_when_it_has_scored_all_that_it_can(store: Store, tmp_path: Path) -> None:
    done = replace(finished(store, tmp_path / "pictures"), left_out=(("scorer fake", "no room"),))
    assert runs.missing(done) == ()
    first = done.cells[0]
    assert first.picture is not None
    bare = replace(first.picture, request=replace(first.request, prompt=" "), scores={})
    some = replace(done, cells=(replace(first, picture=bare), *done.cells[1:]))
    assert runs.missing(some) == (), "it reads a prompt, and there is none"
    assert runs.missing(some, {"fake"}) == (("scorer fake", "no room"),), "it reads none, and could have"


def test_a_sweep_is_asked_after_without_being_in_the_way(store: Store) -> None:
    id = sweep.begin(store, grid(1, 1), "apples").id
    assert not runs.taken(store, id)
    with runs.alone(store, id):
        assert runs.taken(store, id)
        with pytest.raises(InvalidRequest, match="is being made already"), runs.alone(store, id):
            pass
    assert not runs.taken(store, id)


def test_stars_stand_in_the_report_apart_from_scores(store: Store, tmp_path: Path) -> None:
    done = finished(store, tmp_path / "pictures")
    for cell, stars in zip(done.cells, (5, 4, None, None, None, None, 2), strict=False):
        if stars is not None and cell.picture is not None:
            store.rate(cell.picture.id, stars)
    done = sweep.load(store, done.id)
    assert runs.stars(done) == {(("model", "m0"),): (4.5, 2), (("model", "m1"),): (2.0, 1)}
    (page,) = report.write(done, tmp_path / "page.html")
    assert "<li>m0: 4.5 of 5 stars, 2 pictures</li><li>m1: 2.0 of 5 stars, 1 picture</li>" in page.read_text()
    text = report.write(done, tmp_path / "page.md")[0].read_text()
    assert "## By hand\n\n- m0: 4.5 of 5 stars, 2 pictures\n" in text


def test_labels_of_a_plot_do_not_lie_over_each_other() -> None:
    taken: list[report.Box] = []
    for number in range(16):
        at, base = report._free(200 + number % 3, 140 + number % 2, 120, taken)
        assert at > 200 and 0 < base < report.HIGH
    assert len(taken) == 16
    apart = [report._overlap(one, other) for i, one in enumerate(taken) for other in taken[:i]]
    assert not any(apart)


def test_a_disk_that_is_away_is_not_taken_for_deleted_pictures(store: Store, tmp_path: Path) -> None:
    done = finished(store, tmp_path / "pictures")
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    for there in (False, True):  # the mount point may be there, and empty
        if there:
            (tmp_path / "pictures").mkdir()
        for ask in (lambda: sweep.deleted(done), lambda: sweep.reopen(store, done)):
            with pytest.raises(StorageError, match=r"all 12 pictures of sweep 1 in .* are gone") as told:
                ask()
            assert "--remove 1" in told.value.hint
    assert not sweep.load(store).open
    assert "all 12 pictures of sweep 1" in report.write(done, tmp_path / "page.html")[0].read_text()
    one = replace(done, cells=done.cells[:1])
    with pytest.raises(StorageError, match=r"the picture of sweep 1 .* is gone"):
        sweep.deleted(one)
    (tmp_path / "pictures" / "another.png").touch()
    assert len(sweep.deleted(one)) == 1, "a single one was deleted, where others are"


def test_a_disk_that_does_not_answer_is_told(store: Store, tmp_path: Path) -> None:
    done = finished(store, tmp_path / "pictures")
    loop = tmp_path / "pictures" / "3.png"
    loop.unlink()
    loop.symlink_to(loop)  # as EIO or ESTALE would be: no answer, and not "there is none"
    with pytest.raises(StorageError, match=r"3.png can't be looked at"):
        sweep.reopen(store, done)
    assert "can&#x27;t be looked at" in report.write(done, tmp_path / "page.html")[0].read_text()


def test_a_picture_that_began_with_another_is_found_again(home: Path, store: Store) -> None:
    """The file tells the name of the picture it began with, the cell its whole path."""
    asked = [(cell.point, replace(cell.request, init=str(home / "photo.png"), strength=0.5)) for cell in grid(1, 2)]
    begun = sweep.begin(store, sweep.in_order(asked), "photos")
    drained(FakeDarkroom(home / "pictures", 0), Job(0, begun.cells[1].request, None, 0))
    assert [cell.picture is not None for cell in sweep.find_again(store, begun, home / "pictures").cells] == [
        False,
        True,
    ]


def test_why_a_scorer_failed_is_over_when_it_has_scored_all(store: Store, tmp_path: Path) -> None:
    done = finished(store, tmp_path / "pictures")
    sweep.note(store, done.id, "scorer fake", "3.png can't be read")
    sweep.note(store, done.id, "scorer other", "not here")
    assert runs.missing(sweep.load(store)) == (("scorer other", "not here"),)
    with store.transaction() as db:
        db.execute("DELETE FROM scores WHERE picture_id = (SELECT min(picture_id) FROM scores)")
    assert len(runs.missing(sweep.load(store))) == 2


def test_of_pictures_without_a_prompt_those_scorers_judge_that_read_none(store: Store, tmp_path: Path) -> None:
    done = finished(store, tmp_path / "pictures", scores=False)
    bare = replace(done, scorers=("reads", "looks"), cells=tuple(
        replace(cell, request=replace(cell.request, prompt=" ")) for cell in done.cells
    ))  # fmt: skip
    assert runs.judgements(bare) == [] and [one.scorer for one in runs.judgements(bare, {"looks"})] == ["looks"]
    (asked,) = runs.judgements(bare, {"looks"})
    assert len(asked.pictures) == 12


def test_what_a_model_takes_that_was_never_drawn_with_goes_by_its_steps(store: Store, tmp_path: Path) -> None:
    done = finished(store, tmp_path / "pictures")  # a second for four steps
    assert runs.estimate(store, done.cells[:6]).startswith("6 pictures, about 6.0 s, ")
    quick = [replace(cell, request=replace(cell.request, model="quick", num_inference_steps=2)) for cell in done.cells]
    assert runs.estimate(store, quick[:6]).startswith("6 pictures, about 3.0 s, ")
    assert runs.estimate(store, []).startswith("0 pictures, ")
