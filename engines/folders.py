"""Where things are kept: settings, data, cache and pictures."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from engines.errors import StorageError


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one user; nothing is created until it is needed."""

    config: Path
    "settings.toml, models.toml, themes/, wildcards/ and keymaps of the user's own."
    data: Path
    "The store (queue and history), the draft, the log. Kept."
    cache: Path
    "What can be made again."
    pictures: Path
    "Finished pictures."

    @property
    def store(self) -> Path:
        """The SQLite file with queue and history."""
        return self.data / "safelight.db"

    @property
    def log(self) -> Path:
        """The log file."""
        return self.data / "safelight.log"

    @property
    def models(self) -> Path:
        """The user's own catalogue, added to the shipped one."""
        return self.config / "models.toml"

    @property
    def wildcards(self) -> Path:
        """The user's files of options for `__name__` in a prompt."""
        return self.config / "wildcards"

    @property
    def settings(self) -> Path:
        """The user's settings."""
        return self.config / "settings.toml"


def find(environ: dict[str, str] | None = None) -> Folders:
    """The folders in force: all under SAFELIGHT_HOME if that is set, else the platform's own places."""
    env = os.environ if environ is None else environ
    home = env.get("SAFELIGHT_HOME", "").strip()
    if home:
        root = Path(home).expanduser().absolute()
        return Folders(root / "config", root / "data", root / "cache", root / "pictures")
    import platformdirs

    return Folders(
        Path(platformdirs.user_config_dir("safelight", appauthor=False)),
        Path(platformdirs.user_data_dir("safelight", appauthor=False)),
        Path(platformdirs.user_cache_dir("safelight", appauthor=False)),
        Path(platformdirs.user_pictures_dir()) / "safelight",
    )


def refuges(pictures: Path, data: Path) -> tuple[Path, ...]:
    """Where a finished picture is kept, in this order, if the folder that it was meant for fails at the last moment."""
    return pictures, data / "rescued", Path(tempfile.gettempdir())


def make(folder: Path, private: bool = True) -> Path:
    """Creates `folder` and its parents if they are missing; private ones can be read by their owner alone.

    Raises:
        StorageError: it can't be created, or is no folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
    except OSError as e:
        raise StorageError(
            f"the folder {folder} can't be made: {e.strerror or e}",
            "set SAFELIGHT_HOME to a folder that you can write to" if private else "choose one that you can write to",
        ) from e
    return folder
