"""Words that are often put into prompts: shipped ones, and the user's own from snippets.toml in the config folder."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tui.clean import clean

SHIPPED = Path(__file__).with_name("snippets.toml")
KINDS = ("whole", "style", "subject", "light", "quality", "negative")
"Where each goes: whole takes the prompt's place, negative goes into the negative prompt, the rest to the cursor."
LONGEST = 2000
"Characters of one snippet."


@dataclass(frozen=True, slots=True)
class Snippet:
    """Some words with a name."""

    name: str
    "What the list calls it."
    kind: str
    "One of KINDS."
    text: str
    "In compel's syntax."


def load(user: Path) -> tuple[tuple[Snippet, ...], tuple[str, ...]]:
    """The shipped snippets with the user's over them, by name, and a line for each that can't be used."""
    found: dict[str, Snippet] = {}
    problems: list[str] = []
    for path in (SHIPPED, user):
        for one in _read(path):
            if isinstance(one, str):
                problems.append(one)
            else:
                found[one.name] = one
    return tuple(sorted(found.values(), key=lambda s: KINDS.index(s.kind))), tuple(problems)


def _read(path: Path) -> Iterator[Snippet | str]:
    try:
        if path.exists() and not path.is_file():
            yield f"{path} is no file"  # a FIFO would be waited for without end
            return
        listed = tomllib.loads(path.read_text(encoding="utf-8")).get("snippet", [])
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        yield f"{path}: {e}"
        return
    for number, table in enumerate(listed if isinstance(listed, list) else [listed], 1):
        values = {k: table.get(k) for k in ("name", "kind", "text")} if isinstance(table, dict) else {}
        name, kind, text = (values.get(k) for k in ("name", "kind", "text"))
        if not isinstance(name, str) or not name.strip() or not isinstance(text, str) or not text.strip():
            yield f"{path}: snippet {number} needs a name and a text"
        elif kind not in KINDS:
            yield f"{path}: snippet {name[:40]}: kind must be one of {', '.join(KINDS)}"
        elif len(text) > LONGEST:
            yield f"{path}: snippet {name[:40]} has {len(text):,} characters; at most {LONGEST:,} are taken"
        else:
            yield Snippet(" ".join(clean(name).split())[:60], str(kind), clean(text).strip())
