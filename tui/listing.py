"""What the command line prints of models, history and prompts: tables for people, JSON for programs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engines import schedulers, tokens
from engines.catalogue import Catalogue, Folder, LoraOver, Model, UnetOver
from engines.prompt import parse
from engines.requests import Picture, check_prompt
from engines.store import Store
from tui import wording
from tui.clean import one_line
from tui.making import emit

MAX_PROBLEMS = 20
"Of a prompt, that are listed; JSON has them all."


def list_models(catalogue: Catalogue, as_json: bool) -> None:
    """One line a model: id, whether it is here, recipe, title."""
    if as_json:
        for model in catalogue.models.values():
            emit(_model(catalogue, model))
        return
    default = catalogue.default_model()
    rows = [("", "MODEL", "HERE", "STEPS", "GUIDANCE", "SIZE", "TITLE")]
    for model in catalogue.models.values():
        r = model.recipe
        rows.append(
            (
                "*" if model is default else "",
                model.id,
                "no" if catalogue.missing(model) else "yes",
                str(r.num_inference_steps),
                f"{r.guidance_scale:g}",
                "{}x{}".format(*r.size),
                model.title,
            )
        )
    table(rows)
    print("\n* is taken when no model is named. safelight models show ID tells more.")
    if catalogue.adapters:
        print("\nLoRAs, for --lora NAME:WEIGHT:")
        table([("", a.id, f"for {a.family}", a.title) for a in catalogue.adapters.values()])


def show_model(catalogue: Catalogue, model: Model, as_json: bool) -> None:
    """Everything that the catalogue says of a model."""
    if as_json:
        emit(_model(catalogue, model))
        return
    r = model.recipe
    row = schedulers.find(r.scheduler)
    print(f"{model.id}: {model.title}")
    if model.about:
        print(f"  {model.about}")
    missing = catalogue.missing(model)
    pairs = [
        ("here", "yes" if not missing else f"no: {missing[0]} is missing"),
        ("source", _source(model)),
        ("family", model.family),
        ("licence", model.licence),
        ("steps", f"{r.num_inference_steps}{' exactly (distilled)' if r.fixed_steps else ''}"),
        ("guidance", f"{r.guidance_scale:g}{' (off: no negative prompt)' if r.guidance_scale <= 1 else ''}"),
        ("scheduler", f"{row.name} ({row.title}){', ' + r.timestep_spacing if r.timestep_spacing else ''}"),
        ("sizes", ", ".join(f"{w}x{h}" for w, h in r.sizes)),
    ]
    for name, value in pairs:
        print(f"  {name:<10} {one_line(value)}")


def list_history(store: Store, limit: int, search: str, as_json: bool) -> None:
    """The newest pictures, one a line."""
    pictures = store.pictures(limit=limit, search=search)
    if as_json:
        for picture in pictures:
            emit(picture.to_json())
        return
    if not pictures:
        print("no pictures yet" if not search else f"no picture has '{one_line(search, 60)}' in its prompt or model")
        return
    now = time.time()
    rows = [("ID", "MADE", "MODEL", "SEED", "SIZE", "SCORE", "PROMPT")]
    for p in pictures:
        score = next(iter(p.scores.values()), None)
        rows.append(
            (
                str(p.id),
                wording.ago(p.created, now),
                p.request.model,
                str(p.request.seed),
                f"{p.width}x{p.height}",
                "" if score is None else f"{score:.2f}",
                one_line(p.request.prompt, 60),
            )
        )
    table(rows)


def show_picture(picture: Picture, as_json: bool) -> None:
    """One picture's settings, scores and timings."""
    values = picture.to_json()
    if as_json:
        emit(values)
        return
    seconds = values.pop("seconds")
    made_with = values.pop("made_with")
    for name, value in values.items():
        if value in (None, {}, []):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        print(f"{name:<20} {one_line(str(value))}")
    print(f"{'seconds':<20} {', '.join(f'{k} {v:.3f}' for k, v in seconds.items())}")
    print(f"{'made with':<20} {one_line(', '.join(f'{k} {v}' for k, v in made_with.items()))}")


def show_prompt(text: str, catalogue: Catalogue, model: Model, as_json: bool) -> None:
    """How a prompt is read: parts with weights and places, problems, tokens per encoder. Raises InvalidRequest."""
    check_prompt(text, "prompt")
    read = parse(text)
    lengths = [tokens.length(folder, read) for folder in tokens.encoders(catalogue, model)]
    if as_json:
        emit(
            {
                "text": read.text,
                "plain": read.plain,
                "model": model.id,
                "parts": [
                    {"text": p.text, "weight": p.weight, "start": p.span[0], "end": p.span[1], "clause": p.clause}
                    for p in read.parts
                ],
                "loras": [{"name": x.name, "weight": x.weight} for x in read.loras],
                "problems": [
                    {"message": p.message, "level": p.level, "start": p.span[0], "end": p.span[1]}
                    for p in read.problems
                ],
                "tokens": [x.tokens for x in lengths],
                "chunks": [x.chunks for x in lengths],
            }
        )
        return
    rows = [("WEIGHT", "PLACE", "TEXT")]
    rows += [(f"{p.weight:.3g}", f"{p.span[0]}–{p.span[1]}", one_line(p.text, 90)) for p in read.parts]
    table(rows)
    for p in read.problems[:MAX_PROBLEMS]:
        print(f"{'problem' if p.level == 'error' else p.level}: {one_line(p.message)} (at {p.span[0]}–{p.span[1]})")
    if (more := len(read.problems) - MAX_PROBLEMS) > 0:
        print(f"and {wording.plural(more, 'more problem')} of the kind")
    told = ", ".join(
        f"encoder {i}: {wording.plural(x.tokens, 'token')} in {wording.plural(x.chunks, 'chunk')}"
        for i, x in enumerate(lengths, 1)
    )
    print(f"{model.id}: {told}")


def table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be; the last one runs free."""
    import unicodedata

    def width(text: str) -> int:
        return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)

    widths = [max(width(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell + " " * (w - width(cell)) for cell, w in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())


def _model(catalogue: Catalogue, model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "title": model.title,
        "about": model.about,
        "family": model.family,
        "here": not catalogue.missing(model),
        "default": model is catalogue.default_model(),
        "source": _source(model),
        "licence": model.licence,
        "recipe": {**asdict(model.recipe), "sizes": [list(size) for size in model.recipe.sizes]},
    }


def _source(model: Model) -> str:
    match model.source:
        case Folder(path=path):
            return f"folder {path}"
        case UnetOver(base=base, file=file):
            return f"UNet {file.name} over {base}"
        case LoraOver(base=base, file=file, weight=weight):
            return f"LoRA {file.name} at {weight:g} over {base}"
