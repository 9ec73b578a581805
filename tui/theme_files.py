"""Where themes are, and what they are called; what is in them is read by `tui.palette`. No Textual."""

from __future__ import annotations

from pathlib import Path

DEFAULT_THEME = "safelight-dark"
"The theme of a fresh installation."


def shipped_folder() -> Path | None:
    """Where the themes that come with safelight are: inside the package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    # In a checkout the folder at the root is the one that is edited; a copy inside the package may be stale.
    for folder in (here.parent / "themes", here / "themes"):
        if (folder / f"{DEFAULT_THEME}.toml").is_file():
            return folder
    return None


def names(user_folder: Path) -> list[str]:
    """The names of all themes, shipped and the user's own; waits for the disk."""
    found = {path.stem for folder in (shipped_folder(), user_folder) if folder for path in folder.glob("*.toml")}
    return sorted(found, key=lambda name: (name != DEFAULT_THEME, name))
