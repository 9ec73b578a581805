"""From what was identified to an entry of the user's models.toml, and taking one out again.

The recipe follows from the architecture and the hints; the reasons stand above the entry as comments.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines import files, folders, hints, tables
from engines.blocks import Formula
from engines.entries import Model, Recipe, Size
from engines.errors import CatalogueError, LoadError, StorageError
from engines.headers import shown
from engines.identify import Identified

SIZES: tuple[Size, ...] = (
    (1024, 1024), (896, 1152), (1152, 896), (832, 1216), (1216, 832), (768, 1344), (1344, 768), (640, 1536),
    (1536, 640),
)  # fmt: skip
"SDXL's own (arXiv:2307.01952, appendix I), of about a million pixels."
KINDS = ("model", "lora", "embedding", "vae", "preview_decoder", "scorer", "upscaler", "face_restorer")
_NEW = "# Models of your own; safelight models add writes here, and so may you.\n"
_OF_NO_FAMILY = ("scorer", "upscaler", "face_restorer")
"Kinds of what any model's picture is given to."
_SOURCE = {"unet": "unet", "lora": "lora"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where what was identified is."""

    path: Path | None = None
    "A file or folder on this machine; None for the hub."
    repo: str = ""
    "ORG/NAME."
    file: str = ""
    "Its name in the repository; empty for a whole one."


def entry(
    found: Identified,
    place: Place,
    taken: Collection[str] = (),
    *,
    id: str = "",
    family: str = "",
    base: str = "sdxl-base",
    like: Recipe | None = None,
    configured: str = "",
) -> str:
    """The TOML of an entry, with its reasons as comments.

    Args:
        found: what it is.
        place: where it is.
        taken: ids that others have.
        id: its own; empty makes one of its name.
        family: which it belongs to; empty takes it from the architecture, which a small model's doesn't tell.
        base: the id of the model that a UNet or a distilled LoRA is put over.
        like: the recipe of that base: gives the sizes, and all else where nothing is known.
        configured: the id of the model whose configurations and tokenizers a checkpoint has; empty for SDXL's own.

    Raises:
        LoadError: it is nothing that safelight can use.
        CatalogueError: a small model whose family wasn't given, or a path that TOML can't hold.
    """
    if not found.supported:
        raise LoadError(f"{found.name} {found.why_not}", "look for one that was made for SDXL")
    family = family or ("" if found.architecture == "sdxl-shaped" else found.architecture)
    if not family and found.kind not in _OF_NO_FAMILY:
        raise CatalogueError(f"{found.name} is {found.architecture_title}: its family must be named", "name its base")
    name = found.title or re.sub(r"\.safetensors$", "", found.name.rpartition("/")[2])
    lines = [f"# {reason}" for reason in found.reasons]
    model = found.kind in ("model", "unet") or (found.kind == "lora" and bool(found.hints.distilled))
    lines += [f"[[{'model' if model else found.kind}]]", f"id = {quoted(id or slug(name, taken))}"]
    if found.kind != "preview_decoder":
        lines.append(f"title = {quoted(name)}")
    if found.kind == "vae":
        lines.append(f"latents = {quoted(family)}")
    elif found.kind == "scorer":
        lines.append(f"kind = {quoted(found.architecture)}")
    elif found.kind == "upscaler":
        lines.append(f"scale = {found.scale}")
    elif found.kind in _OF_NO_FAMILY:
        pass
    else:
        lines.append(f"family = {quoted(family)}")
    lines.append(f"licence = {quoted(found.licence or 'unknown')}")
    if found.words and found.kind == "lora" and not model:
        lines.append(f"words = {quoted(found.words)}")
    if not model:
        return "\n".join([*lines, *_where(found, place, "file")]) + "\n"
    source = _where(found, place, _SOURCE.get(found.kind, "file"))
    if found.kind != "model":
        source.insert(0, f"base = {quoted(base)}")
    elif configured:
        source.append(f"like = {quoted(configured)}")
    lines += [f"source = {{ {', '.join(source)} }}", "", "[model.recipe]", *_lines(recipe(found, like))]
    return "\n".join(lines) + "\n"


def mix(id: str, models: Sequence[Model], formula: Formula) -> str:
    """The TOML of a model that is mixed in memory, with the first one's recipe."""
    first = models[0]
    parents = ", ".join(
        f"{{ model = {quoted(m.id)}, weight = {w!r} }}" for m, w in zip(models, formula.weights, strict=True)
    )
    source = f"merge = [{parents}], method = {quoted(formula.method)}"
    if formula.blocks:
        source += f", blocks = {{ {', '.join(f'{name} = {share!r}' for name, share in formula.blocks)} }}"
    licences = " AND ".join(dict.fromkeys(m.licence for m in models))
    lines = [
        "[[model]]",
        f"id = {quoted(id)}",
        f"title = {quoted(' + '.join(m.title for m in models))}",
        f"about = {quoted(f'A mix: {formula}.')}",
        f"family = {quoted(first.family)}",
        f"licence = {quoted(licences)}",
        *([f"latents = {quoted(first.latents)}"] if first.latents else []),
        f"source = {{ {source} }}",
        "",
        "[model.recipe]",
        *_lines(first.recipe),
    ]
    return "\n".join(lines) + "\n"


def recipe(found: Identified, like: Recipe | None = None) -> Recipe:
    """What a model should be run with, by its makers' cards as far as hints tell which it is of.

    Sources: the cards of stabilityai/sdxl-turbo, ByteDance/SDXL-Lightning and Hyper-SD, latent-consistency/lcm-sdxl,
    tianweiy/DMD2, RunDiffusion/Juggernaut-XL-Lightning and SG161222/RealVisXL_V5.0_Lightning; zero terminal SNR and
    the rescaled guidance that goes with it are arXiv:2305.08891's.
    """
    hint, sizes = found.hints, like.sizes if like else SIZES
    plain = hints.words(found.name)
    own = found.kind == "lora" or re.search(r"(sd ?xl|hyper ?sd) ?(lightning|turbo|sdxl|hyper)", plain) is not None
    steps = hint.steps
    match hint.distilled:
        case "turbo" if own and found.kind != "lora":
            small = sizes if like and found.architecture == "sdxl-shaped" else ((512, 512),)
            return Recipe(steps or 1, 0.0, "euler_a", small, timestep_spacing="trailing", steps_range=(1, 4))
        case "lightning" if own or found.kind == "unet":
            return Recipe(
                steps or 4, 0.0, "euler", sizes, timestep_spacing="trailing", prediction_type=hint.prediction_type,
                fixed_steps=steps is not None,
            )  # fmt: skip
        case "hyper" if own:
            scheduler = "tcd" if steps == 1 else "ddim"
            return Recipe(steps or 8, 0.0, scheduler, sizes, timestep_spacing="trailing", fixed_steps=steps is not None)
        case "lcm":
            return Recipe(steps or 4, 1.0, "lcm", sizes, steps_range=(2, 8), guidance_range=(0.0, 2.0))
        case "dmd2":
            return Recipe(steps or 4, 0.0, "lcm", sizes)
        case "tcd":
            return Recipe(steps or 4, 0.0, "tcd", sizes)
        case "lightning" | "hyper" | "turbo":
            # a fine-tune with a distillation in it: its makers ask for a few more steps and a little guidance
            return Recipe(
                steps or 6, 2.0 if hint.distilled == "turbo" else 1.5, "dpmpp_sde_karras", sizes,
                steps_range=(4, 8), guidance_range=(1.0, 2.0),
            )  # fmt: skip
    if hint.prediction_type == "v_prediction":
        zero = True if hint.zero_snr else None
        return Recipe(
            28, 5.0, "euler", sizes, guidance_rescale=0.7 if zero else 0.0, prediction_type="v_prediction",
            timestep_spacing="trailing" if zero else None, rescale_betas_zero_snr=zero,
        )  # fmt: skip
    if like is not None:
        return like
    if found.architecture in ("ssd-1b", "segmind-vega"):
        return Recipe(25, 9.0, "euler", sizes)
    return Recipe(30, 7.0, "euler", sizes, timestep_spacing="leading")


def slug(name: str, taken: Collection[str] = ()) -> str:
    """A name as an id that no other entry has."""
    plain = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:60].rstrip("-.") or "model"
    number = 2
    made = plain
    while made in taken:
        made, number = f"{plain}-{number}", number + 1
    return made


def quoted(text: str) -> str:
    """A TOML string. Raises CatalogueError for what no TOML file can hold, such as a file name that is no text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise CatalogueError(f"{shown(text)} is no name that a TOML file can hold", "rename the file") from e
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'


def _where(found: Identified, place: Place, key: str) -> list[str]:
    """The pairs that say where a file, a folder or a repository is."""
    pairs = []
    whole = found.header is None and not place.file
    if place.repo:
        pairs.append(f"repo = {quoted(place.repo)}")
        if not whole:
            pairs.append(f"{key} = {quoted(place.file)}")
            if found.sha256:
                pairs.append(f"sha256 = {quoted(found.sha256)}")
            if found.bytes:
                pairs.append(f"bytes = {found.bytes}")
    elif place.path is not None:
        pairs.append(f"{'folder' if whole else key} = {quoted(str(place.path.absolute()))}")
    if whole and found.variant:
        pairs.append(f"variant = {quoted(found.variant)}")
    return pairs


def _lines(recipe: Recipe) -> list[str]:
    """A recipe's TOML, without what is at its default."""
    usual = Recipe(1, 0.0, "", ())
    made = []
    for key in Recipe.__slots__:
        value = getattr(recipe, key)
        if key in ("num_inference_steps", "guidance_scale", "scheduler", "sizes") or value != getattr(usual, key):
            made.append(f"{key} = {_value(value)}")
    return made


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


# ── the user's file ─────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _alone(models_toml: Path) -> Iterator[None]:
    """Keeps other programs from changing the user's file meanwhile: what one of them added would be lost."""
    from filelock import FileLock, Timeout

    folder = folders.make(models_toml.parent)
    try:
        with FileLock(folder / f".{models_toml.name}.lock", timeout=10):
            yield
    except Timeout:
        raise StorageError(f"{models_toml} is being changed by another program", "try again") from None
    except OSError as e:
        told = f"{folder} can't be written: {e.strerror or e}"
        raise StorageError(told, "set SAFELIGHT_HOME to a folder of yours") from e


def append(models_toml: Path, text: str) -> None:
    """Adds entries to the user's file; all that stands there stays as it is.

    Raises:
        CatalogueError: the file can't be read as it is, or has an entry of that id and kind.
        StorageError, DiskFull: it can't be written; the older one is kept.
    """
    with _alone(models_toml):
        _append(models_toml, text)


def _append(models_toml: Path, text: str) -> None:
    place, old, document = _read(models_toml)
    added = tomllib.loads(text)
    for table in (table for tables_ in added.values() for table in tables_):
        try:
            tables.check_id(table["id"])
        except ValueError as e:
            raise CatalogueError(f"'{shown(table['id'])}' can't be an id: {e}", "choose another with --id") from None
    wanted = {**document}
    for kind, listed in added.items():
        here = document.get(kind, [])
        if not isinstance(here, list):
            raise CatalogueError(f"{place}: '{kind}' must be written as [[{kind}]]", "mend it by hand")
        ids = {table.get("id") for table in here if isinstance(table, dict)}
        if twice := [table["id"] for table in listed if table["id"] in ids]:
            raise CatalogueError(f"{place} has a {kind} {shown(twice[0])} already", "choose another id")
        wanted[kind] = [*here, *listed]
    end = "\r\n" if "\r\n" in old else "\n"
    front = f"{old.rstrip()}{end}{end}" if old.strip() else f"{_NEW}{end}"
    _replace(place, front + text.replace("\n", end), wanted, "added")


def listed(models_toml: Path) -> dict[str, tuple[str, ...]]:
    """The ids in the user's file, each with the KINDS that have it there, entries that the catalogue refuses among
    them; empty if the file isn't there or can't be read."""
    try:
        _, _, document = _read(models_toml)
    except CatalogueError:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for kind in KINDS:
        tables = document.get(kind)
        for table in tables if isinstance(tables, list) else ():
            if isinstance(table, dict) and isinstance(table.get("id"), str):
                found[table["id"]] = (*found.get(table["id"], ()), kind)
    return found


def drop(models_toml: Path, id: str, kind: str = "") -> None:
    """Takes exactly one entry out of the user's file, with the comment that stands right above it.

    Args:
        models_toml: the file.
        id: of the entry.
        kind: of KINDS; empty takes the first that has this id.

    Raises:
        CatalogueError: there is none, or the file is written so that it can't be taken out safely.
        StorageError, DiskFull: the file can't be written; the older one is kept.
    """
    with _alone(models_toml):
        _drop(models_toml, id, kind)


def _drop(models_toml: Path, id: str, kind: str) -> None:
    place, old, document = _read(models_toml)
    for its in (kind,) if kind else KINDS:
        listed = document.get(its)
        tables = listed if isinstance(listed, list) else []
        at = next((i for i, t in enumerate(tables) if isinstance(t, dict) and t.get("id") == id), None)
        if at is not None:
            break
    else:
        raise CatalogueError(f"{place} has no entry {shown(id)}", "safelight models list shows what there is")
    wanted = {**document, its: [*tables[:at], *tables[at + 1 :]]}
    if not wanted[its]:
        del wanted[its]
    lines = old.splitlines(keepends=True)
    heads = _heads(lines)
    mine = [i for i, head in enumerate(heads) if head[1] == its and head[2]]
    if at >= len(mine):
        raise CatalogueError(f"{place}: {shown(id)} is not written as [[{its}]]", "take it out by hand")
    begin = heads[mine[at]][0]
    after = next((n for n, name, _ in heads[mine[at] + 1 :] if not name.startswith(f"{its}.")), len(lines))
    end = after
    while end > begin + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    above = begin
    while above and lines[above - 1].lstrip().startswith("#"):
        above -= 1
    begin = above or begin  # a comment at the very top is the file's
    kept = lines[:begin]
    while kept and not kept[-1].strip():
        kept.pop()
    rest = lines[end:]
    if not kept:
        while rest and not rest[0].strip():
            del rest[0]
    _replace(place, "".join(kept + rest), wanted, "taken out")


def _heads(lines: list[str]) -> list[tuple[int, str, bool]]:
    """(line, name, whether [[name]]) of every table's head; what stands in strings and lists isn't taken for one."""
    found = []
    depth, inside = 0, ""
    token = re.compile(r"\\.|\"\"\"|'''|\"|'|#|[\[\]{}]")
    for number, line in enumerate(lines):
        head = re.match(r"\s*(\[\[?)\s*([\w.\-\"' ]+?)\s*\]\]?\s*(#.*)?$", line.rstrip("\r\n"))
        if head and not depth and not inside:
            found.append((number, re.sub(r"[\s\"']", "", head[2]), head[1] == "[["))
            continue
        at = 0
        while match := token.search(line, at):
            mark, at = match[0], match.end()
            if mark.startswith("\\"):
                at = match.end() if inside in ('"', '"""') else match.start() + 1
            elif inside:
                inside = "" if mark == inside else inside
                at = at if mark in (inside, "") or len(mark) < 3 or not inside else match.start() + 1
            elif mark == "#":
                break
            elif mark in "[{":
                depth += 1
            elif mark in "]}":
                depth -= 1
            else:
                inside = mark
        if inside in ("'", '"'):
            inside = ""  # such strings end with their line
    return found


def _read(models_toml: Path) -> tuple[Path, str, dict[str, Any]]:
    """(the file itself, its text, its contents); an empty one if it isn't there."""
    place = models_toml.resolve()  # a link stays a link
    try:
        if place.exists() and not place.is_file():  # a FIFO would be waited for without end
            raise CatalogueError(f"{place} is no file", "put a file there; nothing was changed")
        text = place.read_bytes().decode("utf-8")
        return place, text, tomllib.loads(text)
    except FileNotFoundError:
        return place, "", {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise CatalogueError(f"{place}: {shown(str(e))}", "mend it by hand first; nothing was changed") from e


def _replace(place: Path, text: str, wanted: dict[str, Any], what: str) -> None:
    """Writes the file if it says exactly what is wanted."""
    try:
        right = tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        right = False
    if not right:
        raise CatalogueError(f"{place} is written so that an entry can't be {what} safely", "change it by hand")
    files.replace(place, text.encode("utf-8"))
