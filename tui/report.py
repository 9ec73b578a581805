"""A sweep as a document: the leaderboard, who is how quick, the pictures side by side, and what makes it all again.

An .html file holds everything; beside NAME.md lie its contact sheet, NAME-sheet.jpg, and its plot, NAME-plot.svg.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageDraw

from engines import files, ranking, sweep
from engines.errors import InvalidRequest, StorageError
from engines.ranking import Rank
from engines.sweep import Cell, Sweep
from tui import grids, runs, wording
from tui.clean import one_line

SUFFIXES = (".md", ".html")
"What a report may be written as."
UNTOLD = ("folder", "preview_every", "sketch")
"Fields of a request that say nothing of its picture."
THUMB = 112
"Pixels a side of a picture on the contact sheet."
ROWS = 60
"Blocks that are shown; the rest is counted."
COLUMNS = 16
"Contenders that are shown."
WIDE, HIGH, EDGE = 640, 280, 48
"Pixels of the plot, and of its margins."

LETTER, LINE = 6.2, 12
"About the pixels of a letter and of a line on the plot."

Box = tuple[float, float, float, float]
"Left, top, right and bottom of a label, in pixels."
Boards = Mapping[str, Sequence[Rank]]
"The ranks by each scorer; the first one's order is that of the pictures, and its numbers those of the plot."
Names = Mapping[grids.Point, str]
"What tells contenders from each other."
Missing = Sequence[tuple[str, str]]
"(who, why) of contenders without pictures, and of scorers that have not scored."


def check(path: Path) -> None:
    """Raises InvalidRequest for a name that no report can have."""
    if path.suffix.lower() not in SUFFIXES:
        told = f"a report is written as .md or .html, not '{path.name[-40:]}'"
        raise InvalidRequest(told, "name it report.html", "report")
    if path.is_dir():
        raise InvalidRequest(f"{path} is a folder", "name a file", "report")


def write(done: Sweep, path: Path, wordless: Container[str] = ()) -> tuple[Path, ...]:
    """Writes the report and what lies beside it; the files, the report first.

    Args:
        done: the sweep.
        path: the report's; its ending says which kind.
        wordless: the scorers that judge pictures without a prompt, too.

    Raises:
        InvalidRequest: the name is no report's.
        DiskFull, StorageError: it can't be written.
    """
    check(path)
    boards = {scorer: ranking.rank(runs.trials(done, scorer)) for scorer in done.scorers}
    ranks = next(iter(boards.values()), ())
    missing = [*runs.missing(done, wordless)]
    try:
        if lost := len(sweep.deleted(done)):
            told = f"{wording.plural(lost, 'file')} {'was' if lost == 1 else 'were'} deleted or damaged"
            missing.append(("pictures", f"{told}; safelight sweep --resume {done.id} makes them again"))
    except StorageError as e:
        missing.append(("pictures", e.message))
    sheet, plot = _sheet(done, ranks), _plot(ranks, _names(done))
    if path.suffix.lower() == ".html":
        files.replace(path, _html(done, boards, missing, sheet, plot).encode(), private=False)
        return (path,)
    picture, drawing = path.with_name(f"{path.stem}-sheet.jpg"), path.with_name(f"{path.stem}-plot.svg")
    written = [path]
    if sheet:
        files.replace(picture, sheet, private=False)
        written.append(picture)
    if plot:
        files.replace(drawing, plot.encode(), private=False)
        written.append(drawing)
    beside = (quote(picture.name) if sheet else "", quote(drawing.name) if plot else "")
    text = _markdown(done, boards, missing, *beside)
    files.replace(path, text.encode(), private=False)
    return tuple(written)


def _caption(done: Sweep) -> str:
    """What the contact sheet shows, and what it does not."""
    rows = len({cell.block for cell in done.cells})
    columns = len({cell.contender for cell in done.cells})
    told = "all pictures" if rows <= ROWS and columns <= COLUMNS else "pictures"
    told += ", a row for each prompt and seed"
    told += f"; the first {ROWS} of {rows:,} rows" if rows > ROWS else ""
    return told + (f"; the best {COLUMNS} of {columns:,} contenders" if columns > COLUMNS else "")


def _names(done: Sweep) -> Names:
    return runs.names(cell.contender for cell in done.cells)


HEAD = ("", "contender", "pictures", "mean score", "95 %", "behind", "wins", "s a picture", "score/s", "peak memory")


def _row(rank: Rank, name: str) -> tuple[str, ...]:
    def span(low: float, high: float) -> str:
        return f"{low:.2f} to {high:.2f}" if math.isfinite(low) and math.isfinite(high) else "?"

    def number(value: float) -> str:
        return "?" if not math.isfinite(value) else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"

    first = rank.place == 1
    return (
        runs.mark(rank), name, str(rank.count), f"{rank.mean:.2f}",
        span(rank.low, rank.high), "" if first else span(rank.behind_low, rank.behind_high),
        runs.wins(rank), number(rank.seconds), number(rank.rate),
        wording.bytes_(rank.peak) if rank.peak else "?",
    )  # fmt: skip


def _about(done: Sweep) -> list[tuple[str, str]]:
    """What was done with what; of versions and hashes all that the pictures say."""
    made = [cell.picture for cell in done.cells if cell.picture is not None]
    told = [
        ("sweep", f"{done.id}: {done.title}"),
        ("pictures", f"{len(made)} of {len(done.cells)} cells"),
        ("scorers", ", ".join(done.scorers) or "none"),
        ("again", done.command or "—"),
    ]
    found: dict[str, dict[str, None]] = {}
    for picture in made:
        for name, value in picture.made_with.items():
            if value:
                which = f"{name} of {picture.request.model}" if name.endswith("sha256") else name
                found.setdefault(which, {})[value] = None
    return told + [(name, ", ".join(values)) for name, values in sorted(found.items())]


def _requests(done: Sweep) -> Iterable[str]:
    for cell in done.cells:
        request = {name: value for name, value in asdict(cell.request).items() if name not in UNTOLD}
        yield json.dumps({"cell": cell.number, "point": dict(cell.point), "request": request}, ensure_ascii=False)


def _markdown(done: Sweep, boards: Boards, missing: Missing, sheet: str, plot: str) -> str:
    names = _names(done)

    def cell(text: str) -> str:
        return re.sub(r"([\\`*_\[\]<>|!#])", r"\\\1", one_line(text))

    def code(text: str) -> str:
        return one_line(text).replace("`", "'")

    lines = [f"# {cell(done.title)}", ""]
    for scorer, ranks in boards.items():
        lines += [f"By {cell(scorer)}:" if ranks else f"{cell(scorer)} has scored nothing.", ""]
        if not ranks:
            continue
        lines += ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
        lines += ["| " + " | ".join(map(cell, _row(rank, names[runs.point(rank)]))) + " |" for rank in ranks]
        lines += ["| " + " | ".join(map(cell, row)) + " |" for row in _unranked(done, ranks, names)]
        lines += ["", *(f"{cell(doubt)}.\n" for doubt in _doubts(done, ranks))]
    lines += [_legend(), ""] if any(boards.values()) else []
    if stars := _stars(done):
        lines += ["## By hand", "", *(f"- {cell(who)}: {told}" for who, told in stars), ""]
    lines += [f"![score against seconds]({plot})", ""] if plot else []
    lines += [f"![{_caption(done)}]({sheet})", "", f"{_caption(done).capitalize()}.", ""] if sheet else []
    lines += ["## Missing", "", *(f"- {cell(runs.told(who, why))}" for who, why in missing), ""] if missing else []
    lines += ["## What made it", "", *(f"- {cell(name)}: `{code(value)}`" for name, value in _about(done)), ""]
    lines += ["## Requests", "", "```json", *_requests(done), "```", ""]
    return "\n".join(lines)


def _unranked(done: Sweep, ranks: Sequence[Rank], names: Names) -> list[tuple[str, ...]]:
    """Rows of those that a scorer has no number for."""
    return [("–", names[who], "0", *("–",) * (len(HEAD) - 3)) for who in runs.unranked(done, ranks)]


def _doubts(done: Sweep, ranks: Sequence[Rank]) -> list[str]:
    return [doubt[:1].upper() + doubt[1:] for doubt in runs.doubts(done, ranks)]


def _stars(done: Sweep) -> list[tuple[str, str]]:
    """(contender, what a person gave its pictures), the best first."""
    names = _names(done)
    given = sorted(runs.stars(done).items(), key=lambda pair: -pair[1][0])
    return [(names[who], f"{mean:.1f} of 5 stars, {wording.plural(count, 'picture')}") for who, (mean, count) in given]


def _legend() -> str:
    return (
        "The interval of the mean and of what a contender is behind the first are the percentile bootstrap's, over "
        "pairs of prompt and seed, those of one prompt together where there are five prompts or more; the latter is "
        "widened for the number of contenders. = can't be told from the first: that interval holds 0. ? too few "
        "prompts or pairs to tell. wins: in which share of the pairs it beats the first."
    )


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:nth-child(2), td:nth-child(2) { text-align: left; } code { word-break: break-all; } img, svg { max-width: 100%; }
pre { white-space: pre-wrap; word-break: break-all; font-size: 12px; } .note { color: #666; max-width: 50rem; }
"""


def _html(done: Sweep, boards: Boards, missing: Missing, sheet: bytes, plot: str) -> str:
    names = _names(done)

    def say(text: str) -> str:
        return html.escape(one_line(text))

    title = say(done.title)
    parts = [f"<!doctype html><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"]
    for scorer, ranks in boards.items():
        if not ranks:
            parts.append(f"<p>{say(scorer)} has scored nothing.</p>")
            continue
        rows = "".join(
            f"<tr>{''.join(f'<td>{say(x)}</td>' for x in _row(rank, names[runs.point(rank)]))}</tr>" for rank in ranks
        )
        rows += "".join(
            f"<tr>{''.join(f'<td>{say(x)}</td>' for x in row)}</tr>" for row in _unranked(done, ranks, names)
        )
        parts.append(f"<h2>{say(scorer)}</h2><table><tr>{''.join(f'<th>{x}</th>' for x in HEAD)}</tr>{rows}</table>")
        parts += [f"<p class='note'>{say(doubt)}.</p>" for doubt in _doubts(done, ranks)]
    if any(boards.values()):
        parts.append(f"<p class='note'>{_legend()}</p>")
    if stars := _stars(done):
        items = "".join(f"<li>{say(who)}: {say(told)}</li>" for who, told in stars)
        parts.append(f"<h2>By hand</h2><ul>{items}</ul>")
    parts.append(plot)
    if sheet:
        data = base64.b64encode(sheet).decode()
        parts.append(f"<p><img alt='{_caption(done)}' src='data:image/jpeg;base64,{data}'></p>")
    if missing:
        items = "".join(f"<li>{say(runs.told(who, why))}</li>" for who, why in missing)
        parts.append(f"<h2>Missing</h2><ul>{items}</ul>")
    items = "".join(f"<li>{say(name)}: <code>{say(value)}</code></li>" for name, value in _about(done))
    parts.append(f"<h2>What made it</h2><ul>{items}</ul>")
    requests = html.escape("\n".join(_requests(done)), quote=False)
    parts.append(f"<h2>Requests</h2><details><summary>{len(done.cells)}</summary><pre>{requests}</pre></details>")
    return "\n".join(parts) + "\n"


def _plot(ranks: Sequence[Rank], names: Names) -> str:
    """Mean score against seconds a picture, with the mean's interval; an empty text if there is nothing to plot."""
    shown = [rank for rank in ranks if all(map(math.isfinite, (rank.low, rank.high, rank.seconds)))]
    if not shown:
        return ""
    right = max(rank.seconds for rank in shown) * 1.1 or 1.0
    low, high = min(rank.low for rank in shown), max(rank.high for rank in shown)
    pad = (high - low) * 0.1 or 1.0
    low, high = low - pad, high + pad

    def x(seconds: float) -> float:
        return EDGE + seconds / right * (WIDE - 2 * EDGE)

    def y(score: float) -> float:
        return HIGH - EDGE + (low - score) / (high - low) * (HIGH - 2 * EDGE)

    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDE} {HIGH}' width='{WIDE}' height='{HIGH}' "
        "font-family='system-ui, sans-serif' font-size='11'><rect width='100%' height='100%' fill='white'/>",
        f"<path d='M{EDGE} {EDGE / 2}V{HIGH - EDGE}H{WIDE - EDGE / 2}' fill='none' stroke='#888'/>",
        f"<text x='{WIDE - EDGE / 2}' y='{HIGH - EDGE / 3}' text-anchor='end'>seconds a picture</text>",
        f"<text x='{EDGE}' y='{EDGE / 3}' text-anchor='middle'>score</text>",
    ]
    for share in (0.0, 0.5, 1.0):
        at, score = right * share, low + (high - low) * share
        parts.append(f"<text x='{x(at):.1f}' y='{HIGH - EDGE + 14}' text-anchor='middle'>{at:.3g}</text>")
        parts.append(f"<text x='{EDGE - 6}' y='{y(score):.1f}' text-anchor='end'>{score:.1f}</text>")
    taken: list[Box] = []
    for rank in shown:
        place = f"{x(rank.seconds):.1f}"
        parts.append(f"<path d='M{place} {y(rank.low):.1f}V{y(rank.high):.1f}' stroke='#c60' stroke-width='2'/>")
        name = html.escape(one_line(names[runs.point(rank)], 40))
        parts.append(f"<circle cx='{place}' cy='{y(rank.mean):.1f}' r='4' fill='#c60'><title>{name}</title></circle>")
        end = x(rank.seconds) > WIDE * 0.7
        for label in (one_line(names[runs.point(rank)], 40), str(rank.place)):
            found = _free(x(rank.seconds), y(rank.mean), len(label) * LETTER * (-1 if end else 1), taken)
            if found is not None:
                break
        else:
            continue  # the table has it
        at, base = found
        if abs(base - y(rank.mean)) > LINE:
            parts.append(f"<path d='M{place} {y(rank.mean):.1f}L{at:.1f} {base - 4:.1f}' stroke='#bbb'/>")
        anchor = "end" if end else "start"
        parts.append(f"<text x='{at:.1f}' y='{base:.1f}' text-anchor='{anchor}'>{html.escape(label)}</text>")
    return "".join(parts) + "</svg>"


def _free(x: float, y: float, width: float, taken: list[Box]) -> tuple[float, float] | None:
    """Where a label of a point begins (or, with a negative width, ends) and stands: beside the point, or above or below
    that, as near as it does not lie over those in `taken`, to which it is added. None where there is no room."""
    at = x + (7 if width > 0 else -7)
    left, right = sorted((at, at + width))
    offsets = [-4.0]
    for step in range(1, HIGH // LINE):
        offsets += [-4.0 - step * LINE, -4.0 + step * LINE]
    free = (
        (left, y + offset - LINE + 2, right, y + offset + 2)
        for offset in offsets
        if LINE <= y + offset <= HIGH - EDGE + LINE / 2
    )
    box = next((one for one in free if not any(_overlap(one, other) for other in taken)), None)
    if box is None:
        return None
    taken.append(box)
    return at, box[3] - 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _sheet(done: Sweep, ranks: Sequence[Rank]) -> bytes:
    """A JPEG of all pictures, a column for each contender, best first, and a row for each block; empty if there are
    none."""
    ranked = [runs.point(rank) for rank in ranks]
    contenders = list(dict.fromkeys([*ranked, *(cell.contender for cell in done.cells)]))[:COLUMNS]
    blocks = list(dict.fromkeys(cell.block for cell in done.cells))
    names, shorts, blocks_named = _names(done), runs.shorts(contenders), runs.names(blocks)
    by: dict[tuple[object, object], Cell] = {(cell.contender, cell.block): cell for cell in done.cells}
    if not any(cell.picture for cell in done.cells):
        return b""
    more = max(0, len(blocks) - ROWS)
    blocks, top, line = blocks[:ROWS], 18, 14
    sheet = Image.new(
        "RGB", (THUMB * len(contenders) + 4, top + (THUMB + line) * len(blocks) + (16 if more else 0)), "white"
    )
    pen = ImageDraw.Draw(sheet)
    for column, contender in enumerate(contenders):
        pen.text(
            (column * THUMB + 4, 3),
            one_line(names[contender] if len(names[contender]) <= 18 else shorts[contender], 18),
            fill="black",
        )
    for row, block in enumerate(blocks):
        at = top + row * (THUMB + line)
        pen.text((4, at), one_line(blocks_named[block], 18 * len(contenders)), fill="#666666")
        for column, contender in enumerate(contenders):
            cell = by.get((contender, block))
            if cell is not None and cell.picture is not None and (small := _small(cell.picture.path)) is not None:
                sheet.paste(small, (column * THUMB + (THUMB - small.width) // 2, at + line))
    if more:
        pen.text((4, sheet.height - 14), f"and {wording.plural(more, 'row')} more", fill="#666666")
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _small(path: str) -> Image.Image | None:
    """A picture as the sheet shows it; None if its file is gone or damaged."""
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    small.thumbnail((THUMB - 4, THUMB - 4))
    return small
