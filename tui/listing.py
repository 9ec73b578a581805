"""What the command line prints of history and prompts: tables for people, JSON for programs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from engines import schedulers, tokens
from engines.catalogue import Catalogue
from engines.entries import Model
from engines.errors import LoadError
from engines.prompt import parse
from engines.requests import Picture, check_prompt
from engines.store import Store
from tui import wording
from tui.clean import one_line
from tui.making import emit

MAX_PROBLEMS = 20
"Of a prompt, that are listed; JSON has them all."


def list_schedulers(as_json: bool) -> None:
    """Every sampler: its name, what other programs call it, what it is in diffusers, and what it is good for."""
    if as_json:
        for row in schedulers.TABLE:
            emit({"name": row.name, "title": row.title, "aliases": list(row.aliases), "class": row.class_name,
                  "arguments": row.arguments, "max_steps": row.max_steps, "good_for": row.good_for})  # fmt: skip
        return
    rows = [("NAME", "TITLE", "MOST STEPS", "GOOD FOR")]
    rows += [(row.name, row.title, str(row.max_steps), row.good_for) for row in schedulers.TABLE]
    table(rows)
    print("\nA1111's, ComfyUI's and k-diffusion's names are understood too: --scheduler 'DPM++ 2M Karras'")


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
        # each scorer's numbers are on a scale of their own
        score = next((f"{value:.2f} {one_line(scorer, 20)}" for scorer, value in p.scores.items()), "")
        rows.append(
            (
                str(p.id),
                wording.ago(p.created, now),
                p.request.model,
                str(p.request.seed),
                f"{p.width}x{p.height}",
                score,
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
    embeddings = _vectors(catalogue, model)
    lengths = [tokens.length(folder, read, embeddings) for folder in tokens.encoders(catalogue, model)]
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


def _vectors(catalogue: Catalogue, model: Model) -> dict[str, int]:
    """How many tokens each embedding is that a prompt may name; one that can't be read is told when it is used."""
    found = {}
    for name, file in catalogue.embeddings_of(model.family).items():
        try:
            found[name.lower()] = tokens.vectors(file)
        except LoadError:
            continue
    return found


def table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be; the last one runs free."""
    import unicodedata

    def width(text: str) -> int:
        return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)

    widths = [max(width(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell + " " * (w - width(cell)) for cell, w in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())
