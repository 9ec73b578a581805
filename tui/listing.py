"""What the command line prints of history and prompts: tables for people, JSON for programs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from engines import schedulers, tokens, variants
from engines.catalogue import Catalogue
from engines.entries import Model
from engines.errors import LoadError
from engines.parts import Blend, Emphasis, Part, Problem, Prompt, Span
from engines.prompt import parse
from engines.requests import Picture, check_prompt
from engines.store import Store
from tui import cells, finishes, texts, wording
from tui.clean import one_line
from tui.making import emit
from tui.texts import Text

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
    values["finish"] = finishes.text(picture.request.finish) or None
    seconds = values.pop("seconds")
    made_with = values.pop("made_with")
    for name, value in values.items():
        if value in (None, {}, []):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        print(f"{name:<20} {one_line(str(value)) or '(empty)'}")
    print(f"{'seconds':<20} {', '.join(f'{k} {v:.3f}' for k, v in seconds.items())}")
    print(f"{'made with':<20} {one_line(', '.join(f'{k} {v}' for k, v in made_with.items()))}")


def show_prompt(text: Text, seed: int, catalogue: Catalogue, model: Model, as_json: bool) -> None:
    """How a prompt is read: what was drawn and translated, parts with weights and places, problems, tokens per encoder.

    Args:
        text: the prompt, read.
        seed: what its variants were drawn from.
        catalogue: which embeddings may be named.
        model: whose encoders count the tokens.
        as_json: one object for programs, a tree for people otherwise.

    Raises:
        InvalidRequest: the prompt is too long.
    """
    check_prompt(text.typed, "prompt")
    check_prompt(text.prompt, "prompt")
    read = parse(text.prompt)
    embeddings = _vectors(catalogue, model)
    lengths = [tokens.length(folder, read, embeddings) for folder in tokens.encoders(catalogue, model)]
    expansion, translation = text.expansion, text.translation
    doubts = (*texts.doubts(text), *variants.unclosed(text.typed))
    problems = [("typed", problem) for problem in (*doubts, *(expansion.problems if expansion else ()))]
    before = "drawn" if expansion else "typed"
    problems += [(before, problem) for problem in (translation.problems if translation else ())]
    problems += [("text", problem) for problem in read.problems]
    unknown = (use for use in read.loras if use.name not in catalogue.adapters)
    problems += [("text", Problem(use.span, f"no LoRA is called '{use.name}'")) for use in unknown]
    if as_json:
        emit(
            {
                "text": read.text,
                "typed": text.typed,
                "plain": read.plain,
                "model": model.id,
                "parts": [
                    {"text": p.text, "weight": p.weight, **_place(p.span), "clause": p.clause, "applied": p.applied}
                    for p in read.parts
                ],
                "weights": [
                    {"text": read.text[slice(*e.body)], "weight": e.weight, **_place(e.span)} for e in read.emphases
                ],
                "combination": read.combination
                and {
                    "operator": read.combination.operator,
                    "weights": list(read.combination.weights),
                    "normalize": read.combination.normalize,
                },
                "loras": [{"name": x.name, "weight": x.weight, **_place(x.span)} for x in read.loras],
                "variants": expansion
                and {
                    "seed": seed,
                    "text": expansion.text,
                    "picks": [{"text": p.text, **_place(p.source), "drawn": _place(p.output)} for p in expansion.picks],
                },
                "translation": translation
                and {
                    "text": translation.text,
                    "pieces": [{**_place(p.source), "translated": _place(p.output)} for p in translation.pieces],
                },
                "problems": [
                    {"message": p.message, "level": p.level, **_place(p.span), "in": where} for where, p in problems
                ],
                "tokens": [x.tokens for x in lengths],
                "chunks": [x.chunks for x in lengths],
            }
        )
        return
    if expansion is not None:
        print(f"drawn from seed {seed}: {one_line(expansion.text, 500)}")
        for pick in expansion.picks[:MAX_PROBLEMS]:
            print(f"  {pick.source[0]}–{pick.source[1]}  {one_line(pick.text, 90)}")
        if (more := len(expansion.picks) - MAX_PROBLEMS) > 0:
            print(f"  and {more} more")
    if translation is not None:
        print(f"translated: {one_line(translation.text, 500)}")
    table([("WEIGHT", "PLACE", "TEXT"), *_tree(read)])
    for where, problem in problems[:MAX_PROBLEMS]:
        place = f"at {problem.span[0]}–{problem.span[1]}{'' if where == 'text' else f' of what was {where}'}"
        print(f"{'problem' if problem.level == 'error' else problem.level}: {one_line(problem.message)} ({place})")
    if (more := len(problems) - MAX_PROBLEMS) > 0:
        print(f"and {wording.plural(more, 'more problem')} of the kind")
    told = ", ".join(
        f"encoder {i}: {wording.plural(x.tokens, 'token')} in {wording.plural(x.chunks, 'chunk')}"
        for i, x in enumerate(lengths, 1)
    )
    print(f"{model.id}: {told}")


def _place(span: Span) -> dict[str, int]:
    return {"start": span[0], "end": span[1]}


def _tree(read: Prompt) -> list[tuple[str, str, str]]:
    """(weight, place, text) of every clause, of every group of several parts, of every part and LoRA, as they nest."""
    whole = read.tree.clauses[0]
    kind, weights = "and", read.tree.weights
    if isinstance(whole, Blend):
        kind, weights = "blend", whole.weights
    rows: list[tuple[str, str, str]] = []
    several = len(read.plains) > 1
    by_clause: dict[int, list[Part]] = {}
    for part in read.parts:
        by_clause.setdefault(part.clause, []).append(part)
    groups = iter([*read.emphases, None])
    group = next(groups)
    for clause in range(len(read.plains)):
        if several:
            rows.append((f"{weights[clause]:.3g}", "", f"{kind}, text {clause + 1} of {len(read.plains)}"))
        open_: list[Emphasis] = []
        parts = by_clause.get(clause, [])
        for i, part in enumerate(parts):
            while open_ and open_[-1].span[1] <= part.span[0]:
                open_.pop()
            while group is not None and group.span[0] < part.span[1]:
                alone = group.span[0] <= part.span[0] and (i + 1 == len(parts) or parts[i + 1].span[0] >= group.span[1])
                if not alone and group.span[1] > part.span[0]:
                    shown = one_line(read.text[group.body[0] : min(group.body[1], group.body[0] + 100)], 60)
                    place = f"{group.span[0]}–{group.span[1]}"
                    rows.append((f"×{group.weight:.3g}", place, _nested(several + len(open_), f"({shown})")))
                    open_.append(group)
                group = next(groups)
            place = f"{part.span[0]}–{part.span[1]}"
            said = one_line(part.text, 90) + ("" if part.applied else "  (not applied)")
            rows.append((f"{part.weight:.3g}", place, _nested(several + len(open_), said)))
    rows += [(f"{use.weight:.3g}", f"{use.span[0]}–{use.span[1]}", f"LoRA {use.name}") for use in read.loras]
    return rows


def _nested(depth: int, text: str) -> str:
    """The text under what it is in; very deep ones stand no further in than the rest."""
    return "  " * (min(depth, 12) - 1) + "└ " + text if depth else text


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
    rows = [[cells.settled(cell) for cell in row] for row in rows]
    widths = [max(cells.width(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        told = [cells.pad(cell, wide) for cell, wide in zip(row, widths, strict=False)]
        print("  ".join([*told, row[-1]]).rstrip())
