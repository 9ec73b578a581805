"""The one-line strip that says which page is shown, where the screen is too small for all."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.widget import Widget

from tui.messages import Page, PageRequested

TITLES: dict[Page, str] = {"form": "form", "picture": "picture", "history": "queue & history"}


class Tabs(Widget):
    """Titles of the pages; a click chooses one, ctrl+n the next."""

    ALLOW_SELECT = False

    def __init__(self, pages: tuple[Page, ...] = ("form", "picture", "history")) -> None:
        super().__init__(id="tabs")
        self._pages = pages
        self._page: Page = "form"

    def show(self, pages: tuple[Page, ...], page: Page) -> None:
        """The pages that there are, and the one that is shown."""
        if (pages, page) != (self._pages, self._page):
            self._pages, self._page = pages, page
            self.refresh()

    def render(self) -> Content:
        """The shown page in brackets and bold: it is told without colour, too."""
        parts = [
            (f"[{TITLES[page]}]", "bold $primary") if page == self._page else (f" {TITLES[page]} ", "$foreground 70%")
            for page in self._pages
        ]
        return Content(" ").join([Content.styled(*part) for part in parts])

    def on_click(self, event: events.Click) -> None:
        """Chooses the page under the pointer."""
        left = 0
        for page in self._pages:
            left += len(TITLES[page]) + 3
            if event.x < left:
                self.post_message(PageRequested(page))
                return
