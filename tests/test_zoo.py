"""Every beast of the zoo is told in one line, and nothing it brings along is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny
from zoo import MARKER, ZOO, Beast

from engines import headers, identify, scanning
from engines.errors import LoadError


@pytest.mark.parametrize("beast", ZOO, ids=lambda beast: beast.name)
def test_a_beast_is_one_clear_line(beast: Beast, tmp_path: Path) -> None:
    place = beast.make(tmp_path)
    if beast.stage == "read":
        with pytest.raises(LoadError) as caught:
            identify.path(place)
        lines = [caught.value.message, caught.value.hint]
        assert re.search(beast.expect, lines[0]), lines[0]
    else:
        found = identify.path(place)
        assert found.supported is (beast.stage == "load")
        lines = [f"{found.name} {found.why_not}", "…"]
        assert beast.stage == "load" or re.search(beast.expect, lines[0]), lines[0]
    for line in lines:
        assert line and line.isprintable() and len(line) < 300
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("beast", [b for b in ZOO if b.stage == "read"], ids=lambda beast: beast.name)
def test_the_header_alone_refuses_it_too(beast: Beast, tmp_path: Path) -> None:
    place = beast.make(tmp_path)
    with pytest.raises(LoadError):
        headers.read(place)


def test_a_folder_with_the_whole_zoo_loses_no_good_file(tmp_path: Path) -> None:
    for beast in ZOO:
        (tmp_path / beast.name).mkdir()
        beast.make(tmp_path / beast.name)
    good = tiny.lora(tmp_path / "zz.safetensors", only="mid_block")
    found = {one.path: one for one in scanning.scan(tmp_path)}
    assert found[good].identified is not None
    told = {path.relative_to(tmp_path).parts[0] for path in found}
    assert told >= {beast.name for beast in ZOO} - {"folder-without-index", "folder-of-pickles"}
    assert all(one.problem.isprintable() for one in found.values())
    assert not list(tmp_path.rglob(MARKER))
