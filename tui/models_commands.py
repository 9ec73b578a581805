"""The commands under `safelight models`, as typer reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tui import session as sessions
from tui.arguments import Debug, Json, Yes
from tui.session import Session

app = typer.Typer(help="Which models there are; get, add, check, mix and remove them.", rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="ID", help="As safelight models list names it.")]


@app.command("list")
def list_(json: Json = False, debug: Debug = False) -> int:
    """List models, LoRAs, embeddings, VAEs, scorers, upscalers and what mends faces, and what of it is here."""
    from tui import shelf

    session = _begin(debug)
    shelf.list_all(session.catalogue, json)
    return 0


@app.command()
def show(id: Id, json: Json = False, debug: Debug = False) -> int:
    """Show one entry: its recipe, source, size and licence."""
    from tui import shelf

    session = _begin(debug)
    shelf.show(session.catalogue, session.catalogue.entry(id), json)
    return 0


@app.command()
def add(
    what: Annotated[str, typer.Argument(metavar="FILE|FOLDER|REPO", help="A .safetensors file, a folder, ORG/NAME.")],
    id: Annotated[
        str, typer.Option("--id", metavar="ID", help="What to call it; made from its name if left out.")
    ] = "",
    base: Annotated[str, typer.Option("--base", metavar="ID", help="The model that it stands over or is like.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it is, and add nothing.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Tell what a file, folder or repository is, and add it to your models.toml with a recipe."""
    from tui import adding

    return adding.add(_begin(debug), what, id, base, dry_run, json)


@app.command()
def scan(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="For instance ComfyUI/models.")],
    add: Annotated[bool, typer.Option("--add", help="Add all that can be used to your models.toml.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """List the model files of another program's folder, where they are; nothing is copied."""
    from tui import adding

    return adding.scan(_begin(debug), folder, add, json)


@app.command()
def pull(id: Id, yes: Yes = False, json: Json = False, debug: Debug = False) -> int:
    """Fetch an entry, and what it stands on, into the hub's cache; go on where an earlier try ended."""
    from tui import stocking

    return stocking.pull(_begin(debug), id, yes, json)


@app.command()
def verify(
    id: Annotated[str, typer.Argument(metavar="[ID]", help="All that is here if left out.")] = "",
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Read the files of an entry again and compare their sha256."""
    from tui import stocking

    return stocking.verify(_begin(debug), id, json)


@app.command()
def remove(id: Id, yes: Yes = False, json: Json = False, debug: Debug = False) -> int:
    """Free an entry's space in the hub's cache; what another entry uses stays."""
    from tui import stocking

    return stocking.remove(_begin(debug), id, yes, json)


@app.command()
def merge(
    models: Annotated[list[str], typer.Argument(metavar="A B [C]", help="Ids or .safetensors files.")],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Write the mix to this .safetensors file.")] = "",
    id: Annotated[str, typer.Option("--id", metavar="ID", help="What to call it in your models.toml.")] = "",
    weights: Annotated[
        str,
        typer.Option("--weights", metavar="X,Y", help="The models' shares, or B's alone; for A + x·(B - C) x alone."),
    ] = "",
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="weighted-sum or add-difference.")
    ] = "weighted-sum",
    blocks: Annotated[
        list[str], typer.Option("--blocks", metavar="NAME=SHARE", help="B's share in one block; may be repeated.")
    ] = [],  # noqa: B006
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="NAME", help="fp16, bf16 or fp32; A's own if left out.")
    ] = "",
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Mix two or three models: into a file with --out, else in memory each time under an id."""
    from tui import mixing

    return mixing.merge(_begin(debug), mixing.Mix(models, weights, method, blocks, dtype), out, id, json)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .ckpt, .pt, .pth or .bin file.")],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="Beside it, ending in .safetensors, if left out.")
    ] = "",
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Make a .safetensors file of a pickled one, without running what is pickled in it."""
    from tui import mixing

    return mixing.convert(_begin(debug), file, out, json)


def _begin(debug: bool) -> Session:
    from tui.making import say

    session = sessions.begin(debug)
    say(session.notices)
    return session
