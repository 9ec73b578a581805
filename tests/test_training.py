"""What the embedded family is trained on: prompts that say what their pictures show, and the plan of a run."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training import artwork, common, denoiser, run, scenes

NAMES = [["cat", "kitten"], ["mouse"], ["box"], ["cherries"], ["ice cream"]]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs of a colour for each subject; the last has no picture in the last style."""
    folder = tmp_path_factory.mktemp("work")
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    disc = ((x**2 + y**2) < 0.9)[..., None]
    blobs, where = [], []
    for k in range(len(NAMES)):
        for style in range(5):
            if (k, style) != (4, 4):
                colour = (0, 0, 0) if style == scenes.INK else (40 * k + 20, 200 - 30 * k, 40 * style + 20)
                out = io.BytesIO()
                Image.fromarray((disc * (*colour, 255)).astype(np.uint8)).save(out, "WEBP", lossless=True, exact=True)
                blobs.append(np.frombuffer(out.getvalue(), np.uint8))
                where.append((k, style))
    sizes = np.array([len(blob) for blob in blobs])
    np.savez(folder / "art.npz", blob=np.concatenate(blobs), sizes=sizes, where=np.array(where, np.int16))
    pixels = np.stack([artwork.decode(blob.tobytes()) for blob in blobs])
    np.save(folder / "art.npy", pixels)  # as the first that reads it would
    (folder / "names.json").write_text(json.dumps({"names": NAMES, "words": ["cat", "strange"]}))
    return folder


def rows_of(art: scenes.Art, ks: list[int], style: int, bg: int, kind: int) -> scenes.Rows:
    return scenes.pack([scenes.Scenes(art).write(random.Random(3), ks, style, bg, kind, True)])


def test_the_list_of_subjects_is_long_and_has_no_name_twice() -> None:
    entries = artwork.subjects()
    names = [name for _, known in entries for name in known]
    assert len(entries) >= 400
    assert len(set(names)) == len(names)
    assert all(name == name.lower().strip() for name in names)


def test_prompts_name_what_is_drawn(work: Path) -> None:
    art = scenes.Art(str(work))
    rows = scenes.Scenes(art).draw(2000, 5)
    for i, text in enumerate(rows.texts):
        known = NAMES[int(rows.k[i, 0])]
        said = [*known, *(scenes.plural(name) for name in known)]
        assert any(name in text for name in said), text
        if int(rows.kind[i]) == 1:
            assert any(name in text for name in NAMES[int(rows.k[i, 1])]), text
        colours = [name for name in scenes.CNAMES if f"{name} background" in text or f"on {name}" in text]
        assert colours in ([], [scenes.CNAMES[int(rows.bg[i])]]), text
        styles = [name for name in artwork.STYLES if name in text.replace(",", " ").split()]
        assert set(styles) <= {artwork.STYLES[int(rows.style[i])]}, text


def test_what_is_held_out_is_never_composed(work: Path) -> None:
    art = scenes.Art(str(work))
    rows = scenes.Scenes(art).draw(3000, 6)
    for k, style, bg in zip(rows.k.tolist(), rows.style.tolist(), rows.bg.tolist(), strict=True):
        assert not any(scenes.held(subject, style, bg) for subject in k if subject >= 0)
        assert all(art.has[subject, style] for subject in k if subject >= 0)
    every = [scenes.held(k, s, b) for k in range(400) for s in range(5) for b in range(12)]
    assert 0.03 < np.mean(every) < 0.05


def test_scenes_are_drawn_in_the_order_of_their_words(work: Path) -> None:
    art = scenes.Art(str(work))
    rows = rows_of(art, [0, 1], 2, 0, 1)
    while "left" not in rows.texts[0]:
        rows = scenes.pack([scenes.Scenes(art).write(random.Random(random.random()), [0, 1], 2, 0, 1, True)])
    picture = scenes.compose(art, rows, 64)[0]
    assert rows.texts[0].index("cat" if "cat" in rows.texts[0] else "kitten") < rows.texts[0].index("mouse")
    colour = [tuple(((picture[:, 32, x] + 1) * 127.5).round().int().tolist()) for x in (16, 48)]
    assert colour == [(20, 200, 100), (60, 170, 100)]
    assert picture[:, 2, 2].tolist() == [1.0, 1.0, 1.0]  # the white of the background


def test_ink_is_seen_on_dark_grounds(work: Path) -> None:
    art = scenes.Art(str(work))
    for bg, ink in ((scenes.CNAMES.index("white"), -1.0), (scenes.CNAMES.index("black"), 1.0)):
        picture = scenes.compose(art, rows_of(art, [0], scenes.INK, bg, 0), 64)[0]
        assert picture[:, 32, 32].tolist() == pytest.approx([ink] * 3, abs=0.01)


def test_a_weight_makes_its_subject_larger(work: Path) -> None:
    art = scenes.Art(str(work))
    tokens = denoiser.Text.__new__(denoiser.Text)
    from transformers import CLIPTokenizer

    tokens.tokenizers = [CLIPTokenizer.from_pretrained(artwork.SHIPPED / "tokenizer")]
    rows = rows_of(art, [0, 1], 0, 0, 1)
    found = denoiser.stretch(rows, NAMES, tokens, share=1.0, seed=1)
    ((_, begin, end, weight),) = found
    ids = tokens.tokenizers[0](rows.texts[0]).input_ids
    word = tokens.tokenizers[0].decode(ids[begin:end]).strip()
    which = next(j for j, k in enumerate((0, 1)) if word in NAMES[k])
    assert weight > 1
    assert rows.scale[0, which] > scenes.PAIR > rows.scale[0, 1 - which]
    assert float(rows.scale[0, :2].sum()) <= 1.0


def test_every_stage_of_the_plan_is_there() -> None:
    for plan in (run.FIRST, run.SECOND):
        for module, _, begin, end in plan.values():
            assert (Path(run.__file__).parent / f"{module}.py").is_file()
            assert 0 <= begin < end < 0.98
    assert set(run.FEW) <= {*run.FIRST, *run.SECOND}


def test_the_pruned_base_is_a_part_of_the_base() -> None:
    with torch.device("meta"):
        whole, part = denoiser.make_unet(), denoiser.make_unet(pruned=True)
    shapes = {name: value.shape for name, value in whole.state_dict().items()}
    assert all(shapes[name] == value.shape for name, value in part.state_dict().items())
    assert len(part.state_dict()) < 0.75 * len(shapes)


def test_a_budget_begins_after_its_first_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THREADS", "1")
    monkeypatch.setattr("sys.argv", ["stage", str(tmp_path), "--minutes", "0.5", "--device", "cpu"])
    now = 1000.0
    monkeypatch.setattr(common.time, "time", lambda: now)
    budget = common.Budget(common.arguments("", 1), "stage")
    assert budget.more()
    now += 300  # the compilation
    assert budget.more()
    assert budget.done == 0
    now += 15
    assert budget.done == pytest.approx(0.5)
    assert 0.4 < budget.rate(1.0, warm=1) < 0.6
    now += 15
    assert not budget.more()
