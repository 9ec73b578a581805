"""How long the prompts of a draft are for its model's encoders, as the editors show it; read in a thread."""

from __future__ import annotations

from dataclasses import dataclass

from engines import tokens
from engines.catalogue import Catalogue
from engines.errors import SafelightError
from engines.prompt import parse
from engines.tokens import WINDOW
from tui.wording import plural


@dataclass(frozen=True, slots=True)
class Told:
    """One prompt's length."""

    words: str = ""
    "'34 of 75 tokens', or '102 tokens, 2 chunks'; empty for an empty prompt, and where it can't be told."
    borders: tuple[int, ...] = ()
    "Where in the source a chunk begins that is not its text's first."


def look(catalogue: Catalogue, model: str, text: str) -> Told:
    """A prompt's length. Reads tokenizers and the headers of embeddings; never raises."""
    known = catalogue.models.get(model)
    if known is None or not text.strip():
        return Told()
    prompt = parse(text)
    try:
        names = tokens.known(catalogue, known)
        folders = tokens.encoders(catalogue, known)
        lengths = [tokens.length(folder, prompt, names) for folder in folders]
        borders = tokens.borders(folders[0], prompt, names) if folders else ()
    except (SafelightError, OSError):
        return Told()  # a model that is not here has no tokenizer either
    if not lengths:
        return Told()
    counts = "/".join(dict.fromkeys(str(x.tokens) for x in lengths))
    chunks = max(x.chunks for x in lengths)
    if chunks == 1:
        return Told(f"{counts} of {WINDOW} tokens", borders)
    return Told(f"{counts} tokens, {plural(chunks, 'chunk')}", borders)
