"""The words of a first start, by the model that is picked: an example that it can draw, and what it can't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from engines.catalogue import Catalogue
from engines.entries import Model
from engines.errors import SafelightError
from tui.clean import one_line
from tui.welcome import Paragraph

EMBEDDED = "a red apple on a blue background"
"A prompt that the embedded family draws well."
ELSEWHERE = "a lighthouse on a cliff at dusk, waves, oil painting"
"One that any model of SDXL's size draws."
NEXT = ("sdxl-lightning-4step-unet", "sdxl-turbo", "sdxl-base")
"Real models to begin with, the quickest first."


def example(catalogue: Catalogue, model: Model | None) -> str:
    """A prompt that works."""
    return EMBEDDED if model is not None and catalogue.came_along(model) else ELSEWHERE


def subjects() -> tuple[str, ...]:
    """What the embedded family knows, the first name of each; waits for the disk."""
    import engines

    try:
        text = (Path(engines.__file__).parent / "mini" / "subjects.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    return tuple(line.split(",")[0].strip() for line in text.splitlines() if line.strip())


def words(
    catalogue: Catalogue, model: Model | None, known: Sequence[str], key: Callable[[str], str], first: bool = True
) -> list[Paragraph]:
    """The welcome, from top to bottom.

    Args:
        catalogue: names the next model to try.
        model: the picked one; None if there is none of that name.
        known: the embedded family's subjects.
        key: the first key of an action in words.
        first: whether nothing was made yet; else the middle is only empty.
    """
    said = [Paragraph("Welcome to the darkroom.", "bold $primary", 5)] if first else []
    said += [
        Paragraph("Type what you want to see and press Enter. Enter in an empty prompt makes this one:", "", 9),
        Paragraph(example(catalogue, model), "bold", 8, indent=2),
    ]
    if model is not None and catalogue.came_along(model):
        some = ", ".join(known[i] for i in range(0, len(known), max(1, len(known) // 5)))
        can = (
            f"The model that comes along is small: one of {len(known)} things ({some}, …), as cartoon, 3d or flat, on "
            "a plain background. No scenes, no portraits, no photographs."
        )
        said.append(Paragraph(can, "$foreground 70%", 4))
        said.append(Paragraph(_real(catalogue, key), "$foreground 70%", 6))
    elif model is not None and model.about:
        said.append(Paragraph(f"{one_line(model.title)}: {one_line(model.about)}", "$foreground 70%", 4))
    keys = (
        f"{key('raise-weight')} weighs the word at the cursor · {key('jump')} goes anywhere · "
        f"{key('help')} tells all keys · {key('command-palette')} finds any action"
    )
    said.append(Paragraph(keys, "$foreground 70%", 3))
    return said


def _real(catalogue: Catalogue, key: Callable[[str], str]) -> str:
    """How to come to a model of full size."""
    for id in NEXT:
        try:
            model = catalogue.model(id)
        except SafelightError:
            continue
        return f"{key('go-model')}, then Enter, lists the real ones, for instance {one_line(model.title)}."
    return f"{key('go-model')}, then Enter, lists the real ones."
