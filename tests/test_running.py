"""What a failure means for the other cells of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from engines import sweep
from engines.requests import Generate, Job, Picture, Seconds
from engines.running import Run
from engines.sweep import Cell, Sweep

ONE = Generate("", "m", 1, 64, 64, 4, 4.5)


def grid(guidances: int, prompts: int, seeds: int, size: int = 64) -> list[Cell]:
    return sweep.in_order(
        ((("prompt", f"p{p}"), ("guidance", str(g)), ("seed", str(s))),
         replace(ONE, prompt=f"p{p}", guidance_scale=float(g), seed=s, width=size))
        for g in range(guidances) for p in range(prompts) for s in range(seeds)
    )  # fmt: skip


def tried(
    cells: list[Cell], fault: Callable[[Generate], bool], made: Callable[[Generate], bool] = lambda request: False
) -> list[tuple[float, str, int]]:
    """(guidance, prompt, seed) of what is submitted, where some requests fail; everything ends, and each cell once."""
    there = Picture(1, 1, "x.png", ONE, 64, 64, Seconds(), 0.0)
    cells = [replace(cell, picture=there) if made(cell.request) else cell for cell in cells]
    run = Run(Sweep(1, "", "", (), (), 0.0, tuple(cells)))
    ids, asked, told = count(1), [], 0
    queue: list[Job] = []
    while not run.over:
        while (more := run.next()) is not None:
            cell, group = more
            queue.append(Job(next(ids), cell.request, group, 0.0))
            assert run.queued(queue[-1])
            asked.append((cell.request.guidance_scale, cell.request.prompt, cell.request.seed))
        job = queue.pop(0)
        request = job.request
        assert isinstance(request, Generate)
        if fault(request):
            told += len(run.failed(job.id, "no such thing"))
        else:
            run.done(job.id)
            told += 1
    assert told == run.of == run.ended
    return asked


def test_a_broken_model_is_given_up_after_a_few_contenders() -> None:
    assert len(tried(grid(20, 1, 1), lambda request: True)) <= 6, "of one cell each; four, and what was queued"
    assert len(tried(grid(20, 4, 5), lambda request: True)) <= 48, "of 400"


def test_a_bad_prompt_costs_itself_alone() -> None:
    asked = tried(grid(3, 4, 6), lambda request: request.prompt == "p0")
    assert {(g, p) for g, p, _ in asked} == {(float(g), f"p{p}") for g in range(3) for p in range(4)}
    for g in range(3):
        assert len([1 for one in asked if one[:2] == (g, "p0")]) <= 4
        assert all(len([1 for one in asked if one[:2] == (g, f"p{p}")]) == 6 for p in (1, 2, 3))


def test_a_bad_setting_costs_itself_alone() -> None:
    asked = tried(grid(3, 3, 4), lambda request: request.guidance_scale == 1)
    assert len([1 for one in asked if one[0] == 1]) < 12 and len([1 for one in asked if one[0] != 1]) == 24


@pytest.mark.parametrize("seeds", [1, 4])
def test_a_bad_scheduler_does_not_cost_the_model_its_others(seeds: int) -> None:
    """Three guidances of it fail before anything succeeds."""
    asked = tried(grid(18, 1, seeds), lambda request: request.guidance_scale < 3)
    assert len([1 for one in asked if one[0] >= 3]) == 15 * seeds


def test_two_bad_prompts_do_not_cost_the_good_ones() -> None:
    asked = tried(grid(3, 10, 4), lambda request: request.prompt in ("p0", "p1"))
    assert len([1 for one in asked if one[1] not in ("p0", "p1")]) == 3 * 8 * 4


def test_what_was_made_earlier_counts_when_a_sweep_goes_on() -> None:
    """All that is left of two contenders is a bad prompt."""
    asked = tried(
        grid(6, 3, 3),
        lambda request: request.prompt == "p0",
        lambda request: request.guidance_scale < 5 and request.prompt != "p0",
    )
    assert len([1 for one in asked if one[1] != "p0"]) == 1 * 2 * 3


def test_too_large_a_picture_does_not_cost_the_smaller_ones() -> None:
    large, small = grid(2, 1, 2, 128), grid(2, 1, 2)
    points = [*((("size", "128"), *cell.point) for cell in large), *((("size", "64"), *cell.point) for cell in small)]
    cells = sweep.in_order(zip(points, [cell.request for cell in (*large, *small)], strict=True))
    asked = tried(cells, lambda request: request.width == 128)
    assert len(asked) == 8
