"""The header of a safetensors file: what the library writes is read, whatever its length looks like."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from zoo import entry, safetensors

from engines import headers
from engines.errors import LoadError


def test_what_the_library_writes_is_read() -> None:
    header = headers.read(tiny.shared(tiny.lora))
    assert header.metadata == {"format": "pt"}
    assert len(header.tensors) > 1000
    assert {tensor.dtype for tensor in header.tensors.values()} == {"F16"}


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 15392])
def test_a_header_whose_length_looks_like_another_format_is_read(length: int, tmp_path: Path) -> None:
    """640 begins as a pickle does (80 02), and 15,392 as a page does (a space and a <)."""
    place = tmp_path / "a.safetensors"
    text = safetensors({"a": entry((1,), 0, 4)})[8:]
    place.write_bytes(length.to_bytes(8, "little") + text.ljust(length) + bytes(4))
    assert headers.read(place).shapes == {"a": (1,)}


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.safetensors").symlink_to(tiny.shared(tiny.lora))
    assert headers.read(tmp_path / "link.safetensors").tensors


def test_a_name_with_escapes_is_shown_without_them(tmp_path: Path) -> None:
    place = tmp_path / "a\x1b[2J\n.safetensors"
    place.write_bytes(b"x")
    with pytest.raises(LoadError) as caught:
        headers.read(place)
    assert caught.value.message.isprintable()
