"""The form in line mode: its fields by their words, set one at a time and told as lines. The form is a Draft."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.catalogue import Catalogue
from engines.errors import InvalidRequest, LoadError, SafelightError, near
from tui import draft as drafting
from tui import stack
from tui.clean import clean, one_line
from tui.draft import Draft


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form."""

    word: str
    "What it is called."
    name: str
    "What Draft calls it."
    takes: str
    "What may be typed, in words."
    empty: str = ""
    "What it is where nothing is typed; empty where the model's recipe says."


FIELDS = (
    Field("prompt", "prompt", "what to draw", "empty"),
    Field("negative", "negative_prompt", "what to stay away from", "none"),
    Field("model", "model", "a model's id; /models lists them", "the best that is here"),
    Field("steps", "steps", "a whole number"),
    Field("guidance", "guidance", "a number, 0 to 100; it acts above 1"),
    Field("rescale", "rescale", "a number, 0 to 1"),
    Field("scheduler", "scheduler", "a name; /models schedulers lists them"),
    Field("size", "size", "WIDTHxHEIGHT in pixels, or an aspect such as 3:2"),
    Field("seed", "seed", "a whole number, or random"),
    Field("count", "count", "how many pictures, with seeds one after another"),
    Field("batch", "batch", "how many pictures are drawn together", "1"),
    Field("score", "score", "yes, no, or a scorer's id; /models scorers lists them", "no"),
    Field("loras", "loras", "names with weights, pixel:0.8 glow:0.5; /models loras lists them", "none"),
    Field("vae", "vae", "an id; /models vaes lists them", "the model's own"),
    Field("precision", "precision", "auto, fp16, bf16, fp32 or fp8", "auto"),
    Field("init", "init", "a picture file to begin with, or a picture's number", "none"),
    Field("strength", "strength", "a number, 0 to 1: how much of that picture is drawn anew", str(drafting.STRENGTH)),
    Field("finish", "finish", "steps for every picture: hires x2 0.4, faces 0.8, upscale x4", "none"),
    Field("variation-strength", "variation_strength", "a number, 0 to 1", "0"),
    Field("variation-seed", "variation_seed", "a whole number; random if not given", "none"),
    Field("mix", "mix", "the ratio of a mixed model: 0.7, or 0.5,0.3,0.2", "the model's own"),
    Field("syntax", "syntax", "compel, or a1111 to have prompts translated", "compel"),
    Field("blank-negative", "blank_negative", "zeros, or empty for the encoded empty text", "as the settings say"),
    Field("override", "override", "yes to run what the model's recipe rules out", "no"),
)
"All of Draft's, in the order in which they are told."
ALWAYS = FIELDS[:10]
"Those that are told also where nothing is typed."


def chosen(typed: str, words: Sequence[str], what: str, plural: str) -> str:
    """The word that is meant: itself, or the one that begins like this; of several, that which all others begin with.

    Raises:
        InvalidRequest: none does, or several do.
    """
    name = typed.lower().replace("_", "-")
    found = [word for word in words if word.startswith(name)] if name else []
    for word in found:
        if word == name or all(other.startswith(word) for other in found):
            return word
    if found:
        raise InvalidRequest(f"'{one_line(typed, 40)}' may be {' or '.join(found)}", "write more of it")
    raise InvalidRequest(f"no {what} '{one_line(typed, 40)}'", near(name, words, plural))


def find(typed: str) -> Field:
    """The field of that word. Raises InvalidRequest."""
    word = chosen(typed, [field.word for field in FIELDS], "setting", "settings")
    return next(field for field in FIELDS if field.word == word)


def value(draft: Draft, field: Field) -> str:
    """What is typed into a field, as one text."""
    held = getattr(draft, field.name)
    return " ".join(held) if isinstance(held, tuple) else str(held)


def put(draft: Draft, field: Field, text: str) -> Draft:
    """The form with another value in a field, and without what goes with the one that was there."""
    text = clean(text).strip()
    match field.name:
        case "loras":
            return replace(draft, loras=tuple(filter(None, text.replace(",", " ").split())))
        case "seed" if text.lower() in ("", "random"):
            return replace(draft, seed="", variation_seed="", variation_strength="")
        case "negative_prompt":
            return replace(draft, negative_prompt=text, blank_negative="" if text else draft.blank_negative)
        case "model":
            return replace(draft, model=text, mix=draft.mix if text == draft.model else "")
        case "score" | "override" | "scheduler" | "precision" | "syntax" | "blank_negative":
            return replace(draft, **{field.name: text.lower()})  # type: ignore[arg-type]
        case "init" if text:
            return replace(draft, init=str(Path(text).expanduser().absolute()))
        case _:
            return replace(draft, **{field.name: text})  # type: ignore[arg-type]


def check(before: Draft, after: Draft, field: Field, catalogue: Catalogue) -> None:
    """Sees that a field's new value can be used; whether it is on this machine is asked when a picture is made.

    Raises:
        SafelightError: it can't. What is wrong with another field, and was before, is no reason.
    """
    if field.name == "init" and after.init and not Path(after.init).is_file():
        raise InvalidRequest(f"{after.init} is no file", "name a picture file to begin with")
    if field.name == "override" and after.override not in ("", "yes", "no"):
        raise InvalidRequest(f"override is yes or no, not '{one_line(after.override, 40)}'", "write yes or no")
    if field.name == "score" and after.score not in ("", "yes", "no"):
        catalogue.scorer(after.score)
    if field.name == "blank_negative" and after.blank_negative not in ("", "zeros", "empty"):
        raise InvalidRequest("a blank negative prompt is zeros or empty", "write one of the two")
    if (wrong := _wrong(after, catalogue)) is None:
        return
    about = getattr(wrong, "field", "")
    another = about != field.name and about in {f.name for f in FIELDS}
    if not another and (about == field.name or _wrong(before, catalogue) is None):
        raise wrong


def _wrong(draft: Draft, catalogue: Catalogue) -> SafelightError | None:
    try:
        drafting.read(stack.active(draft), catalogue, look=False)
    except LoadError:
        return None
    except SafelightError as e:
        return e
    return None


def notes(draft: Draft, catalogue: Catalogue) -> tuple[str, ...]:
    """What in the form has no effect or departs from the recipe, or why nothing can be made of it."""
    try:
        return drafting.read(stack.active(draft), catalogue, look=False).notes
    except SafelightError as e:
        return (e.message,)


def lines(draft: Draft, catalogue: Catalogue) -> list[str]:
    """The form: what is set and what the recipe says, a line a field; the rest in one line."""
    told = [line(draft, field, catalogue) for field in FIELDS if field in ALWAYS or value(draft, field)]
    rest = [field.word for field in FIELDS if field not in ALWAYS and not value(draft, field)]
    return [*told, f"not set: {', '.join(rest)}"] if rest else told


def line(draft: Draft, field: Field, catalogue: Catalogue) -> str:
    """'steps: 25, as the recipe says'."""
    if text := value(draft, field):
        return f"{field.word}: {text}"
    model = catalogue.models.get(draft.model)
    recipe = drafting.shortened(model.recipe) if model is not None else {}
    if field.name in recipe:
        plain = field.name in ("seed", "count")  # no recipe's
        return f"{field.word}: {recipe[field.name]}{'' if plain else ', as the recipe says'}"
    return f"{field.word}: {field.empty or 'as the recipe says'}"


def completions(begun: str, commands: Iterable[str], ids: Callable[[str], Sequence[str]]) -> list[str]:
    """Whole lines that a line may become: commands, and what their first word names.

    Args:
        begun: the line up to the cursor.
        commands: without their slashes.
        ids: command → what its first word may be.
    """
    if not begun.startswith("/"):
        return []
    command, space, word = begun[1:].partition(" ")
    if not space:
        return [f"/{name} " for name in commands if name.startswith(command)]
    return [f"/{command} {id} " for id in ids(command) if id.startswith(word)]
