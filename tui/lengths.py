"""How long the prompts of a draft are for its model's encoders, as the editors show it; read in a thread."""

from __future__ import annotations

from dataclasses import dataclass

from engines import folders, tokens, variants
from engines.catalogue import Catalogue
from engines.errors import SafelightError
from engines.prompt import parse
from engines.tokens import WINDOW
from engines.variants import Wildcards
from tui import fields, texts
from tui.draft import Draft
from tui.wording import plural


@dataclass(frozen=True, slots=True)
class Told:
    """One prompt's length."""

    words: str = ""
    "'34 of 75 tokens', or '102 tokens, 2 chunks'; empty for an empty prompt, and where it can't be told."
    borders: tuple[int, ...] = ()
    "Where in the source a chunk begins that is not its text's first."


def look(catalogue: Catalogue, draft: Draft, negative: bool = False) -> Told:
    """The length of one of a draft's prompts, after its variants are drawn and it is translated. Reads tokenizers, the
    headers of embeddings and the files of wildcards; never raises."""
    known = catalogue.models.get(draft.model)
    typed = draft.negative_prompt if negative else draft.prompt
    if known is None or not typed.strip():
        return Told()
    try:
        cards = Wildcards(folders.find().wildcards) if variants.names(typed) else None
        seed = fields.seed(draft.seed) if draft.seed.strip() else 0
        # variants are drawn in the prompt only
        text = texts.read(typed, texts.syntax(draft.syntax), None if negative else seed, cards)
        prompt = parse(text.prompt)
        names = tokens.known(catalogue, known)
        encoders = tokens.encoders(catalogue, known)
        lengths = [tokens.length(folder, prompt, names) for folder in encoders]
        # places in another text are none in this one
        own = encoders and text.prompt == typed
        borders = tokens.borders(encoders[0], prompt, names) if own else ()
    except (SafelightError, OSError):
        return Told()  # a model that is not here has no tokenizer either
    if not lengths:
        return Told()
    counts = "/".join(dict.fromkeys(str(x.tokens) for x in lengths))
    chunks = max(x.chunks for x in lengths)
    drawn = " as drawn" if text.expansion is not None else ""
    if chunks == 1:
        return Told(f"{counts} of {WINDOW} tokens{drawn}", borders)
    return Told(f"{counts} tokens{drawn}, {plural(chunks, 'chunk')}", borders)
