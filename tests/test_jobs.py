"""The queue by its events: how far each job is, and how long it and all of them will take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_estimates import BASE, FOUR, HIRES, finished, picture, told

from engines import events as ev
from engines.requests import Generate, Job, Pull, Request, Score
from tui.jobs import Jobs


class Queue:
    """Jobs that follow what a test tells, at the time that it tells."""

    def __init__(self, *requests: Request, seen: bool = True) -> None:
        self.jobs = Jobs()
        self.now = 100.0
        if seen:
            self.jobs.estimates.learn(picture())
        self.tell(ev.Vitals("cpu", "fp32", 1, 2, ("mini",)))
        for number, request in enumerate(requests, 1):
            self.jobs.add(Job(number, request, None, 0.0))

    def tell(self, event: ev.Event, after: float = 0.0) -> None:
        self.now += after
        self.jobs.follow(event, self.now)

    def start(self, id: int = 1) -> None:
        self.tell(ev.Started(id))

    def step(self, number: int, after: float, of: int = 10, id: int = 1) -> None:
        self.tell(ev.Stepped(id, number, of, after), after)

    def left(self, later: float = 0.0, id: int = 1) -> tuple[float, bool] | None:
        """Of a job that runs."""
        progress = self.jobs.get(id)
        assert progress is not None
        return told(self.jobs.left(progress, self.now + later))

    def ends(self) -> dict[int, tuple[float, bool] | None]:
        return {id: told(guess) for id, guess in self.jobs.ends(self.now).items()}


def test_a_picture_goes_by_what_was_seen_and_then_by_its_own_pace() -> None:
    queue = Queue(BASE)
    queue.start()
    assert queue.left() == (1.5, False)
    assert queue.left(0.5) == (1.0, False)
    queue.step(1, 5.0)  # the first of a new shape may take long, and says nothing of the rest
    assert queue.left() == (1.2, False)
    for number in range(2, 6):
        queue.step(number, 0.4)
    assert queue.left() == (5 * 0.4 + 0.3, False)
    assert queue.left(0.3) == (2.0, False)
    for number in range(6, 11):
        queue.step(number, 0.4)
    queue.tell(ev.Finishing(1, "decoding"))
    assert queue.left(0.1) == (0.2, False)
    assert queue.left(9.0) == (0.0, False)  # late, and never below nothing


def test_steps_that_wait_for_previews_are_counted_with_them() -> None:
    queue = Queue(BASE)
    queue.start()
    for number in range(1, 6):  # the engine tells the median of the steps: 0.1
        queue.tell(ev.Stepped(1, number, 10, 0.1), 0.1 if number % 2 else 0.5)
    assert queue.left() == (pytest.approx(5 * 0.3 + 0.3), False)
    progress = queue.jobs.get(1)
    assert progress is not None and progress.pace == "10 steps/s"


def test_a_clock_that_is_set_back_makes_no_picture_quick() -> None:
    queue = Queue(BASE)
    queue.start()
    for number in range(1, 6):
        queue.step(number, 0.4)
    queue.tell(ev.Stepped(1, 6, 10, 0.4), -3600.0)
    assert queue.left() == (1.9, False)


def test_of_the_first_picture_its_steps_are_told_about() -> None:
    queue = Queue(BASE, seen=False)
    queue.start()
    assert queue.left() is None and queue.ends() == {}
    for number in range(1, 6):
        queue.step(number, 0.4)
    assert queue.left() == (2.0, True)


def test_loading_counts_where_it_was_seen_and_hides_the_rest_where_not() -> None:
    queue = Queue(replace(BASE, model="other"), BASE)
    queue.jobs.estimates.learn(picture(replace(BASE, model="other")))
    queue.start()
    queue.tell(ev.Loading(1, "UNet", 0.5))
    assert queue.left() is None and queue.ends() == {}
    queue.tell(ev.Vitals("cpu", "fp32", 1, 2, ("mini", "other")), 3.0)
    assert queue.left(0.5) == (1.0, False)
    again = Queue(replace(BASE, model="other"), BASE)
    again.jobs.estimates.learn(picture(replace(BASE, model="other"), load=4.0), cold=True)
    assert again.ends() == {1: (5.5, False), 2: (7.0, False)}
    again.start()
    again.tell(ev.Loading(1, "UNet", 0.5), 1.0)
    assert again.left() == (4.5, False)
    assert again.left(60.0) == (1.5, False)  # a load that takes its time leaves the picture to be made
    twice = Queue(*[replace(BASE, model="other")] * 2)
    twice.jobs.estimates.learn(picture(replace(BASE, model="other"), load=4.0), cold=True)
    assert twice.ends() == {1: (5.5, False), 2: (7.0, False)}  # the second finds it there


def test_what_is_learned_of_a_job_knows_whether_it_loaded_and_how_many_it_drew() -> None:
    queue = Queue(replace(BASE, model="other", batch_size=2))
    queue.start()
    progress = queue.jobs.get(1)
    made = picture(replace(BASE, model="other"), load=2.0, total=3.5)
    queue.jobs.learn(made, progress)
    estimates = queue.jobs.estimates
    assert told(estimates.load("other")) == (4.0, False)
    assert told(estimates.whole(replace(BASE, model="other", batch_size=2), {"other"})) == (3.0, False)


def test_a_batch_that_is_drawn_one_by_one_is_known_from_the_second_on() -> None:
    queue = Queue(replace(BASE, batch_size=3))
    queue.start()
    for number in [*range(1, 11), *range(1, 6)]:
        queue.step(number, 0.1)
    assert queue.left() == (pytest.approx(0.5 + 1.0 + 0.9), True)  # its rest, the third, and what follows


def test_a_hires_pass_is_in_the_estimate_before_it_begins() -> None:
    queue = Queue(replace(BASE, finish=(HIRES,)), BASE)
    assert queue.ends() == {1: (6.1, True), 2: (7.6, True)}
    queue.start()
    queue.step(1, 0.1)
    queue.step(10, 0.9)
    assert queue.left() == (pytest.approx(4.9), True)
    queue.tell(ev.Finishing(1, "decoding"))
    queue.tell(ev.Finishing(1, "saving"), 0.2)
    queue.tell(ev.Kept(1, picture(replace(BASE, finish=()))), 0.1)
    assert queue.left() == (4.6, True)
    queue.tell(ev.Finishing(1, "encoding the picture to begin with"), 0.6)
    assert queue.left() == (4.0, True)
    for number in range(1, 5):
        queue.step(number, 0.5, of=5)
    assert queue.left() == (0.5 + 1.2, True)
    queue.step(5, 0.5, of=5)
    queue.tell(ev.Finishing(1, "decoding"))
    assert queue.left(0.2) == (1.0, True)


def test_each_picture_of_a_batch_has_its_steps_of_finishing() -> None:
    queue = Queue(replace(BASE, batch_size=2, finish=(FOUR,)))
    queue.jobs.estimates.learn(finished((FOUR,), 4, finish=2.0))
    queue.jobs.estimates.learn(picture(), batch=2)
    queue.start()
    assert queue.left() == (7.0, False)
    for number in range(2):
        queue.tell(ev.Kept(1, picture()), 3.0 * (not number))
    assert queue.left() == (4.0, False)
    assert queue.left(0.5) == (3.5, False)
    queue.tell(ev.Finishing(1, "upscaling", 0.75), 1.0)
    queue.tell(ev.Kept(1, picture()), 1.0)
    assert queue.left(1.9) == (0.1, False)
    assert queue.left(9.0) == (0.0, False)


def test_what_was_never_done_goes_by_how_far_it_says_it_is() -> None:
    queue = Queue(replace(BASE, finish=(FOUR,)))
    assert queue.ends() == {}
    queue.start()
    queue.tell(ev.Kept(1, picture()))
    queue.tell(ev.Finishing(1, "upscaling", 0.0), 1.0)
    queue.tell(ev.Finishing(1, "upscaling", 0.1), 0.4)
    assert queue.left() is None  # too little to say
    queue.tell(ev.Finishing(1, "upscaling", 0.5), 1.6)
    assert queue.left() == (2.0, True)


def test_the_whole_queue_is_known_where_every_job_is() -> None:
    queue = Queue(BASE, BASE, BASE)
    assert told(queue.jobs.all_left(queue.now)) == (4.5, False)
    queue.jobs.add(Job(9, replace(BASE, model="other"), None, 0.0))
    assert queue.jobs.all_left(queue.now) is None and list(queue.ends()) == [1, 2, 3]
    assert Queue().jobs.all_left(0.0) is None
    judged = Queue(Score(("/x.png",), "a cat", "clip"), BASE)
    assert judged.ends() == {}  # what comes after a thing that isn't known isn't either


def test_downloads_go_by_their_own_rate_beside_the_pictures() -> None:
    queue = Queue(Pull("far"), BASE)
    queue.start()
    assert queue.ends() == {2: (1.5, False)}
    queue.tell(ev.Pulling(1, "a", 1, 1, 2, 10, 2, 10, 4.0))
    assert queue.ends() == {1: (2.0, False), 2: (1.5, False)}
    assert told(queue.jobs.all_left(queue.now)) == (1.5, False)


def test_a_pace_is_told_only_while_steps_are_taken() -> None:
    queue = Queue(BASE)
    progress = queue.jobs.get(1)
    assert progress is not None and progress.pace == ""
    queue.start()
    assert progress.pace == ""
    queue.step(1, 1.8)
    assert progress.pace == "1.8 s/step"
    queue.tell(ev.Finishing(1, "decoding"))
    assert progress.pace == "" and progress.doing == "decoding"


def test_events_of_jobs_that_nobody_asked_for_change_nothing() -> None:
    queue = Queue(BASE)
    queue.start(5)
    queue.step(1, 0.1, id=5)
    queue.tell(ev.Noted("info", "x"))
    progress = queue.jobs.get(1)
    assert progress is not None and (progress.state, progress.step) == ("waiting", 0)
    assert isinstance(progress.job.request, Generate)
