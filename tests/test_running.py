"""What a failure means for the other cells of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from engines import sweep
from engines.requests import Generate, Job
from engines.running import Run
from engines.sweep import Cell, Sweep

ONE = Generate("", "m", 1, 64, 64, 4, 4.5)


def grid(guidances: int, prompts: int, seeds: int, size: int = 64) -> list[Cell]:
    return sweep.in_order(
        ((("prompt", f"p{p}"), ("guidance", str(g)), ("seed", str(s))),
         replace(ONE, prompt=f"p{p}", guidance_scale=float(g), seed=s, width=size))
        for g in range(guidances) for p in range(prompts) for s in range(seeds)
    )  # fmt: skip


def tried(cells: list[Cell], fault: Callable[[Generate], bool]) -> list[tuple[float, str, int]]:
    """(guidance, prompt, seed) of what is submitted, where some requests fail; everything ends, and each cell once."""
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


def test_a_broken_model_is_given_up_after_two_contenders() -> None:
    assert len(tried(grid(20, 1, 1), lambda request: True)) <= 4, "of one cell each; two, and what was queued"
    assert len(tried(grid(20, 3, 5), lambda request: True)) <= 16


def test_a_bad_prompt_costs_itself_alone() -> None:
    asked = tried(grid(3, 4, 6), lambda request: request.prompt == "p0")
    assert {(g, p) for g, p, _ in asked} == {(float(g), f"p{p}") for g in range(3) for p in range(4)}
    for g in range(3):
        assert len([1 for one in asked if one[:2] == (g, "p0")]) <= 4
        assert all(len([1 for one in asked if one[:2] == (g, f"p{p}")]) == 6 for p in (1, 2, 3))


def test_a_bad_setting_costs_itself_alone() -> None:
    asked = tried(grid(3, 3, 4), lambda request: request.guidance_scale == 1)
    assert len([1 for one in asked if one[0] == 1]) < 12 and len([1 for one in asked if one[0] != 1]) == 24


@pytest.mark.parametrize("prompts", [1, 2])
def test_the_last_cells_of_a_sound_contender_say_nothing_of_its_model(prompts: int) -> None:
    asked = tried(grid(4, prompts, 3), lambda request: request.guidance_scale < 2 and request.prompt == "p1")
    assert len([1 for one in asked if one[0] > 1]) == 2 * prompts * 3


def test_too_large_a_picture_does_not_cost_the_smaller_ones() -> None:
    large, small = grid(2, 1, 2, 128), grid(2, 1, 2)
    points = [*((("size", "128"), *cell.point) for cell in large), *((("size", "64"), *cell.point) for cell in small)]
    cells = sweep.in_order(zip(points, [cell.request for cell in (*large, *small)], strict=True))
    asked = tried(cells, lambda request: request.width == 128)
    assert len(asked) == 8
