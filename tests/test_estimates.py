"""How long pictures will take: nothing of what was never made, the same for the same, and about for what is alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engines.requests import Finish, Generate, Picture, Seconds
from engines.steps import Hires, Restore, Step, Upscale
from tui.estimates import Estimates, Guess, Lately

BASE = Generate("a cat", "mini", 7, 128, 128, 10, 4.5)
READY = frozenset({"mini"})
FOUR, FACES, HIRES = Upscale("x4"), Restore("gfpgan", 0.8), Hires(2.0, 0.5)


def picture(request: Generate = BASE, scale: float = 1.0, path: str = "/x.png", **seconds: float) -> Picture:
    """Ten steps of 0.1 s, 0.2 s before and 0.3 s after them, unless it is told otherwise."""
    spent = {"encode": 0.2, "denoise": 1.0, "decode": 0.2, "save": 0.1, **seconds}
    spent.setdefault("total", sum(spent.values()))
    width, height = round(request.width * scale), round(request.height * scale)
    return Picture(1, path, replace(request, batch_size=1), width, height, Seconds(**spent), 0.0)


def finished(steps: tuple[Step, ...], scale: float, **seconds: float) -> Picture:
    given = dict.fromkeys(("encode", "denoise", "decode", "save"), 0.0) | seconds
    return picture(replace(BASE, finish=steps), scale, **given)


@pytest.fixture
def seen() -> Estimates:
    """One picture was made."""
    estimates = Estimates()
    estimates.ready = READY
    estimates.learn(picture())
    return estimates


def told(guess: Guess | None) -> tuple[float, bool] | None:
    return None if guess is None else (round(guess.seconds, 3), guess.about)


def test_nothing_is_known_before_a_picture_of_the_model() -> None:
    assert Estimates().whole(BASE, READY) is None
    assert Estimates().usual("mini", 128, 128) is None


@pytest.mark.parametrize(
    ("request_", "guess"),
    [
        (BASE, (1.5, False)),
        (replace(BASE, num_inference_steps=20), (2.5, False)),
        (replace(BASE, width=256, height=64), (1.5, False)),  # as many pixels
        (replace(BASE, width=256), (3.0, True)),
        (replace(BASE, batch_size=4), (6.0, True)),
        (replace(BASE, guidance_scale=1.0), (1.0, True)),  # half of the denoiser's work
        (replace(BASE, scheduler="heun"), (2.5, True)),  # twice of it
        (replace(BASE, scheduler="dpmpp_2m"), (1.5, False)),
        (replace(BASE, init="/a.png", strength=0.5), (1.0, False)),
        (replace(BASE, score="clip"), (1.5, True)),  # nothing is known of the scorer
        (replace(BASE, model="other"), None),
        (replace(BASE, finish=(FOUR,)), None),
        (replace(BASE, finish=(FACES,)), None),
        (Finish("/gone.png", (FOUR,)), None),
    ],
)
def test_what_one_picture_tells_of_others(
    seen: Estimates, request_: Generate | Finish, guess: tuple[float, bool] | None
) -> None:
    assert told(seen.whole(request_, READY | {"other"})) == guess


def test_a_batch_is_known_by_its_own_times() -> None:
    estimates = Estimates()
    for _ in range(4):  # each with its share
        estimates.learn(picture(replace(BASE, batch_size=4), denoise=0.5), batch=4)
    assert told(estimates.whole(replace(BASE, batch_size=4), READY)) == (4.0, False)


def test_loading_is_told_only_where_it_was_seen(seen: Estimates) -> None:
    assert seen.whole(BASE, frozenset()) is None
    seen.learn(picture(load=9.0), earlier=True)  # torch was imported then
    seen.learn(picture(load=9.0))  # nobody knows why
    assert seen.whole(BASE, frozenset()) is None
    seen.learn(picture(load=2.0), cold=True)
    assert told(seen.whole(BASE, frozenset())) == (3.5, False)
    assert told(seen.whole(BASE)) == (1.5, False)
    seen.learn(picture(load=0.1), cold=False)
    seen.learn(picture(load=0.1), cold=False)
    assert told(seen.whole(BASE)) == (1.6, False)  # what takes its time with a model in memory comes every time


def test_a_hires_pass_is_first_guessed_by_its_pixels_and_then_known(seen: Estimates) -> None:
    wanted = replace(BASE, finish=(HIRES,))
    # 5 steps of 0.4 s; encoded as long as it is decoded, 1.2 s, and read in 0.2 s; decoded and saved in 1.2 s
    assert told(seen.whole(wanted)) == (6.1, True)
    seen.learn(finished((HIRES,), 2, denoise=3.0, decode=0.4, save=0.2, total=4.0))
    assert told(seen.whole(wanted)) == (5.5, False)
    assert told(seen.step(replace(BASE, width=256, height=256))) == (0.6, False)  # and a picture of that size, too
    assert seen.whole(replace(BASE, finish=(Hires(2.0, 0.5, "x4"),))) is None  # the network was never seen


def test_steps_of_finishing_are_known_by_what_they_were_given(seen: Estimates) -> None:
    seen.learn(finished((FOUR,), 4, finish=2.0))
    assert told(seen.whole(replace(BASE, finish=(FOUR,)))) == (3.5, False)
    assert told(seen.whole(replace(BASE, batch_size=2, finish=(FOUR,)))) == (7.0, True)
    assert told(seen.whole(replace(BASE, finish=(Upscale("x4", 2.0),)))) is None
    seen.learn(finished((FOUR, FACES), 4, finish=5.0))
    assert told(seen.whole(replace(BASE, finish=(FOUR, FACES)))) == (8.5, False)
    assert told(seen.whole(replace(BASE, finish=(FACES,)))) == (1.812, True)


def test_a_file_that_was_made_here_is_known_and_another_is_not(seen: Estimates) -> None:
    seen.learn(finished((FOUR,), 4, finish=2.0))
    seen.learn(picture(path="/small.png"))
    assert told(seen.whole(Finish("/small.png", (FOUR,)))) == (2.0, False)
    assert told(seen.whole(Finish("/small.png", (HIRES,)))) == (4.6, True)
    assert told(seen.whole(replace(BASE, init="/small.png", strength=0.0, finish=(FOUR,)))) == (2.0, False)
    assert seen.whole(Finish("/stranger.png", (FOUR,))) is None


def test_scoring_is_known_by_its_scorer(seen: Estimates) -> None:
    seen.learn(picture(replace(BASE, score="clip"), score=0.5))
    assert told(seen.whole(replace(BASE, score="clip"))) == (2.0, False)
    assert told(seen.whole(replace(BASE, score="clip", batch_size=2))) == (4.0, True)


def test_what_was_made_lately_counts_and_this_session_before_all_earlier_ones() -> None:
    lately = Lately()
    for seconds in (1.0, 1.0, 1.0):
        lately.add("a", (4, 1), seconds, earlier=True)
    lately.add("a", (4, 1), 3.0)
    assert told(lately.get("a", (4, 1))) == (3.0, False)
    lately.add("a", (4, 1), 90.0)
    lately.add("a", (4, 1), 3.2)
    assert told(lately.get("a", (4, 1))) == (3.2, False)  # what is off once is passed over
    lately.add("a", (16, 1), 8.0)
    assert told(lately.get("a", (12, 1))) == (6.0, True)  # by the nearest
    assert lately.get("b", (4, 1)) is None


def test_what_pictures_take_lately_is_told_of_their_size_alone(seen: Estimates) -> None:
    seen.learn(picture(denoise=2.0))
    seen.learn(picture(denoise=2.0, load=5.0), cold=True)
    assert seen.usual("mini", 128, 128) == pytest.approx(2.5)
    assert seen.usual("mini", 256, 128) is None


def test_a_picture_that_was_not_drawn_or_has_no_times_teaches_nothing() -> None:
    estimates = Estimates()
    estimates.learn(picture(replace(BASE, init="/a.png", strength=0.0)))
    estimates.learn(picture(encode=0, denoise=0, decode=0, save=0))
    assert estimates.whole(BASE, READY) is None


def test_a_guess_in_words() -> None:
    assert Guess(40.2).told == "40 s" and Guess(40.2, about=True).told == "about 40 s"
    assert (Guess(1.0) + Guess(2.0, about=True)).less(5.0) == Guess(0.0, about=True)
