"""What `safelight --demo` types, in order: keys, what is said meanwhile, and what is waited for.

In `keys` a word is an action of the key table (so that a key that is moved takes the tour with it), and `key:NAME` a
key of a list or a text field, as Textual calls it. In `says`, `{action}` is the action's key. What can be waited for
is in `tui.cues`.
"""

from __future__ import annotations

from dataclasses import dataclass

STUDENT = "mini-lightning-4step-unet"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is shown."""

    says: str
    "The caption: what is pressed, and why. 60 characters at most, so that it can be read on 80 columns."
    until: tuple[str, ...]
    "The states that are waited for when all is typed, each with its argument: 'made', 'screen SweepScreen'."
    keys: tuple[str, ...] = ()
    "Pressed first, one after another."
    types: str = ""
    "Typed after the keys, letter by letter."
    then: tuple[str, ...] = ()
    "Pressed after that."
    rest: float = 1.0
    "Seconds in which it can be looked at."
    quick: bool = False
    "Whether it is typed in a hurry: nobody reads it letter by letter."


BLEND = '("a flat pizza on a teal background", "a flat panda on a pink background").blend(0.1, 0.4)'

TOUR: tuple[Step, ...] = (
    Step("The workbench types by itself; any key makes it yours", ("focus prompt",), rest=1.5),
    Step("Write a prompt …", ("prompt a purple apple",), types="a purple apple", rest=0.3),
    Step("… and enter makes it: the picture grows as it is drawn", ("made",), ("key:enter",)),
    Step("{lock-seed} keeps the seed, so that only words make a difference", ("seeded",), ("lock-seed",), rest=0.6),
    Step(
        "{raise-weight} weighs the word at the cursor up",
        ("prompt a (purple)1.6 apple",),
        ("go-prompt", "key:ctrl+left", "key:ctrl+left", *("raise-weight",) * 6),
        rest=0.3,
    ),
    Step("The same seed again: purple comes through", ("made",), ("key:enter",)),
    Step("{flip} flips to the picture before, in its place, and back", ("turned",), ("flip",), rest=0.8),
    Step("{flip} flips to the picture before, in its place, and back", ("turned",), ("flip",), rest=0.5),
    Step("{go-model}, enter: models, what is here, what fits in memory", ("offers",), ("go-model", "key:enter")),
    Step("Typing finds one: a student that needs 4 steps, not 25", (f"offered {STUDENT}",), types="4 unet", rest=0.6),
    Step("Its recipe comes with it: steps, guidance, scheduler", (f"model {STUDENT}",), ("key:enter",)),
    Step("{clear-form} begins anew; two prompts can be blended", ("prompt",), ("clear-form",), rest=0.2),
    Step("{clear-form} begins anew; two prompts can be blended", ("blended",), types=BLEND, rest=0.3, quick=True),
    Step("{live} is live: every change is sketched at once", ("live", "made"), ("live",), rest=0.4),
    Step(
        "{weights} goes to the sliders, {weight-more} moves one: panda to pizza",
        ("made",),
        ("weights", *("weight-more",) * 13),
    ),
    Step("{vary} makes four neighbours of the shown picture", ("not live", "strip"), ("live", "vary"), rest=0.6),
    Step("{strip-next} steps through them", ("turned",), ("strip-next", "strip-next", "strip-next"), rest=0.7),
    Step("{closer} looks closer …", ("told #closer-line",), ("closer",), rest=0.8),
    Step("… + and - zoom, arrows pan", ("changed #closer-line",), ("key:plus", "key:plus", "key:right")),
    Step("{go-history}: all that was made, on disk", ("focus history",), ("closer", "go-history"), rest=0.5),
    Step("Arrows look at older ones, {take-all} takes the settings back", ("turned",), ("key:down",) * 6, rest=0.6),
    Step("{new-sweep} compares: models, seeds, whatever is marked", ("counted",), ("new-sweep",), rest=0.5),
    Step("space marks one more model", ("offers",), ("key:enter",), rest=0.3),
    Step("space marks one more model", ("marked 2",), types="mini", then=("key:space", "key:enter"), rest=0.3),
    Step("Two seeds each, and {make} makes them all", ("counted 4",), ("key:down",), types="2", rest=0.5),
    Step("The leaderboard ranks while they are made", ("swept",), ("make",), rest=1.2),
    Step("enter: every picture beside its neighbours; enter again: large", ("focus sheet",), ("enter",), rest=0.4),
    Step("enter: every picture beside its neighbours; enter again: large", (), ("zoom", "key:right"), rest=1.0),
    Step("{next-theme} changes the theme", ("themed",), ("next-theme",), rest=0.6),
    Step("{next-theme} changes the theme", ("themed",), ("next-theme",), rest=0.6),
    Step("{close}, and back to work; {help} lists all keys", ("screen Workbench",), ("close", "close"), rest=1.0),
    Step("That was it: safelight opens your own workbench", (), rest=2.0),
)  # fmt: skip
