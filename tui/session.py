"""What every command begins with: folders, settings, catalogue, log; and the engine, where one is needed."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engines import catalogue as catalogues
from engines import files, folders
from engines.catalogue import Catalogue
from engines.folders import Folders
from engines.options import Options
from tui import settings as settings_file
from tui import streams
from tui.settings import Settings

if TYPE_CHECKING:
    from engines.local import LocalEngine
    from engines.store import EngineKind, Store


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the program."""

    folders: Folders
    "Where things are."
    settings: Settings
    "The file's, with the command line's options over them."
    catalogue: Catalogue
    "Shipped and the user's own."
    notices: tuple[str, ...]
    "What is wrong with the user's files, a line each."
    debug: bool
    "Tracebacks are shown."

    @property
    def pictures(self) -> Path:
        """Where pictures are saved unless a command says otherwise."""
        return Path(self.settings.folder).expanduser().absolute() if self.settings.folder else self.folders.pictures

    def store(self) -> Store:
        """Opens the queue and history. Raises StorageError."""
        from engines.store import Store

        return Store(self.folders.store)

    def engine(self, kind: EngineKind, store: Store) -> LocalEngine:
        """An engine in this process; all output of libraries goes to the log from here on."""
        from engines.local import LocalEngine

        # the libraries look at these when they are imported; nothing is fetched by making pictures
        for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY", "TOKENIZERS_PARALLELISM"):
            os.environ.setdefault(name, "0" if name == "TOKENIZERS_PARALLELISM" else "1")
        threads = self.settings.threads
        if kind == "workbench" and not threads:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            threads = max(cores - 1, 1)  # one core is for the keyboard
        files.check_pattern(self.settings.file_name)
        options = Options(self.pictures, self.settings.device, threads, self.settings.file_name)
        return LocalEngine(self.catalogue, self.folders, options, store, kind)


def begin(debug: bool = False, device: str = "", threads: int = 0) -> Session:
    """Reads settings and catalogue, and opens the log.

    Raises:
        CatalogueError: the installation is broken.
    """
    found = folders.find()
    settings, problems = settings_file.load(found.settings)
    if device:
        settings = replace(settings, device=device, given=(*settings.given, "device"))
    if threads:
        settings = replace(settings, threads=threads, given=(*settings.given, "threads"))
    log = streams.open_log(found.log, debug)
    streams.divert(log)
    catalogue = catalogues.load(found.models)
    settings, unknown = settings_file.check_model(settings, found.settings, catalogue.models)
    return Session(found, settings, catalogue, (*problems, *unknown, *catalogue.problems), debug)
