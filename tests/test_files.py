"""Names of pictures, and writing them whole."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import files
from engines.errors import DiskFull, InvalidRequest, StorageError
from engines.requests import Generate

APPLE = Generate("a red apple", "mini", 7, 128, 96, 25, 4.5)


@given(st.text(max_size=300))
def test_any_prompt_gives_a_safe_name(prompt: str) -> None:
    name = files.name(APPLE, prompt, now=0)
    assert name and "/" not in name and not name.startswith((".", "-")) and name.isascii() and name.isprintable()
    assert len(name.encode()) <= files.MAX_NAME


def test_the_pattern_is_followed_and_checked() -> None:
    name = files.name(APPLE, "A Red   Äpple, on *blue*!", "{model}_{width}x{height}_{steps}_{seed}_{slug}")
    assert name == "mini_128x96_25_7_a-red-apple-on-blue"
    files.check_pattern(files.PATTERN)
    for bad in ("{prompt}", "{", "{0}", "{seed.__class__}"):
        with pytest.raises(InvalidRequest):
            files.check_pattern(bad)


def test_a_pattern_cannot_leave_the_folder() -> None:
    assert "/" not in files.name(APPLE, "x", "../../{slug}")
    assert files.name(APPLE, "x", "....") == "picture"


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    paths = [files.save(tmp_path, "a", bytes([i])) for i in range(4)]
    assert [p.name for p in paths] == ["a.png", "a-2.png", "a-3.png", "a-4.png"]
    assert [p.read_bytes() for p in paths] == [bytes([i]) for i in range(4)]


def test_many_at_once_get_names_of_their_own(tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(files.save(tmp_path, "a", b"x"))) for _ in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(found)) == 16 == len(list(tmp_path.iterdir()))


def test_without_hard_links_nothing_is_overwritten_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert [files.save(tmp_path, "a", b"x").name for _ in range(2)] == ["a.png", "a-2.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.png", "a.png"]

    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(os, "rename", kill)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # a kill tidies nothing up
    with pytest.raises(Killed):
        files.save(tmp_path, "a", b"x")
    monkeypatch.undo()
    monkeypatch.setattr(os, "link", refuse)
    assert files.save(tmp_path, "a", b"x").name == "a-4.png"  # the third is taken until it is swept
    for left in tmp_path.glob(".*"):
        os.utime(left, (0, 0))
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.png", "a-4.png", "a.png"]


@pytest.mark.parametrize("call", ["fsync", "link"])
@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EIO, StorageError)])
def test_a_failure_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, kind: type[StorageError]
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(kind) as told:
        files.save(tmp_path, "a", b"x" * 1000)
    assert "\n" not in told.value.message and told.value.hint
    assert list(tmp_path.iterdir()) == []


def test_write_sync_name_sync_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, link = os.fsync, os.link

    def spy_sync(handle: int) -> None:
        order.append("sync folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "sync file")
        sync(handle)

    def spy_link(a: str, b: str) -> None:
        order.append("name")
        link(a, b)

    monkeypatch.setattr(os, "fsync", spy_sync)
    monkeypatch.setattr(os, "link", spy_link)
    files.save(tmp_path, "a", b"x")
    assert order == ["sync file", "name", "sync folder"]


def test_replace_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "draft.json"
    files.replace(path, b"old")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskFull):
        files.replace(path, b"new")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nothing")):
        with pytest.raises(StorageError) as told:
            files.check_folder(folder)
        assert told.value.hint
    files.check_folder(tmp_path / "new" / "deep")
    assert list((tmp_path / "new" / "deep").iterdir()) == []


def test_many_at_once_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    threads = [threading.Thread(target=files.save, args=(tmp_path, "a", bytes([i]))) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {bytes([i]) for i in range(16)}


def test_a_folder_for_pictures_is_swept_once(tmp_path: Path) -> None:
    left = tmp_path / ".safelight-left"
    for there in (False, True):
        left.write_text("half a picture")
        os.utime(left, (0, 0))
        files.check_folder(tmp_path)
        assert left.exists() == there


def test_old_leftovers_are_swept_and_young_ones_are_not(tmp_path: Path) -> None:
    old, young, other = tmp_path / ".safelight-old", tmp_path / ".safelight-young", tmp_path / "picture.png"
    for path in (old, young, other):
        path.write_text("")
    os.utime(old, (0, 0))
    files.sweep(tmp_path)
    assert not old.exists() and young.exists() and other.exists()
