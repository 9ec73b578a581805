"""What the preferences list: a row for every setting and for every key, under the names of their groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from textual.keys import key_to_character
from textual.widgets import Input, TextArea

from tui import keys
from tui.settings import GROUPS, OPTIONS, Option, Refused
from tui.wishes import Wishes

EMPTY = "(empty)"
REFUSED = "✗ refused"
"Stands in place of an origin."
MOVING = frozenset({"up", "down", "pageup", "pagedown", "home", "end"})
"Keys that every list is moved by."
LEAVING = frozenset({"tab", "shift+tab", "escape"})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list."""

    id: str
    "A setting's name, 'keys.' and an action's id, or empty for the name of a group."
    title: str
    "What stands at the left."
    value: str = ""
    "What it is."
    origin: str = ""
    "Where that comes from."
    sentence: str = ""
    "What it decides."
    more: str = ""
    "Its default, what it takes, and when it acts."
    waits: bool = False
    "Whether it acts at the next start only, and is another until then."
    refused: bool = False
    "Whether the file has something for it that can't be; `more` begins with that."

    def has(self, words: Sequence[str]) -> bool:
        """Whether all words, in small letters, are found in it."""
        text = f"{self.id} {self.title} {self.value} {self.origin} {self.sentence}".lower()
        return all(word in text for word in words)


def rows(
    wishes: Wishes, keymap: Mapping[str, str], text: str = "", known: Mapping[str, Collection[str]] | None = None
) -> list[Row]:
    """All that has the words of a text, each group under its name; groups that nothing is left of are left out.

    Args:
        wishes: the settings.
        keymap: the keys in force.
        text: what is looked for.
        known: what there is of settings that name something, such as themes.
    """
    known = known or {}
    groups = [
        (group, [_setting(o, wishes, known.get(o.name)) for o in OPTIONS if o.group == group]) for group in GROUPS
    ]
    refused = _refused_keys(wishes)
    given = dict(wishes.now.keys)
    for scope, place in keys.PLACES.items():
        actions = [action for action in keys.TABLE if action.scope == scope]
        groups.append(
            (
                f"Keys · {place[0].lower()}{place[1:]}",
                [_key(a, keymap, a.id in given, refused.get(a.id)) for a in actions],
            )
        )
    words = text.lower().split()
    found: list[Row] = []
    for title, under in groups:
        named = [row for row in under if row.has(words) or (words and Row("", title).has(words))]
        found += [Row("", title), *named] if named else []
    return found


def shown(option: Option, value: object) -> str:
    """A value as the list shows it."""
    return ("on" if value else "off") if isinstance(value, bool) else option.text(value) or EMPTY  # type: ignore[arg-type]


def _setting(option: Option, wishes: Wishes, known: Collection[str] | None) -> Row:
    waits = wishes.waits(option)
    value, origin = wishes.value(option), wishes.origin(option)
    told: str = origin
    wrong = wishes.refused(option.name)
    if known is not None and origin == "file" and value and value not in known:
        wrong, value, waits = Refused(f'"{value}"', "there is none of this name"), option.default, False
    acts = "acts at once" if option.at_once else "acts at the next start"
    takes = f"{option.takes} · " if option.choices or option.least is not None else ""
    more = f"{takes}default {shown(option, option.default)} · {acts}"
    if wrong is not None:
        holds = f"the default, {shown(option, option.default)}, holds" + " from the next start on" * waits
        outside = origin in ("environment", "command line")
        told = origin if outside else REFUSED
        more = _instead(wrong, "" if outside else holds)
    if origin == "environment":
        more = f"{option.variable} comes before the file · {more}"
    elif origin == "command line":
        more = f"the command line comes before the file · {more}"
    return Row(
        option.name, option.name, shown(option, value), told, option.sentence, more, waits, wrong is not None
    )  # fmt: skip


def _key(action: keys.Action, keymap: Mapping[str, str], given: bool, wrong: Refused | None) -> Row:
    default = keys.shown(action, {})
    more = f"default {default} · acts at once" if wrong is None else _instead(wrong, f"the default, {default}, holds")
    origin = REFUSED if wrong is not None else "file" if given else "default"
    return Row(
        f"keys.{action.id}", action.id, keys.shown(action, keymap), origin, action.help, more, refused=wrong is not None
    )  # fmt: skip


def _instead(wrong: Refused, holds: str) -> str:
    """What the file has, and why something else holds."""
    return " · ".join(filter(None, (f"✗ the file has {wrong.found}: {wrong.why}", holds)))


def _refused_keys(wishes: Wishes) -> dict[str, Refused]:
    """The keys of the file that can't be, by the ids of their actions."""
    chosen, problems = keys.keymap(wishes.now.keys)
    found = {action.id: wrong for action in keys.TABLE if (wrong := wishes.refused(f"keys.{action.id}"))}
    for id, key in wishes.now.keys:
        why = next((line for line in problems if line.startswith(f"keys: {id} ")), "")
        if id not in chosen and why:
            found[id] = Refused(f'"{key}"', f"it {why.removeprefix(f'keys: {id} ')}")
    return found


def refused(action: keys.Action, key: str) -> str:
    """Why a key can't be an action's, whatever else it is used for; empty if it can."""
    if key in action.keys.split(","):
        return ""
    if key in LEAVING:
        return "it goes from field to field, or leaves"
    if action.scope in ("app", "workbench", "prompt"):
        if key_to_character(key) is not None:
            return "it is text in the prompt"
        if key in ("enter", "space") or key in _editing():
            return "the text fields have it"
    elif key in MOVING:
        return "the list is moved by it"
    return ""


def _editing() -> frozenset[str]:
    bindings = (binding for widget in (TextArea, Input) for binding in widget.BINDINGS)
    found = {key for binding in bindings for key in getattr(binding, "key", "").split(",")}
    return frozenset(found - {"f6", "f7"})
