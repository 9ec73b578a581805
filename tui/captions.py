"""What the contact sheet tells of a picture: under it, and of the one under the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from textual.content import Content

from engines import browsing
from engines.requests import Picture
from tui.clean import one_line
from tui.wording import ago

MODEL = 12
"Characters of a model's title that are told at least."


def worth(picture: Picture, by: str) -> Sequence[str]:
    """What stands under it, the most important first: stars, and the score by which it is sorted, else its first."""
    parts = ["★" * picture.rating] if picture.rating else []
    scorer = by.removeprefix(browsing.SCORE) if by.startswith(browsing.SCORE) else None
    score = picture.scores.get(scorer) if scorer else next(iter(picture.scores.values()), None)
    return [*parts, f"{score:.1f}"] if score is not None else parts


def of(picture: Picture, number: int, title: str, now: float, room: int) -> Content:
    """Two lines: its number and prompt, and the facts.

    Args:
        picture: the one under the cursor.
        number: its place in the order, from 1.
        title: what people call its model.
        now: seconds since 1970.
        room: cells of a line.
    """
    r = picture.request
    stars = ["★" * picture.rating] if picture.rating else []
    scores = [f"{scorer} {score:.2f}" for scorer, score in picture.scores.items()]
    others = [f"seed {r.seed}"] if r.model else ["a file as it was"]
    others += [f"{picture.width}x{picture.height}", *_made_of(picture), ago(picture.created, now)]
    # of all that stands there a model's title is the longest, and its beginning tells most
    left = room - len(" · ".join([*stars, *scores, *others])) - 3
    model = [one_line(title, max(MODEL, left))] if r.model else []
    facts = [*stars, *scores, *model, *others]
    prompt = r.prompt or PurePath(r.init or picture.path).name
    place = f"{number:,} "
    first = Content.assemble((place, "$foreground 70%"), (one_line(prompt, max(1, room - len(place))), "bold"))
    return Content("\n").join([first, Content.styled(one_line(" · ".join(facts), room), "$foreground 70%")])


def _made_of(picture: Picture) -> list[str]:
    """What it was made of, where it was not noise alone."""
    request = picture.request
    told = [f"over {PurePath(request.init).name}"] if request.init and request.model else []
    told += [request.finish[-1].told] if request.finish else []
    told += [f"of picture {picture.parent}"] if picture.parent is not None else []
    return told
