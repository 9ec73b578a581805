"""What is fetched for pictures that wait for it: the workbench's own book of downloads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engines.catalogue import Catalogue
from engines.entries import Entry
from tui import finishes, stack
from tui.draft import Draft, embedding_names, lora_names


@dataclass(frozen=True, slots=True)
class Held:
    """A draft that becomes pictures when all that it needs is here."""

    draft: Draft
    "As it was when the picture was asked for."
    ids: frozenset[str]
    "Entries that are being fetched for it."


class Fetches:
    """Which entries are being fetched, and which drafts wait for them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._held: list[Held] = []
        self.going: set[str] = set()
        "Ids that were asked for and have not ended."
        self.told: set[str] = set()
        "Ids whose notice was read and accepted."

    @property
    def held(self) -> int:
        """Drafts that wait."""
        return len(self._held)

    def wanted(self, draft: Draft) -> tuple[Entry, ...]:
        """What a draft names that is not here and can be had. It looks for these few on the disk."""
        known = self._catalogue
        named: list[Entry | None] = [known.models.get(draft.model.strip()), known.vaes.get(draft.vae.strip())]
        model = known.models.get(draft.model.strip())
        worn = (*(item.name for item in stack.read(stack.active(draft).loras)), *lora_names(draft))
        # what is for another family is refused, not fetched
        adapters = (known.adapters.get(name) for name in worn)
        named += [a for a in adapters if a is not None and (model is None or a.family == model.family)]
        named += [known.embeddings.get(name) for name in embedding_names(draft, known)]
        named.append(known.scorers.get(draft.score.strip()))
        named += finishes.needs(draft.finish, known)
        return tuple(dict.fromkeys(e for e in named if e is not None and known.missing(e) and known.can_be_had(e)))

    def hold(self, draft: Draft, entries: Iterable[Entry]) -> None:
        """Keeps a draft until these are here."""
        self._held.append(Held(draft, frozenset(entry.id for entry in entries)))

    def came(self, id: str) -> list[Draft]:
        """An entry is here: the drafts that wait for nothing more."""
        self.going.discard(id)
        held = [Held(h.draft, h.ids - {id}) for h in self._held]
        self._held = [h for h in held if h.ids]
        return [h.draft for h in held if not h.ids]

    def failed(self, id: str) -> int:
        """An entry will not come: how many drafts waited for it and are let go."""
        self.going.discard(id)
        before = len(self._held)
        self._held = [h for h in self._held if id not in h.ids]
        return before - len(self._held)
