"""The best of several drafts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import forked
import pytest

from engines import catalogue
from engines.errors import InvalidRequest
from engines.requests import Generate, Picture, Seconds
from tui import draft as drafts
from tui import drafting
from tui.draft import Draft

KNOWN = catalogue.load()
ASKED = ("generate", "a pizza", "-m", "mini", "--steps", "4", "--seed", "7", "--count", "3", "--best", "1", "--json")
FORM = Draft("a pizza", model="mini", steps="6", guidance="5", seed="7", count="5", batch="2", size="112x144")


def plan(keep: str = "2", form: Draft = FORM) -> drafting.Plan:
    return drafting.best(keep, form, drafts.read(form, KNOWN).requests, KNOWN)


def picture(request: Generate, seed: int, **scores: float) -> Picture:
    return Picture(seed, f"/{seed}.png", replace(request, seed=seed), 64, 64, Seconds(), 0.0, dict(scores))


def test_all_seeds_are_drafted_by_the_quickest_and_the_best_are_finished_as_asked() -> None:
    made = plan()
    assert {request.model for request in made.drafts} == {"mini-lightning-2step-lora"}
    assert [r.seed + i for r in made.drafts for i in range(r.batch_size)] == [7, 8, 9, 10, 11]
    assert all(r.score == "mini-clip" and (r.width, r.height) == (112, 144) for r in made.drafts)
    first = made.drafts[0]
    scores = {7: 1.0, 8: 9.0, 9: 3.0, 10: 9.0, 11: 2.0}
    finals = made.finish([picture(first, seed, a=score) for seed, score in scores.items()])
    assert [request.seed for request in finals] == [8, 10]
    assert all((r.model, r.num_inference_steps, r.guidance_scale, r.batch_size) == ("mini", 6, 5.0, 1) for r in finals)
    # a draft that failed, and one without a score, come last
    assert [r.seed for r in made.finish([picture(first, 9, a=0.5), picture(first, 7)])] == [9, 7]


def test_the_scorer_that_was_named_ranks() -> None:
    assert plan(form=replace(FORM, score="mini-clip")).drafts[0].score == "mini-clip"


@pytest.mark.parametrize(
    ("keep", "form", "says"),
    [
        ("5", FORM, "the best 5 of 5 are all of them"),
        ("0", FORM, "best must be"),
        ("x", FORM, "best must be"),
        ("1", replace(FORM, model="mini-lightning-2step-lora", steps="", guidance=""), "nothing here draws quicker"),
    ],
)
def test_what_makes_no_plan_is_told(keep: str, form: Draft, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as told:
        plan(keep, form)
    assert told.value.field == "best"


def test_the_best_of_three_on_the_command_line(home: Path) -> None:
    done = forked.run(ASKED)
    assert done.returncode == 0, done.stderr
    *drawn, final = [json.loads(line) for line in done.stdout.splitlines()]
    assert "3 drafts by mini-lightning-2step-lora; the best 1 are finished by mini" in done.stderr
    assert [one["seed"] for one in drawn] == [7, 8, 9] and final["model"] == "mini"
    best = max(drawn, key=lambda one: one["scores"]["mini-clip"])
    assert final["seed"] == best["seed"] and final["num_inference_steps"] == 4
    assert final["scores"]["mini-clip"] > 0, "what is kept is judged, too"


def test_without_scores_it_is_told_that_nothing_chose() -> None:
    plan = drafting.Plan(2, (), (), ())
    made = Picture(1, "/a.png", Generate("", "mini", 1, 64, 64, 1, 1.0), 64, 64, Seconds(), 0.0)
    assert "no draft has a score, so the first 2 are finished" in plan.doubt([made])
    assert plan.doubt([made, replace(made, scores={"clip": 3.0})]) == ""
