"""Getting models from the hub: a loopback hub with all its bad days, and the cache as other programs see it."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub import Hub as LoopbackHub

from engines import choosing, fetching, holdings, hub, pulling, wire
from engines.choosing import Want
from engines.entries import Adapter, Hub, HubFile, Model, PreviewDecoder, Recipe, Scorer, UnetOver
from engines.errors import DiskFull, SafelightError, Stopped, StorageError
from engines.events import Noted, Pulling

WEIGHTS = hashlib.shake_256(b"weights").digest(3_000_000)
SHA = hashlib.sha256(WEIGHTS).hexdigest()
FILE = HubFile("org/one", "a.safetensors")
SECRET = "hf_doNotTellAnyone"

PIPELINE = {
    "README.md": b"# card",
    "LICENSE.md": b"terms",
    "model_index.json": b"{}",
    "scheduler/scheduler_config.json": b"{}",
    "tokenizer/vocab.json": b"{}",
    "tokenizer/merges.txt": b"m",
    "tokenizer_2/tokenizer.json": b"{}",
    "text_encoder/config.json": b"{}",
    "text_encoder/model.safetensors": b"te32",
    "text_encoder/model.fp16.safetensors": b"te16",
    "text_encoder_2/config.json": b"{}",
    "text_encoder_2/model.safetensors": b"te2",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"u16",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors": b"u1",
    "unet/diffusion_pytorch_model-00002-of-00002.safetensors": b"u2",
    "unet/diffusion_pytorch_model.safetensors.index.json": b"{}",
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.fp16.safetensors": b"v16",
    "vae/diffusion_pytorch_model.safetensors": b"v32",
}
STRAY = {
    "whole.safetensors": b"x",
    "unet/diffusion_pytorch_model.bin": b"x",
    "unet/model.onnx": b"x",
    "text_encoder/flax_model.msgpack": b"x",
    "text_encoder/openvino_model.bin": b"x",
    "vae_1_0/config.json": b"x",
    "picture.png": b"x",
}


def planned(wanted: tuple[Want, ...], connected: wire.Wire) -> pulling.Plan:
    """What would be fetched."""
    asking = pulling.plan(wanted, connected)
    while True:
        try:
            next(asking)
        except StopIteration as end:
            return end.value


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    repos = {"org/one": {"a.safetensors": WEIGHTS, "b.safetensors": b"b" * 1000, "config.json": b"{}"}}
    with LoopbackHub({**repos, "org/pipe": {**PIPELINE, **STRAY}}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


class Waits:
    """Waiting that takes no time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float, stop: Callable[[], bool]) -> None:
        self.seconds.append(seconds)
        if stop():
            raise Stopped


def get(*wants: Want, stop: Callable[[], bool] = wire.never, waits: Waits | None = None) -> list[Pulling | Noted]:
    with wire.Wire(1, stop, waits or Waits()) as connected:
        return list(pulling.pull(wants or (Want(FILE),), connected))


def refused(*wants: Want) -> SafelightError:
    with pytest.raises(SafelightError) as e:
        get(*wants)
    assert "\n" not in e.value.message and not e.value.message.endswith(".") and e.value.hint
    return e.value


def stored(repo: str = "org/one") -> list[str]:
    """What lies in a repository's folder of the cache."""
    folder = hub.storage(repo)
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def ranges(served: LoopbackHub) -> list[str]:
    return [a.headers.get("range", "") for a in served.fetched("a.safetensors")]


# ── what is fetched ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_of_a_pipeline_with_a_variant_the_right_files_come(served: LoopbackHub) -> None:
    source = Hub("org/pipe", "fp16")
    get(Want(source))
    came = {p.relative_to(source.path).as_posix() for p in source.path.rglob("*") if p.is_file()}
    plain = {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert came == PIPELINE.keys() - plain


def test_without_a_variant_plain_weights_come_with_all_their_shards() -> None:
    sizes = {name: len(data) for name, data in {**PIPELINE, **STRAY}.items()}
    assert {n for n in PIPELINE if ".fp16." not in n} == set(choosing.choose(Want(Hub("org/pipe")), sizes))
    del sizes["unet/diffusion_pytorch_model-00002-of-00002.safetensors"]
    half = choosing.choose(Want(Hub("org/pipe")), sizes)
    assert [n for n in half if n.startswith("unet/diff")] == ["unet/diffusion_pytorch_model.fp16.safetensors"]


def test_a_unet_over_a_base_needs_no_other_unet() -> None:
    recipe = Recipe(4, 0.0, "euler", ((64, 64),))
    base = Model("base", "B", "sdxl", Hub("org/pipe", "fp16"), recipe, "MIT")
    over = Model("over", "O", "sdxl", UnetOver("base", FILE), recipe, "MIT")
    wanted = choosing.wants(over, (base,))
    assert wanted == (Want(FILE), Want(Hub("org/pipe", "fp16"), "pipeline", frozenset({"unet"})))
    chosen = choosing.choose(wanted[1], dict.fromkeys(PIPELINE, 1))
    assert [n for n in chosen if n.startswith("unet/")] == ["unet/config.json"]


def test_other_layouts_are_chosen_by_the_kind_of_entry() -> None:
    (scorer,) = choosing.wants(Scorer("c", "C", "clip", Hub("org/clip"), "MIT"))
    names = ["config.json", "model.safetensors", "pytorch_model.bin", "vocab.json", "merges.txt", "tokenizer.json"]
    names += ["preprocessor_config.json", "flax_model.msgpack", "README.md"]
    assert set(choosing.choose(scorer, dict.fromkeys(names, 1))) == set(names) - {
        "pytorch_model.bin",
        "flax_model.msgpack",
    }
    (tiny,) = choosing.wants(PreviewDecoder("t", "sdxl", Hub("org/tiny")))
    names = ["config.json", "diffusion_pytorch_model.safetensors", "taesdxl_decoder.safetensors", "x.bin"]
    assert choosing.choose(tiny, dict.fromkeys(names, 1)) == tuple(names[:2])
    with pytest.raises(wire.HubError, match=r"has x\.bin and no"):
        choosing.choose(tiny, {"config.json": 1, "x.bin": 1})


def test_a_listing_that_leads_out_of_the_cache_is_not_followed(served: LoopbackHub, tmp_path: Path) -> None:
    served.repos["org/one"]["../../../../evil.safetensors"] = b"x"
    assert "no file" in refused(Want(HubFile("org/one", "../../../../evil.safetensors"))).message
    assert not list(tmp_path.rglob("evil*"))


# ── the cache as others see it ──────────────────────────────────────────────────────────────────────────────────────


def test_huggingface_hub_finds_what_was_pulled(served: LoopbackHub, tmp_path: Path) -> None:
    import huggingface_hub

    told = get()
    assert isinstance(told[-1], Pulling) and told[-1].done == told[-1].of == len(WEIGHTS) == told[-1].file_done
    cache = tmp_path / "cache"
    found = huggingface_hub.hf_hub_download("org/one", "a.safetensors", cache_dir=cache, local_files_only=True)
    assert Path(found) == FILE.path and Path(found).read_bytes() == WEIGHTS
    assert huggingface_hub.try_to_load_from_cache("org/one", "a.safetensors", cache_dir=cache) == found
    scanned = huggingface_hub.scan_cache_dir(cache)
    (repo,) = scanned.repos
    assert not scanned.warnings and repo.size_on_disk == len(WEIGHTS) and "main" in repo.refs
    assert not os.path.isabs(os.readlink(FILE.path)) and hub.sha256_of(FILE.path) == SHA
    before = len(served.fetched())
    assert get() == [] and len(served.fetched()) == before


def test_what_huggingface_hub_fetched_is_not_fetched_again(
    served: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    for name in ("a.safetensors", "config.json"):
        huggingface_hub.hf_hub_download("org/one", name, cache_dir=tmp_path / "cache", endpoint=served.url)
    assert FILE.path.read_bytes() == WEIGHTS
    served.asked.clear()
    get(Want(FILE), Want(HubFile("org/one", "config.json")))
    assert served.fetched() == []


def test_a_new_commit_keeps_what_other_entries_have(served: LoopbackHub) -> None:
    other = HubFile("org/one", "b.safetensors")
    get(Want(FILE), Want(other))
    served.commit = "d" * 40
    served.repos["org/one"]["a.safetensors"] = WEIGHTS[::-1]
    get()
    assert FILE.path.read_bytes() == WEIGHTS[::-1] and "d" * 40 in str(FILE.path)
    assert other.path.read_bytes() == b"b" * 1000
    assert len(served.fetched("b.safetensors")) == 1


# ── bad days ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cut_connection_goes_on_at_the_byte(served: LoopbackHub) -> None:
    served.faults.cut_after = [1_000_000, 500_000]
    waits = Waits()
    told = get(waits=waits)
    assert ranges(served) == ["", "bytes=1000000-", "bytes=1500000-"]
    notes = [e.text for e in told if isinstance(e, Noted)]
    assert len(notes) == 2 and "at 1 MB of 3 MB" in notes[0] and "(try 2 of 5)" in notes[0]
    assert waits.seconds == [1.0, 2.0] and FILE.path.read_bytes() == WEIGHTS


def test_tries_are_bounded_and_a_later_run_goes_on(served: LoopbackHub) -> None:
    served.faults.cut_always = 100_000
    error = refused()
    assert "given up after 5 tries" in error.message and len(ranges(served)) == 5
    assert not FILE.path.exists() and stored() == [f"blobs/{SHA}.safelight.incomplete"]
    served.faults.cut_always = None
    served.asked.clear()
    told = get()
    assert ranges(served) == ["bytes=500000-"] and FILE.path.read_bytes() == WEIGHTS
    assert any(isinstance(e, Noted) and "goes on at 500 kB" in e.text for e in told)


def test_a_server_without_ranges_begins_anew(served: LoopbackHub) -> None:
    served.faults.cut_after, served.faults.ignore_range = [1_000_000], True
    get()
    assert FILE.path.read_bytes() == WEIGHTS


def test_a_busy_hub_is_waited_for(served: LoopbackHub) -> None:
    served.faults.listing = [(429, {"Retry-After": "7"})]
    served.faults.statuses = [(429, {"Retry-After": "100000"}), (503, {}), (500, {})]
    waits = Waits()
    get(waits=waits)
    assert waits.seconds == [7.0, wire.LONGEST_WAIT, 2.0, 4.0] and FILE.path.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("want", "message"),
    [
        (HubFile("org/none", "a.safetensors"), "no repository org/none"),
        (HubFile("org/one", "c.safetensors"), "no file c.safetensors"),
        (HubFile("org/one", "a.safetensors", "v9"), "no revision v9"),
        (HubFile("org/one", "a.safetensors", sha256="1" * 64), "another a.safetensors than the catalogue knows"),
        (Hub("org/one"), "no model_index.json"),
    ],
)
def test_what_is_not_there_is_one_line(served: LoopbackHub, want: Hub | HubFile, message: str) -> None:
    assert message in refused(Want(want)).message
    assert served.fetched() == []


def test_a_gate_names_its_page_and_a_token_opens_it(served: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    served.faults.gated = {"org/one"}
    with wire.Wire() as connected:
        assert planned((Want(FILE),), connected).gated == ("org/one",)
    error = refused()
    assert "gated" in error.message and f"{served.url}/org/one" in error.hint and "HF_TOKEN" in error.hint
    monkeypatch.setenv("HF_TOKEN", "stranger")
    assert "your token has no access" in refused().message
    monkeypatch.setenv("HF_TOKEN", "good")
    get()
    assert FILE.path.read_bytes() == WEIGHTS


def test_a_token_goes_to_the_hub_alone_and_into_no_word(
    served: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "token").write_text(SECRET + "\n")
    served.faults.cut_after, served.faults.statuses = [1000], [(500, {})]
    connected = wire.Wire(1, pause=Waits())
    with connected:
        told = [repr(e) for e in pulling.pull((Want(FILE),), connected)]
    own = [a for a in served.asked if not a.cdn]
    assert own and {a.headers.get("authorization") for a in own} == {f"Bearer {SECRET}"}
    away = [a for a in served.asked if a.cdn]
    assert away and not any("authorization" in a.headers for a in away)
    served.faults.gated = {"org/pipe"}
    error = refused(Want(Hub("org/pipe")))
    monkeypatch.setenv("HF_TOKEN", f"{SECRET}\nX-Evil: 1")
    broken = refused(Want(Hub("org/pipe")))
    words = [caplog.text, repr(connected), *told, repr(error), error.hint, repr(broken), broken.hint, *stored()]
    assert SECRET not in "".join(words) and "can't be one" in broken.message


def test_wrong_contents_are_removed_and_fetched_anew(served: LoopbackHub) -> None:
    served.faults.flip = True
    error = refused()
    assert "a.safetensors came wrong" in error.message and SHA[:12] in error.message
    assert stored() == [] and not FILE.path.exists()
    served.faults.flip = False
    get()
    assert FILE.path.read_bytes() == WEIGHTS and ranges(served) == ["", ""]


def test_a_partial_file_that_was_spoilt_is_never_trusted(served: LoopbackHub) -> None:
    partial = hub.storage("org/one") / "blobs" / f"{SHA}{fetching.PARTIAL}"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"\0" * 2_000_000)
    assert "came wrong" in refused().message and stored() == []
    partial.write_bytes(b"\0" * 4_000_000)
    get()
    assert FILE.path.read_bytes() == WEIGHTS


def test_contents_that_change_meanwhile_are_discarded(served: LoopbackHub) -> None:
    served.faults.cut_always = 1000
    refused()
    served.faults.etag, served.faults.cut_always = "e" * 64, None
    assert "was changed on the hub" in refused().message
    assert stored() == []


def test_what_came_of_contents_that_are_no_more_is_dropped(served: LoopbackHub) -> None:
    served.faults.cut_always = 1000
    refused()
    served.repos["org/one"]["a.safetensors"] = b"new"
    served.faults.cut_always = None
    get()
    assert not any(name.endswith(fetching.PARTIAL) for name in stored()) and FILE.path.read_bytes() == b"new"


def test_a_redirect_to_an_open_line_is_refused(served: LoopbackHub) -> None:
    served.faults.to = "http://example.invalid/x"
    assert "without encryption" in refused().message


def test_offline_is_said_and_nothing_asked(served: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in refused().message and served.asked == []


def test_no_hub_at_all_is_one_line(served: LoopbackHub) -> None:
    served.close()
    assert "127.0.0.1 can't be reached" in refused().message


def test_a_disk_without_room_is_told_before_the_first_byte(
    served: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, pulling.MARGIN + len(WEIGHTS) - 1))
    error = refused()
    assert isinstance(error, DiskFull) and "3 MB are to be fetched" in error.message and "HF_HOME" in error.hint
    assert served.fetched() == []
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, pulling.MARGIN + len(WEIGHTS)))
    get()


def test_a_disk_that_fills_up_keeps_what_was_hashed(served: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    room = [1_000_000]

    def write(handle: int, data: Any) -> int:
        if len(data) > 1000:
            if room[0] <= 0:
                raise OSError(errno.ENOSPC, "full")
            data = bytes(data)[: min(len(data), room[0])]
            room[0] -= len(data)
        return whole(handle, data)

    monkeypatch.setattr("engines.fetching.os.write", write)
    error = refused()
    assert isinstance(error, DiskFull) and "HF_HOME" in error.hint
    partial = hub.storage("org/one") / "blobs" / f"{SHA}{fetching.PARTIAL}"
    kept = partial.stat().st_size
    assert 900_000 < kept <= 1_000_000 and partial.read_bytes() == WEIGHTS[:kept]
    room[0] = 10**9
    get()
    assert ranges(served)[-1] == f"bytes={kept}-" and FILE.path.read_bytes() == WEIGHTS


def test_a_stop_leaves_what_has_come(served: LoopbackHub) -> None:
    served.faults.hold = threading.Event()
    stop = threading.Event()
    with wire.Wire(1, stop.is_set) as connected:
        pull = pulling.pull((Want(FILE),), connected)
        assert isinstance(next(pull), Pulling)
        stop.set()
        with pytest.raises(Stopped):
            list(pull)
    assert [name.endswith(fetching.PARTIAL) for name in stored()] == [True]


def test_the_second_of_two_programs_waits_and_finds_it(served: LoopbackHub) -> None:
    from filelock import FileLock

    with wire.Wire() as connected:
        (remote,) = planned((Want(FILE),), connected).files
    remote.lock.parent.mkdir(parents=True)
    remote.stored.parent.mkdir(parents=True)
    other = FileLock(remote.lock)
    other.acquire()

    def finishes(seconds: float, stop: Callable[[], bool]) -> None:
        remote.stored.write_bytes(WEIGHTS)
        other.release()

    with wire.Wire(1, pause=finishes) as connected:
        told = list(pulling.pull((Want(FILE),), connected))
    assert any(isinstance(e, Noted) and "another program fetches a.safetensors" in e.text for e in told)
    assert served.fetched() == [] and FILE.path.read_bytes() == WEIGHTS


def test_progress_is_thinned_out_and_has_a_rate(served: LoopbackHub) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.05
        return now[0]

    with wire.Wire(1, clock=clock) as connected:
        told = [e for e in pulling.pull((Want(FILE),), connected) if isinstance(e, Pulling)]
    assert told[-1].rate > 0 and [e.done for e in told] == sorted(e.done for e in told)
    pieces = now[0] / 0.05
    assert len(told) <= pieces / (pulling.EVERY / 0.05) + 2


def test_after_a_kill_only_a_partial_file_is_left_and_the_next_run_goes_on(served: LoopbackHub) -> None:
    served.faults.hold = threading.Event()
    code = """
from engines import choosing, pulling, wire
from engines.entries import HubFile
for event in pulling.pull((choosing.Want(HubFile("org/one", "a.safetensors")),), wire.Wire(1)):
    print("came", flush=True)
"""
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "came\n"
        child.kill()
    assert stored() == [f"blobs/{SHA}{fetching.PARTIAL}"] and not FILE.path.exists()
    served.faults.hold.set()
    served.faults.hold = None
    get()
    assert FILE.path.read_bytes() == WEIGHTS and ranges(served)[-1].startswith("bytes=")


def test_nothing_has_its_name_before_it_is_whole(served: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill at any moment leaves: names are given in the order contents, link, revision."""
    order: list[str] = []
    replace, symlink, fsync = os.replace, os.symlink, os.fsync

    def note(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **more: Any) -> Any:
            order.append(f"{name} {Path(str(args[-1])).name}" if name != "fsync" else name)
            return real(*args, **more)

        return noted

    monkeypatch.setattr(os, "replace", note("replace", replace))
    monkeypatch.setattr(os, "symlink", note("symlink", symlink))
    monkeypatch.setattr(os, "fsync", note("fsync", fsync))
    get()
    assert [x for x in order if x != "fsync"] == [f"replace {SHA}", "symlink a.safetensors", "replace main"]
    assert order[0] == "fsync" and order[2] == "fsync"


def test_without_links_the_contents_lie_under_the_files_name(
    served: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "symlink", cannot)
    get()
    assert FILE.path.read_bytes() == WEIGHTS and not FILE.path.is_symlink()
    assert get() == [] and len(ranges(served)) == 1


# ── checking and removing ───────────────────────────────────────────────────────────────────────────────────────────


def checked(*wants: Want) -> dict[str, str]:
    return {c.name: c.state for c in holdings.verify(wants) if isinstance(c, holdings.Checked)}


def test_verify_finds_a_changed_byte_and_a_discarded_file_comes_again(served: LoopbackHub) -> None:
    small = Want(HubFile("org/one", "config.json"))
    assert checked(Want(FILE)) == {"org/one/a.safetensors": "missing"}
    get(Want(FILE), small)
    assert checked(Want(FILE), small) == {"org/one/a.safetensors": "ok", "org/one/config.json": "ok"}
    assert checked(Want(HubFile("org/one", "a.safetensors", sha256="2" * 64))) == {"org/one/a.safetensors": "wrong"}
    with open(FILE.path, "r+b") as f:
        f.write(b"??")
    (wrong,) = (c for c in holdings.verify([Want(FILE)]) if isinstance(c, holdings.Checked))
    assert wrong.state == "wrong" and wrong.expected == SHA != wrong.found
    holdings.discard(wrong)
    get()
    assert checked(Want(FILE)) == {"org/one/a.safetensors": "ok"}


def test_a_users_own_file_is_hashed_and_never_removed(served: LoopbackHub, tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"mine")
    sha = hashlib.sha256(b"mine").hexdigest()
    (unknown,) = (c for c in holdings.verify((), [mine]) if isinstance(c, holdings.Checked))
    (known,) = (c for c in holdings.verify((), [mine], {mine: sha}) if isinstance(c, holdings.Checked))
    assert (unknown.state, unknown.found, known.state) == ("unknown", sha, "ok")
    with pytest.raises(StorageError, match="your own"):
        holdings.discard(unknown)
    assert mine.exists()


def test_removing_frees_what_nobody_else_wants(served: LoopbackHub) -> None:
    other = Want(HubFile("org/one", "b.safetensors"))
    get(Want(FILE), other)
    kept = holdings.remove([Want(FILE)], [Want(FILE), other])
    assert (kept.bytes, kept.kept) == (0, ("org/one/a.safetensors",)) and FILE.path.exists()
    gone = holdings.remove([Want(FILE)], [other])
    assert gone.bytes == len(WEIGHTS) and gone.files == 1 and "3 MB freed" in holdings.told(gone)
    assert [n for n in stored() if n.startswith("blobs/")] == [f"blobs/{hashlib.sha256(b'b' * 1000).hexdigest()}"]
    holdings.remove([other], [])
    assert not hub.storage("org/one").exists()


def test_removing_leaves_what_other_programs_and_snapshots_have(served: LoopbackHub, tmp_path: Path) -> None:
    get(Want(Hub("org/pipe", "fp16")))
    folder = hub.snapshot("org/pipe")
    theirs = folder / "theirs.safetensors"
    theirs.write_bytes(b"theirs")
    precious = tmp_path / "precious.json"
    precious.write_bytes(b"{}")
    (folder / "tokenizer/vocab.json").unlink()
    (folder / "tokenizer/vocab.json").symlink_to(precious)
    older = hub.storage("org/pipe") / "snapshots" / ("e" * 40)
    older.mkdir()
    link = os.readlink(folder / "model_index.json")
    (older / "model_index.json").symlink_to(link)
    gone = holdings.remove([Want(Hub("org/pipe", "fp16"))], [])
    assert theirs.read_bytes() == b"theirs" and precious.exists() and (older / "model_index.json").read_bytes() == b"{}"
    assert gone.files > 10 and not (folder / "unet").exists()


def test_a_file_that_is_being_fetched_is_not_removed(served: LoopbackHub) -> None:
    get()
    blob = hub.storage("org/one") / "blobs" / SHA
    with fetching.alone(blob) as held:
        assert held
        with pytest.raises(StorageError, match="being fetched"):
            holdings.remove([Want(FILE)], [])
    assert FILE.path.exists()


def test_an_entry_of_local_files_wants_nothing(tmp_path: Path) -> None:
    from engines.entries import Local

    assert choosing.wants(Adapter("a", "A", "sdxl", Local(tmp_path / "a.safetensors"), "MIT")) == ()
