"""The key table: every action once. Bindings, palette, footer and help screen are made from it.

Keys that a terminal multiplexer or flow control may swallow (ctrl+b, ctrl+a, ctrl+s, ctrl+q) are never the only way:
what quits is in the palette, too. Editing keys of the text fields are left alone, but for F6 and F7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from textual.binding import Binding, BindingType
from textual.keys import key_to_character

Scope: TypeAlias = Literal[
    "app",
    "workbench",
    "prompt",
    "weights",
    "loras",
    "queue",
    "history",
    "picture",
    "sweep",
    "board",
    "sheet",
    "contact",
    "closer",
    "list",
    "preferences",
]


@dataclass(frozen=True, slots=True)
class Action:
    """Something a key does."""

    id: str
    "What [keys] in settings.toml calls it."
    keys: str
    "Textual's names of the keys, separated by commas; the first is shown."
    title: str
    "A word or two, for footer and palette."
    help: str
    "One sentence for the help screen and the palette."
    scope: Scope = "workbench"
    "Where it works: everywhere, on the workbench, over it, in one pane, or in every list."
    footer: bool = False
    "Whether the footer shows it."
    display: str = ""
    "How the footer writes the key, if not as Textual does."
    runs: str = ""
    "Textual's action that it is, where that is another place's; else what `command` says."
    reads: bool = False
    "Whether it reads the form: letters that were typed before its key come first then, which its priority would pass."

    @property
    def command(self) -> str:
        """The name of the Textual action that it runs."""
        return self.id.replace("-", "_")


TABLE: tuple[Action, ...] = (
    Action("make", "ctrl+g", "make", "Make the picture; Enter in the prompt or a setting does the same.", footer=True),
    Action("cancel", "escape", "cancel", "Close what is open, else cancel what runs.", footer=True, display="esc"),
    Action("make-again", "ctrl+r", "again", "Make the picture again with a new seed.", footer=True),
    Action("lock-seed", "ctrl+l", "lock seed", "Keep the shown picture's seed in the form, or empty the field again."),
    Action("next-page", "ctrl+n", "page", "Show the next page, where the screen is too small for all.", footer=True),
    Action("go-prompt", "f2", "prompt", "Go to the prompt."),
    Action("go-model", "f3", "model", "Go to the model."),
    Action("go-settings", "f4", "settings", "Go to the settings."),
    Action("go-queue", "f6", "queue", "Go to the queue."),
    Action("go-history", "f7", "history", "Go to the history.", footer=True),
    Action("contact", "alt+semicolon,shift+f7", "contact sheet", "Look at all pictures that were made, side by side; "
           "find, rate and compare them."),
    Action("sweeps", "f8", "sweeps", "Look at sweeps: who is better, and every picture beside its neighbours."),
    Action("new-sweep", "alt+m", "new sweep", "Mark models and settings to compare, and make a picture of each.",
           reads=True),
    Action("copy-path", "ctrl+o", "copy path", "Copy the path of the shown picture to the clipboard."),
    Action("previous-draft", "alt+z", "previous draft", "Bring back the form as it was before settings were taken.",
           reads=True),
    Action("clear-form", "alt+n", "new draft", "Empty the form; the previous draft can be brought back.", reads=True),
    Action("cancel-all", "alt+x", "cancel all", "Cancel the running job and all that wait."),
    Action("live", "alt+i", "live", "Sketch every change at the same seed, and make the picture when the hands rest.",
           reads=True),
    Action("flip", "alt+r", "flip", "Show the picture before this one in its place, and back; what differs is told."),
    Action("beside", "alt+c", "side by side", "Show the picture before and this one side by side, with what differs."),
    Action("closer", "alt+j", "look closer", "Show the picture as large as the terminal: zoom, pan, flip to the one "
           "that it was made of."),
    Action("upscale", "f5", "upscale", "Enlarge the shown picture.", display="F5"),
    Action("faces", "f9", "mend faces", "Draw the faces of the shown picture anew."),
    Action("hires", "f12", "hires", "Make the shown picture twice as large and draw over it."),
    Action(
        "finish", "alt+full_stop", "finish", "Choose what is done to every picture when it is drawn.", display="alt+."
    ),
    Action("draw-over", "alt+q", "draw over", "Begin the next pictures with the shown one, at a strength."),
    Action("vary", "alt+y", "vary", "Make four pictures near the shown one, of noise a quarter of the way to others."),
    Action("guidance-series", "alt+s", "guidance series", "Make the picture at five guidances, all of one seed.",
           reads=True),
    Action("rescale-series", "alt+d", "rescale series", "Make the picture at five guidance rescales, all of one seed.",
           reads=True),
    Action("strip-next", "alt+right", "next of strip", "Show the next picture of what was varied, or of the series."),
    Action("strip-previous", "alt+left", "last of strip", "Show the picture before it in the strip."),
    Action("past-prompts", "alt+h", "earlier prompts", "Take an earlier picture's prompt; undo brings this one back."),
    Action("translate", "alt+t", "translate", "Translate the prompts from A1111's syntax into compel's.", reads=True),
    Action("syntax", "alt+u", "choose syntax", "Choose what the prompts are written in: compel's syntax or A1111's."),
    Action("snippet", "alt+k", "snippets", "Insert words from the library of styles, lights and negative prompts."),
    Action("weights", "alt+w", "weights", "Go to the sliders: weights, ratios, guidance and rescale."),
    Action("loras", "alt+l", "LoRAs", "Go to the stack of LoRAs; on it, or while there is none, add one."),
    Action("embedding", "alt+e", "embedding", "Insert the name of an embedding into the prompt."),
    Action("vae", "alt+v", "choose VAE", "Choose the VAE that decodes the picture."),
    Action("precision", "alt+p", "choose precision", "Choose the arithmetic of the denoiser."),
    Action("override", "alt+o", "override", "Allow steps and scheduler that the recipe rules out, or forbid them."),
    Action("fetch", "alt+g", "get", "Fetch the picked model, and what else is named, without making a picture."),
    Action("jump", "ctrl+space,ctrl+@,alt+slash", "jump", "Show a letter on every pane and field, to go there.",
           "app", display="^space"),
    Action("help", "f1,question_mark", "help", "Show all keys.", "app", footer=True, display="F1"),
    Action("command-palette", "ctrl+p", "palette", "Find any action by name.", "app", footer=True),
    Action("next-theme", "ctrl+t", "next theme", "Change to the next theme.", "app"),
    Action("preferences", "alt+comma", "preferences", "Change the settings: looks, engine, terminal, keys.", "app",
           display="alt+,"),
    Action("redraw", "shift+f5", "redraw", "Draw all of the screen anew, where something else wrote on "
           "it.", "app"),
    Action("suspend", "ctrl+z,ctrl+backslash", "suspend", "Go back to the shell, whose fg goes on; in a text ctrl+z "
           "takes back.", "app"),
    Action("quit", "ctrl+q", "quit", "Leave; the draft and the queue are kept.", "app", footer=True),
    Action("raise-weight", "ctrl+up,alt+up", "weight", "Raise the weight of the selection, or of the word at the "
           "cursor.", "prompt", footer=True, display="ctrl+↑↓"),
    Action("lower-weight", "ctrl+down,alt+down", "weight -", "Lower the weight of the selection, or of the word at the "
           "cursor.", "prompt"),
    Action("weight-more", "right,l", "more", "Move the slider up by a fine step.", "weights", footer=True, display="→"),
    Action("weight-less", "left,h", "less", "Move the slider down by a fine step.", "weights", footer=True,
           display="←"),
    Action("weight-much-more", "shift+right,L", "much more", "Move the slider up by a coarse step.", "weights"),
    Action("weight-much-less", "shift+left,H", "much less", "Move the slider down by a coarse step.", "weights"),
    Action("weight-mute", "space", "mute", "Set the slider to 0, or back to what it was.", "weights", footer=True),
    Action("weight-remove", "delete,x", "no weight", "Take the weight away; the words stay.", "weights", footer=True,
           display="x"),
    Action("lora-more", "right,l", "stronger", "Make the LoRA stronger by 0.05.", "loras", footer=True, display="→"),
    Action("lora-less", "left,h", "weaker", "Make the LoRA weaker by 0.05.", "loras", footer=True, display="←"),
    Action("lora-much-more", "shift+right,L", "much stronger", "Make the LoRA stronger by 0.25.", "loras"),
    Action("lora-much-less", "shift+left,H", "much weaker", "Make the LoRA weaker by 0.25.", "loras"),
    Action("lora-switch", "space", "on/off", "Switch the LoRA off, or on again with its weight.", "loras", footer=True),
    Action("lora-add", "enter,a,plus", "add", "Add a LoRA that fits the model.", "loras", footer=True, display="a"),
    Action("lora-remove", "delete,x", "remove", "Take the LoRA out of the stack.", "loras", footer=True, display="x"),
    Action("lora-words", "w", "words", "Write the words that the LoRA was trained with into the prompt.", "loras",
           footer=True),
    Action("cancel-job", "delete,x", "cancel job", "Cancel the job under the cursor, or dismiss a failed one.", "queue",
           footer=True, display="x"),
    Action("take-all", "enter", "take settings", "Take the picture's settings back into the form.", "history",
           footer=True, display="enter"),
    Action("take-prompt", "p", "prompt", "Take only the picture's prompt.", "history", footer=True),
    Action("take-seed", "s", "seed", "Take only the picture's seed.", "history", footer=True),
    Action("copy", "y", "copy path", "Copy the path of the picture under the cursor.", "history", footer=True),
    Action("finish-upscale", "u", "upscale", "Enlarge the picture under the cursor.", "history"),
    Action("finish-faces", "f", "mend faces", "Draw its faces anew.", "history"),
    Action("finish-hires", "h", "hires", "Make it twice as large and draw over it.", "history"),
    Action("look", "z", "look closer", "Show it as large as the terminal; there arrows pan and + zooms.", "history",
           footer=True, display="z", runs="screen.closer"),
    Action("sheet", "c", "contact sheet", "Look at all of them, side by side.", "history", runs="screen.contact"),
    Action("copy-prompt", "Y", "copy prompt", "Copy the prompt of the picture under the cursor.", "history"),
    Action("large", "enter,z,plus", "look closer", "Show it as large as the terminal: zoom, pan, flip.", "picture",
           footer=True, display="enter", runs="screen.closer"),
    Action("flicker", "space", "flip", "Show the picture before this one in its place, and back.", "picture",
           footer=True, runs="screen.flip"),
    Action("newer", "up,k", "newer", "Show the picture that was made after this one.", "picture", footer=True,
           display="↑↓", runs="screen.walk(-1)"),
    Action("older", "down,j", "older", "Show the picture that was made before this one.", "picture",
           runs="screen.walk(1)"),
    Action("along", "right,l", "along the strip", "Show the next picture of the strip.", "picture",
           runs="screen.strip_next"),
    Action("back", "left,h", "back", "Show the picture before it in the strip.", "picture",
           runs="screen.strip_previous"),
    Action("take", "t", "take settings", "Take its settings into the form.", "picture", footer=True,
           runs="screen.take_shown"),
    Action("copy-shown", "y", "copy path", "Copy its path.", "picture", runs="screen.copy_path"),
    Action("copy-words", "Y", "copy prompt", "Copy its prompt.", "picture", runs="screen.copy_words"),
    Action("close", "escape,f8,q", "close", "Close what is open, or leave the sweeps; they go on.", "sweep",
           footer=True, display="esc"),
    Action("next-pane", "tab", "next pane", "Go from the board to the pictures, and back.", "sweep", footer=True,
           display="tab"),
    Action("pause", "space", "pause/go on", "Pause the sweep, or make what is missing of it.", "sweep", footer=True),
    Action("next-scorer", "c", "scorer", "Rank by another scorer, where there are several.", "sweep", footer=True),
    Action("report", "w", "report", "Write a page about the sweep beside its pictures.", "sweep", footer=True),
    Action("other-sweep", "o", "other sweep", "Look at another sweep.", "sweep", footer=True),
    Action("another-sweep", "n", "new sweep", "Mark models and settings for a new one.", "sweep", footer=True),
    Action("sort", "s", "sort", "Sort by the next column.", "board", footer=True),
    Action("turn", "r", "turn", "Turn the order round.", "board", footer=True),
    Action("enter", "enter", "pictures", "Go to the pictures of the contender.", "board", footer=True,
           display="enter"),
    Action("zoom", "enter", "large", "Show the picture large, or all of them again; arrows flip to its neighbours.",
           "sheet", footer=True, display="enter"),
    Action("send", "t", "take settings", "Take the cell's settings into the form.", "sheet", footer=True),
    Action("copy-cell", "y", "copy path", "Copy the path of the picture.", "sheet", footer=True),
    Action("larger", "plus,equals_sign", "larger", "Show larger pictures on the sheet.", "sheet", footer=True,
           display="+"),
    Action("smaller", "minus", "smaller", "Show smaller pictures on the sheet.", "sheet"),
    Action("left", "left,h", "left", "Go to the picture on the left.", "sheet"),
    Action("right", "right,l", "right", "Go to the picture on the right.", "sheet"),
    Action("nearer", "plus,equals_sign", "closer", "Enlarge what is in the middle.", "closer", footer=True, display="+",
           runs="zoom(1)"),
    Action("farther", "minus,underscore", "farther", "Show more of the picture.", "closer", footer=True, display="-",
           runs="zoom(-1)"),
    Action("whole", "0", "all of it", "Show all of the picture.", "closer", footer=True),
    Action("true", "1", "pixel for pixel", "Show a pixel of the picture as a pixel of the terminal.", "closer",
           footer=True),
    Action("pan-left", "left,h", "pan left", "Go to what is left of it.", "closer", runs="pan(-1, 0)"),
    Action("pan-right", "right,l", "pan right", "Go to what is right of it.", "closer", runs="pan(1, 0)"),
    Action("pan-up", "up,k", "pan up", "Go to what is above it.", "closer", runs="pan(0, -1)"),
    Action("pan-down", "down,j", "pan down", "Go to what is below it.", "closer", runs="pan(0, 1)"),
    Action("blink", "space,tab,b", "flip", "Show what it was made of, in the same place, and back.", "closer",
           footer=True, runs="flip"),
    Action("leave-closer", "escape,q,enter", "close", "Go back.", "closer", footer=True, display="esc",
           runs="dismiss(None)"),
    Action("up", "up,k", "up", "Go up.", "list"),
    Action("down", "down,j", "down", "Go down.", "list"),
    Action("page-up", "pageup,ctrl+u", "page up", "Go up by what is in sight.", "list"),
    Action("page-down", "pagedown,ctrl+d", "page down", "Go down by what is in sight.", "list"),
    Action("row-start", "home", "start", "Go to the first; where rows have columns, the first of the row.", "list"),
    Action("row-end", "end", "end", "Go to the last; where rows have columns, the last of the row.", "list"),
    Action("first", "ctrl+home,g", "first", "Go to the very first.", "list"),
    Action("last", "ctrl+end,G", "last", "Go to the very last.", "list"),
    Action("edit-setting", "enter", "change", "Change the setting, or the key, under the cursor.", "preferences",
           footer=True, display="enter"),
    Action("step-setting", "space", "switch", "Switch it on or off, or take the next of its choices.", "preferences",
           footer=True),
    Action("reset-setting", "delete,x", "default", "Go back to its default.", "preferences", footer=True, display="x"),
    Action("find-setting", "slash", "find", "Show only what has the words that are typed.", "preferences", footer=True,
           display="/"),
    Action("open-settings", "e", "edit file", "Open settings.toml in the editor that $EDITOR names.", "preferences",
           footer=True),
    Action("leave-settings", "escape,q", "close", "Show all again, or go back to where one came from.", "preferences",
           footer=True, display="esc"),
    Action("contact-show", "enter", "show", "Show the picture in the workbench.", "contact", footer=True,
           display="enter"),
    Action("contact-close", "escape,q,alt+semicolon", "close", "Close the line of words, or go back to the workbench.",
           "contact", footer=True, display="esc"),
    Action("contact-find", "slash", "find", "Show only pictures whose prompt or model has these words.", "contact",
           footer=True, display="/"),
    Action("contact-sort", "s", "sort", "Sort by time, by score, by stars.", "contact", footer=True),
    Action("contact-mark", "m", "mark", "Mark the picture, or unmark it.", "contact", footer=True),
    Action("contact-compare", "c", "compare", "Flip through the marked pictures in one place; a single one beside the "
           "cursor's.", "contact", footer=True),
    Action("contact-closer", "space,z", "look closer", "Show it as large as the terminal; space flips to what "
           "it was made of.", "contact", footer=True),
    Action("contact-take", "t", "take settings", "Take its settings into the form.", "contact", footer=True),
    Action("contact-copy", "y", "copy path", "Copy its path.", "contact", footer=True),
    Action("contact-larger", "plus,equals_sign", "larger", "Show larger pictures.", "contact", footer=True,
           display="+"),
    Action("contact-smaller", "minus", "smaller", "Show smaller pictures, more of them.", "contact", footer=True,
           display="-"),
    Action("contact-unmark", "M", "unmark all", "Take all marks away.", "contact"),
    Action("contact-upscale", "u,f5", "upscale", "Enlarge it.", "contact"),
    Action("contact-faces", "f,f9", "mend faces", "Draw its faces anew.", "contact"),
    Action("contact-hires", "H,f12", "hires", "Make it twice as large and draw over it.", "contact"),
)  # fmt: skip

FIRST = ("quit", "blink", "leave-closer")
"Comes before what else its keys would do."

BY_ID: dict[str, Action] = {action.id: action for action in TABLE}

PLACES: dict[Scope, str] = {
    "workbench": "On the workbench",
    "prompt": "In the prompts",
    "weights": "On the sliders",
    "loras": "In the stack of LoRAs",
    "queue": "In the queue",
    "history": "In the history",
    "picture": "On the picture",
    "sweep": "Over sweeps",
    "board": "On their board",
    "sheet": "On their pictures",
    "preferences": "In the preferences",
    "contact": "On the contact sheet",
    "closer": "In the close look",
    "list": "In every list",
    "app": "Everywhere",
}
"What the scopes are called."

PANES: dict[Scope, str] = {
    "prompt": "#prompt",
    "weights": "#weights",
    "loras": "#loras",
    "queue": "#queue",
    "history": "#history",
    "picture": "#centre",
    "board": "#board",
    "sheet": "#pictures",
    "preferences": "#preference-list",
}
"Selectors of what has the keys of a scope."

EDITING: tuple[tuple[str, str], ...] = (
    ("enter", "make the picture"),
    ("ctrl+j", "a new line in the prompt"),
    ("tab, shift+tab", "next and previous field"),
    ("ctrl+z, ctrl+y", "undo and redo in the prompt"),
    ("alt+a", "select all of the prompt"),
    ("alt+b, alt+f", "a word left and right; ctrl+← → too"),
    ("↑ ↓", "in a setting: the next or previous value"),
    ("enter, then type", "on the model or the scheduler: open the list and find in it"),
    ("1 … 5", "on pictures of the history, of a sweep, of the contact sheet: stars by hand; 0 takes them back"),
    ("0 … 9", "on a slider or a LoRA: its value; 0 alone resets it"),
)
"What the help screen says about typing; the text fields bring these keys themselves."


def bindings(scope: Scope) -> list[BindingType]:
    """The bindings of one place. Function keys come first everywhere, for the text editor has its own F6 and F7, and so
    do those with Alt, of which it would type the letter. Alt with a digit is none: Textual reads it as a character."""
    return [
        Binding(
            key,
            action.runs or (f"after('{action.command}')" if action.reads else action.command),
            action.title,
            show=action.footer and first,
            key_display=action.display or (key.upper() if _is_function_key(key) else None),
            priority=_is_function_key(key) or key.startswith("alt+") or action.id in FIRST,
            tooltip=action.help,
            id=action.id,
        )
        for action in TABLE
        if action.scope == scope
        for first, key in ((i == 0, key) for i, key in enumerate(action.keys.split(",")))
    ]


def moves(**does: str) -> list[BindingType]:
    """The bindings of a list: by its id what each way of moving does there, with `_` for `-`; what is not named does
    nothing there."""
    return [
        Binding(action.keys, does[action.command], action.title, show=False, id=action.id)
        for action in TABLE
        if action.scope == "list" and action.command in does
    ]


def list_moves() -> list[BindingType]:
    """The same for a list of rows whose `move` takes how many rows down, and `page` how many screenfuls."""
    first, last = "move(-1000000000)", "move(1000000000)"
    return moves(
        up="move(-1)", down="move(1)", page_up="page(-1)", page_down="page(1)",
        row_start=first, row_end=last, first=first, last=last,
    )  # fmt: skip


def keymap(overrides: Iterable[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
    """The overrides that can be used, by action id, and a line for each that can't."""
    chosen: dict[str, str] = {}
    problems: list[str] = []
    for id, keys in overrides:
        wanted = [key.strip() for key in keys.split(",") if key.strip()]
        if id not in BY_ID:
            meant = next((a.id for a in TABLE if a.title == id.replace("-", " ")), "")
            hint = f"; did you mean '{meant}'?" if meant else ""
            problems.append(f"keys: there is no action '{id}'{hint}")
        elif not wanted:
            problems.append(f"keys: {id} needs a key")
        else:
            chosen[id] = ",".join(wanted)
    # all at once, so that their order doesn't matter and two may be exchanged; of two that clash the later one goes
    while clash := next(((id, t) for id in reversed(chosen) if (t := _taken(id, chosen))), None):
        id, (key, other) = clash
        problems.append(f"keys: {id} can't have {key}: it is the key of {other}")
        del chosen[id]
    return chosen, problems


SCREENS: tuple[frozenset[Scope], ...] = (
    frozenset({"workbench", "prompt", "weights", "loras", "queue", "history", "picture"}),
    frozenset({"sweep", "board", "sheet"}),
    frozenset({"preferences"}),
    frozenset({"contact"}),
    frozenset({"closer"}),
)
"The scopes of each screen."


def together(one: Scope, other: Scope) -> bool:
    """Whether keys of both scopes may be meant at the same moment."""
    if one == other or "app" in (one, other):
        return True
    if "list" in (one, other):
        return not {one, other} & {"prompt", "picture", "closer"}
    screen = next((screen for screen in SCREENS if {one, other} <= screen), frozenset())
    return bool({"workbench", "sweep"} & {one, other} & screen)


def _taken(id: str, chosen: Mapping[str, str]) -> tuple[str, str] | None:
    """A key of an action and the other one that has it, where both could be meant."""
    action, wanted = BY_ID[id], chosen[id].split(",")
    for other in TABLE:
        if other is action or not together(other.scope, action.scope):
            continue
        for key in chosen.get(other.id, other.keys).split(","):
            if key in wanted:
                return key, other.id
    return None


def shown(action: Action, keymap: Mapping[str, str]) -> str:
    """The keys of an action in words, overrides applied: 'ctrl+g', 'delete or x'."""
    keys = keymap.get(action.id, action.keys).split(",")
    return " or ".join(word(key) for key in keys)


def first(id: str, keymap: Mapping[str, str]) -> str:
    """The first key of an action in words."""
    return shown(BY_ID[id], keymap).split(" or ")[0]


_SIGNS = {"plus": "+", "minus": "-", "slash": "/"}
_WORDS = {"escape": "esc", "left": "←", "right": "→", "up": "↑", "down": "↓"}
_WORDS |= {f"{mod}+{way}": f"{mod}+{arrow}" for mod in ("shift", "ctrl", "alt")
           for way, arrow in (("left", "←"), ("right", "→"), ("up", "↑"), ("down", "↓"))}  # fmt: skip


def word(key: str) -> str:
    """A key as it is written for people."""
    if _is_function_key(key):
        return key.upper()
    before, plus, last = key.rpartition("+")
    sign = _SIGNS.get(last) or key_to_character(last) or ""  # 'alt+full_stop' is written alt+.
    return _WORDS.get(key, f"{before}{plus}{sign}" if sign.isprintable() and sign.strip() else key)


def _is_function_key(key: str) -> bool:
    return key.startswith("f") and key[1:].isdigit()
