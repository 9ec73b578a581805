"""A picture to try a terminal with: four quadrants of pure colours, as the workbench would show them."""

from __future__ import annotations

from engines.events import Pixels
from tui.pictures import kitty, sixels
from tui.pictures.deciding import Decision
from tui.pictures.halfblocks import Colours, strips_of

QUADRANTS = ((220, 30, 30), (30, 180, 30), (40, 60, 220), (230, 200, 40))
"Red, green; blue, yellow."
SIDE = 64
"Pixels of a quadrant's side."
COLUMNS, ROWS = 16, 8
"Cells that the card takes, at most."


def pixels() -> Pixels:
    """The picture itself."""
    rows = [bytes(left) * SIDE + bytes(right) * SIDE for left, right in (QUADRANTS[:2], QUADRANTS[2:])]
    return Pixels(2 * SIDE, 2 * SIDE, rows[0] * SIDE + rows[1] * SIDE)


def text(decision: Decision, colours: Colours) -> str:
    """What shows it when it is printed: lines that each end with a newline. It stays in the terminal, as text does."""
    wide, high = decision.cell
    scale = min(COLUMNS * wide, ROWS * high) / (2 * SIDE)
    side = max(1, round(2 * SIDE * scale))
    cells = min(COLUMNS, -(-side // wide)), min(ROWS, -(-side // high))
    if decision.mode == "kitty":
        number, sent = kitty.Uploads(decision.wrapped).show("card", "card", *cells, kitty.png(pixels(), (side, side)))
        lines = (strip._render_cache or "" for strip in kitty.rows_of(number, *cells))
        return sent + "".join(f"{line}\n" for line in lines)
    if decision.mode == "sixel":
        room = cells[0] * wide, cells[1] * high
        # room is made below first: at the bottom of the screen drawing would move it
        drawn = sixels.encode(pixels(), (side, side), room, (0, 0, 0))
        return "\n" * cells[1] + f"\x1b[{cells[1]}A\x1b7{drawn}\x1b8\x1b[{cells[1]}B"
    from rich.console import Console

    console = Console(color_system={"truecolor": "truecolor", "256": "256", "none": None}[colours])
    return "".join(f"{strip.render(console)}\n" for strip in strips_of(pixels(), COLUMNS, ROWS, colours))
