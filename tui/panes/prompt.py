"""The text editors of prompt and negative prompt: Enter makes the picture, weighted parts are tinted."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Offset
from textual.message import Message
from textual.widgets import TextArea
from textual.widgets.text_area import Selection

from engines import editing
from engines import prompt as prompts
from engines.editing import Edit
from engines.requests import MAX_PROMPT
from tui import cells, completing, keys
from tui.clean import clean
from tui.completing import Wish
from tui.messages import DraftChanged, MakeRequested
from tui.names import NameList
from tui.offers import Offer
from tui.tinting import marks, tints
from tui.wording import plural

MOVES = {"up": -1, "down": 1}
"Keys that go through the list of names while it is open."
MAX_PASTE = MAX_PROMPT
"Characters of one paste: no prompt takes more, and a megabyte would cost the editor 6 s, and then 10 s a key."


class PromptEditor(TextArea):
    """A soft-wrapping editor: Tab moves on, or takes the name that is offered; Enter makes the picture, ctrl+j begins a
    new line."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "prompt--strong", "prompt--stronger", "prompt--weak", "prompt--off", "prompt--problem", "prompt--later",
        "prompt--border",
    }  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        *keys.bindings("prompt"),
        Binding("ctrl+j,shift+enter,alt+enter", "new_line", "new line", show=False, priority=True),
        Binding("alt+a", "select_all", "select all", show=False, priority=True),
        Binding("alt+b", "cursor_word_left", "word left", show=False, priority=True),
        Binding("alt+f", "cursor_word_right", "word right", show=False, priority=True),
    ]

    def __init__(self, title: str, placeholder: str, signs: bool = False, *, id: str) -> None:
        super().__init__(
            id=id, soft_wrap=True, show_line_numbers=False, tab_behavior="focus", compact=True,
            highlight_cursor_line=False, placeholder=placeholder,
        )  # fmt: skip
        self._title = title
        self.border_title = title
        self.cursor_blink = False  # every blink would be sent over the wire
        self._told = ""
        self._length = ""
        self.foreign = ""
        "Why the keys for weights do nothing, if the text is in a dialect that they can't write."
        self._borders: tuple[int, ...] = ()
        self.signs = signs
        "Whether the keys for weights write + and - instead of numbers."

        self._typing = False
        "Whether the next change of the text was typed."
        self.wish: Wish | None = None
        "The name at the cursor for which the list is open."
        self._chose = False
        "Whether an arrow went into the list."
        self.names: NameList | None = None
        "The list; none until the screen has one."
        self.unnamed: frozenset[completing.Kind] = frozenset()
        "What is not named in this prompt."
        self.idle = ""
        "Why the whole prompt has no effect; told in the title."
        self.namer: Callable[[Wish], list[Offer]] = lambda wish: []
        "What can be taken for a wish, without waiting for anything."

    class FilesWanted(Message):
        """A wildcard is being typed: whoever lists the files may do so, and call `look_again`."""

        def __init__(self, editor: PromptEditor) -> None:
            super().__init__()
            self.editor = editor

    def show(self, text: str) -> None:
        """Replaces the text, in one step that undo takes back."""
        if text != self.text:
            self.close_names()
            self._told = text
            self.history.checkpoint()
            self.replace(text, (0, 0), self.document.end)
            self.history.checkpoint()
            self.move_cursor(self.document.end)

    def put_in(self, words: str) -> None:
        """Writes words at the cursor, set apart from their neighbours, in one step that undo takes back."""
        start, end = self.selection
        first, last = min(start, end), max(start, end)
        before, after = self.get_text_range((0, 0), first)[-1:], self.get_text_range(last, self.document.end)[:1]
        left = " " if before.strip() and before != "(" else ""
        right = " " if after.strip() and after not in ",.;:)+-" else ""
        self.history.checkpoint()
        if result := self._replace_via_keyboard(left + words + right, start, end):
            self.move_cursor(result.end_location)
        self.history.checkpoint()

    def take(self, text: str) -> None:
        """Another text, as if it had been typed, in one step that undo takes back."""
        self.history.checkpoint()
        if result := self._replace_via_keyboard(text, (0, 0), self.document.end):
            self.move_cursor(result.end_location)
        self.history.checkpoint()

    def add_phrase(self, words: str) -> None:
        """Writes words at the cursor, parted by commas from what stands around them."""
        start, end = self.selection
        first, last = min(start, end), max(start, end)
        before, after = self.get_text_range((0, 0), first), self.get_text_range(last, self.document.end).lstrip()
        stands = before.rstrip()
        front = " " if stands and before == stands else ""
        if stands and stands[-1] not in ",(":
            front = ", "
            first = self._location(len(stands))  # a comma stands close to the word before it
        behind = "" if not after or after[0] in ",.;)" else ", "
        self.history.checkpoint()
        if result := self._replace_via_keyboard(front + words + behind, first, last):
            self.move_cursor(result.end_location)
        self.history.checkpoint()

    def edit_text(self, edit: Edit) -> None:
        """Changes one stretch of the text; cursor and selection stay beside the same words, and undo takes it back."""
        self._put_edit(edit, *(edit.moved(self._place(end)) for end in self.selection))

    def _put_edit(self, edit: Edit, start: int, end: int) -> None:
        self.history.checkpoint()
        first, last = (self._location(place) for place in edit.span)
        self.replace(edit.text, first, last, maintain_selection_offset=False)
        self.selection = Selection(self._location(start), self._location(end))
        self.history.checkpoint()

    @property
    def place(self) -> int:
        """Where in the text the cursor is."""
        return self._place(self.selection.end)

    def _place(self, location: tuple[int, int]) -> int:
        """A (line, column) as a place in the text."""
        row, column = location
        return sum(len(line) + 1 for line in self.text.split("\n")[:row]) + column

    def _location(self, place: int) -> tuple[int, int]:
        before = self.text[:place]
        return before.count("\n"), place - (before.rfind("\n") + 1)

    def action_raise_weight(self) -> None:
        """One step up."""
        self._nudge(1)

    def action_lower_weight(self) -> None:
        """One step down."""
        self._nudge(-1)

    def _nudge(self, by: int) -> None:
        if self.foreign:
            self.notify(self.foreign, timeout=4, markup=False)
            return
        first, last = (self._place(end) for end in self.selection)
        start, end = min(first, last), max(first, last)
        prompt = prompts.parse(self.text)
        found = editing.target(prompt, start, end)
        edit = editing.nudge(prompt, start, end, by, self.signs)
        if edit is None:
            self.notify("put the cursor on a word, or select some", timeout=3, markup=False)
            return
        if start == end or found is None:
            self.edit_text(edit)
            return
        # what was selected stays selected, so that the key can be pressed again; with its weight, which is one thing
        inside = edit.text.strip()
        begin = edit.span[0] + edit.text.index(inside)
        self._put_edit(edit, begin, begin + len(inside))

    def action_new_line(self) -> None:
        """Begins a new line at the cursor."""
        start, end = self.selection
        self._replace_via_keyboard("\n", start, end)

    async def _on_key(self, event: events.Key) -> None:
        """Enter is not for the editor; Textual calls its handler after this one for all other keys."""
        self._typing = event.is_printable or event.key == "backspace"
        if self.wish is not None and self._for_list(event.key):
            event.stop()
            event.prevent_default()
        elif event.key == "enter":
            event.stop()
            event.prevent_default()
            self.close_names()
            self.post_message(MakeRequested())
        elif not event.is_printable and (action := self._own(event.key)):
            # at once, where Textual would let it bubble: letters typed behind it would be in the text first
            event.stop()
            event.prevent_default()
            await self.run_action(action)

    def _own(self, key: str) -> str:
        """What a key does in the editor itself; empty if nothing."""
        active = self.screen.active_bindings.get(key)
        return active.binding.action if active is not None and active.node is self and active.enabled else ""

    # ── names ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _for_list(self, key: str) -> bool:
        """Whether the open list has taken this key. Enter makes the picture until an arrow went into the list.

        What is taken is what is offered for the text as it is now: letters may have come since the list was drawn.
        """
        if key in MOVES and self.names is not None:
            self._chose = True
            self.names.move(MOVES[key])
            return True
        if key == "escape":
            self.close_names()
            return True
        if key == "tab" or (key == "enter" and self._chose):
            return self.take_name()
        return False

    def take_name(self) -> bool:
        """Writes the chosen name in place of what is typed of it, in one step for undo; whether there was any."""
        wish = completing.wish(self.text, self.place)
        offers = self.namer(wish) if wish is not None else []
        chosen = self.names.chosen if self.names is not None else None
        self.close_names()
        if wish is None or not offers:
            return False
        taken = next((o for o in offers if chosen is not None and o.title == chosen.title), offers[0])
        start, end = wish.span
        self.edit_text(Edit((start, end), taken.value))
        self.move_cursor(self._location(start + len(taken.value)))
        self.post_message(self.Named(self, taken.title))
        return True

    class Named(Message):
        """A name was taken from the list."""

        def __init__(self, editor: PromptEditor, name: str) -> None:
            super().__init__()
            self.editor = editor
            self.name = name

    def look_again(self, opening: bool = True) -> None:
        """Shows what can be taken for what is typed at the cursor; nothing, where no name is.

        Args:
            opening: whether a list may open where none is.
        """
        wish = completing.wish(self.text, self.place) if self.selection.is_empty and self.has_focus else None
        if wish is None or wish.kind in self.unnamed or (self.wish is None and not opening):
            self.close_names()
            return
        if wish.kind == "wildcard" and (self.wish is None or self.wish.kind != wish.kind):
            self.post_message(self.FilesWanted(self))
        offers = self.namer(wish)
        if self.names is None or not offers:
            self.close_names()
            return
        if self.wish is None or not self._chose:
            self._chose = False
            self.names.open(offers, self.cursor_screen_offset - Offset(cells.width(wish.typed), 0))
        else:
            self.names.show(offers)  # the cursor stays on its name
        self.wish = wish

    def close_names(self) -> None:
        """No list any more."""
        if self.wish is not None and self.names is not None:
            self.names.close()
        self.wish, self._chose = None, False

    def on_text_area_selection_changed(self, event: TextArea.SelectionChanged) -> None:
        """A cursor that leaves the name closes its list."""
        event.stop()
        if self.wish is not None and completing.wish(self.text, self.place) != self.wish:
            self.look_again(opening=False)

    def on_blur(self) -> None:
        """So does a focus that goes elsewhere."""
        self.close_names()

    def on_resize(self, event: events.Resize) -> None:
        """The cursor stays in sight when messages or sliders take room, and the list with it."""
        self.call_after_refresh(self._see)

    def _see(self) -> None:
        self.scroll_cursor_visible()
        if self.wish is not None:
            self.look_again(opening=False)

    async def _on_paste(self, event: events.Paste) -> None:
        """Takes a paste of bearable size, cleaned, as one step."""
        event.stop()
        event.prevent_default()
        raw = event.text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", errors="ignore")
        whole = clean(raw.decode("utf-8"))
        text = whole[:MAX_PASTE]
        if gone := len(raw.decode("utf-8")) - len(whole):
            told = f"{plural(gone, 'control character')} of what was pasted left out: a terminal would obey them"
            self.notify(told, severity="warning", markup=False)
        if len(whole) > MAX_PASTE:
            told = f"only the first {MAX_PASTE:,} characters of {len(whole):,} were pasted; no prompt takes more"
            self.notify(told, severity="warning", markup=False)
        self.history.checkpoint()
        if result := self._replace_via_keyboard(text, *self.selection):
            self.move_cursor(result.end_location)
        self.history.checkpoint()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Tells of what was typed, not of what was shown."""
        event.stop()
        typing, self._typing = self._typing, False
        if self.text != self._told:
            self._told = self.text
            self.post_message(DraftChanged())
            if typing:
                self.look_again()
            else:
                self.close_names()

    def notify_style_update(self) -> None:
        """Another theme has other tints."""
        super().notify_style_update()
        if self.is_attached:
            self._build_highlight_map()

    def _build_highlight_map(self) -> None:
        """Called by TextArea after every edit; fills `_highlights` with (first byte, end byte, style) by line."""
        self._line_cache.clear()
        self._highlights.clear()
        text = self.text
        if not text or not self.is_attached or self._theme is None:
            return
        self._theme.syntax_styles = {
            name: self.get_component_rich_style(name, partial=True) for name in self.COMPONENT_CLASSES
        }
        for row, start, end, name in [*tints(text), *marks(text, self._borders)]:
            self._highlights[row].append((start, end, name))

    def show_idle(self, why: str) -> None:
        """Why it has no effect; empty if it has."""
        if why != self.idle:
            self.idle = why
            self._entitle()

    def _entitle(self) -> None:
        self.border_title = Content(" · ".join(filter(None, (self._title, self.idle, self._length))))

    def show_length(self, told: str, borders: tuple[int, ...]) -> None:
        """How long the text is, and where in it what is encoded apart begins."""
        self._length = told
        self._entitle()
        if borders != self._borders:
            self._borders = borders
            self._build_highlight_map()
            self.refresh()
