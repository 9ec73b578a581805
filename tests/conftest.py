"""Every test has a home of its own and no network: nothing of the person who runs them is read or written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time, so that a change is judged by what it changes;
# pytest --hypothesis-profile=explore looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile("same")


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


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds this test's settings, data, cache and pictures."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("SAFELIGHT_HOME", str(folder))
    return folder
