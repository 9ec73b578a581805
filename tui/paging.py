"""Which columns are seen at which size: a screen of three pages, shown side by side where there is room.

The stylesheet decides by the screen's classes; here they are set, and the focus is kept where it can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual import events, on
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget

from tui.messages import Page, PageRequested
from tui.panes.tabs import Tabs

COLUMNS: dict[Page, str] = {"form": "form", "picture": "middle", "history": "side"}
"Pages and the ids of their columns."
WIDTHS = [(0, "-tiny"), (40, "-narrow"), (60, "-medium"), (132, "-wide"), (190, "-vast")]
HEIGHTS = [(0, "-flat"), (10, "-short"), (36, "-tall")]
"From how many cells on the stylesheet's classes hold."


class PagedScreen(Screen[None]):
    """Turns pages. Whoever builds on it yields a `Tabs` and the columns, and says where each page begins."""

    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS

    _page: Page = "form"
    _shown = False
    "Whether it was shown before."
    _styled = False
    "Whether all of it is styled already when Textual is about to style it."

    def fit(self, size: Size) -> None:
        """The classes of a size and of the first page, before anything is mounted; later Textual sets them.

        Else what is mounted is styled for another size first, and again.
        """
        self.update_classes({f"-page-{self._page}": True}, update=False)
        for length, points in ((size.width, WIDTHS), (size.height, HEIGHTS)):
            name = [name for least, name in points if length >= least][-1]
            self.update_classes({one: one == name for _, one in points}, update=False)

    def update_node_styles(self, animate: bool = True) -> None:
        """As in Textual, but not for what was mounted just now, which is styled."""
        styled, self._styled = self._styled, False
        if not styled:
            super().update_node_styles(animate)

    def on_screen_resume(self) -> None:
        """After this Textual's own handler styles all of a screen, also one that comes up for the first time."""
        self._styled, self._shown = not self._shown, True

    def first_of(self, page: Page) -> Widget:
        """What gets the focus when a page is turned to."""
        raise NotImplementedError

    @property
    def single(self) -> bool:
        """Whether there is room for one column only."""
        return self.has_class("-narrow")

    @property
    def roomy(self) -> bool:
        """Whether all columns are seen at once."""
        return self.has_class("-wide") or self.has_class("-vast")

    @property
    def pages(self) -> tuple[Page, ...]:
        """Between two columns and more, the picture is always there and no page of its own."""
        return ("form", "picture", "history") if self.single else ("form", "history")

    @property
    def beyond(self) -> Sequence[tuple[str, str]]:
        """What may be on a page that is not shown: its name, and the action that goes there."""
        return ()

    def show_page(self, page: Page) -> None:
        """Makes a page the shown one; on a wide screen that changes nothing to be seen, and what is always there turns
        no page."""
        if page not in self.pages and self.has_class("-medium"):
            page = self._page
        self._page = page
        if not self.has_class(f"-page-{page}"):  # else every move of the focus would style the whole screen anew
            self.update_classes({f"-page-{name}": name == page for name in COLUMNS}, animate=False)
        self.query_one(Tabs).show(self.pages, page if page in self.pages else "form")

    def go(self, page: Page, widget: Widget | None = None) -> None:
        """Shows a page and moves the focus into it: at once, for the next key may be on its way already."""
        self.set_focus(widget or self.first_of(page))
        self.show_page(page)

    def go_to(self, widget: Widget) -> None:
        """Shows the page that a widget is on, and moves the focus to it."""
        ids = {node.id for node in widget.ancestors_with_self}
        page = next((page for page, column in COLUMNS.items() if column in ids), self._page)
        widget.display = True  # what is not shown can't have the focus
        self.go(page, widget)

    def action_next_page(self) -> None:
        """Turns to the next page; on a wide screen the focus moves."""
        at = self.pages.index(self._page) if self._page in self.pages else -1
        self.go(self.pages[(at + 1) % len(self.pages)])

    @on(PageRequested)
    def _turn(self, message: PageRequested) -> None:
        self.go(message.page)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The page is where the focus is: it stays in sight when the screen shrinks."""
        ids = {node.id for node in event.widget.ancestors_with_self}
        for page, column in COLUMNS.items():
            if column in ids:
                self.show_page(page)

    def on_screen_suspend(self) -> None:
        """What opens over it shows the notices itself, in another place; they come back when it closes."""
        self.query("ToastHolder").remove()

    def on_resize(self, event: events.Resize) -> None:
        """Another size has other pages; a focus that was lost meanwhile comes back."""
        self.call_after_refresh(self._settle)

    def _settle(self) -> None:
        self.show_page(self._page)
        if self.focused is None and not self.has_class("-tiny") and not self.has_class("-flat"):
            self.go(self._page if self._page in self.pages else "form")
