"""Every test has a home of its own and no network: nothing of the person who runs them is read or written.

`make test` gives whole files to workers that run beside each other: the longest files begin, so that none is left to
one worker while the others have nothing to do any more.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

# The same examples every time, so that a change is judged by what it changes;
# pytest --hypothesis-profile=explore looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile("same")

LONGEST = (
    "test_bench.py", "test_faults.py", "test_terminal.py", "test_cli.py", "test_snapshots.py", "test_sweeping.py",
    "test_workbench.py", "test_upscaling.py", "test_sweep_screen.py", "test_models_bench.py", "test_every_model.py",
    "test_readme.py", "test_models_commands.py",
)  # fmt: skip
"Files that take half a minute or more, the longest first; the order of the others hardly matters."


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: much of what tests do is waiting for programs and their screens."""
    return (psutil.cpu_count(logical=False) or psutil.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all others as they were."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


def pytest_collection_finish() -> None:
    """What is imported by now stays: to look through all of it for garbage again and again took up to a quarter of a
    test's time. `_tidied` looks through what comes after, so that no test leaves files open to the next.
    """
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def pytest_configure(config: pytest.Config) -> None:
    """huggingface_hub reads these once, when it is imported, which may be while the tests are collected.

    An empty HF_HOME, because the default model is the best one on the machine, and tests mean the embedded one.
    """
    environment = pytest.MonkeyPatch()
    folder = tempfile.TemporaryDirectory(prefix="safelight-tests-", ignore_cleanup_errors=True)
    environment.setenv("HF_HUB_OFFLINE", "1")
    environment.setenv("HF_HOME", folder.name)
    # two threads on two busy cores wait for each other: five times slower than one
    environment.setenv("OMP_NUM_THREADS", "1")
    environment.delenv("HF_ENDPOINT", raising=False)
    environment.delenv("HF_TOKEN", raising=False)
    config.add_cleanup(folder.cleanup)
    config.add_cleanup(environment.undo)


@pytest.fixture(autouse=True, scope="module")
def _all_tidied() -> Iterator[None]:
    """No file's garbage is left to the next."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _tidied() -> Iterator[None]:
    """Nor most of a test's."""
    yield
    gc.collect(1)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds this test's settings, data, cache and pictures."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("SAFELIGHT_HOME", str(folder))
    return folder
