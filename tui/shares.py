"""The ratio of a mixed model: what is typed, as weights of its parents, and back.

A number by itself is the second model's share, which leaves the rest to the first, or the share of a difference.
Numbers with commas between them are a weight for each model; of a sum only their proportion counts.
"""

from __future__ import annotations

from engines.blocks import MOST, REACH
from engines.entries import Model
from engines.errors import InvalidRequest
from tui import fields


def weights(field: str, text: str, method: str, count: int) -> tuple[float, ...]:
    """The weights of `count` models that a text stands for.

    Args:
        field: what is told where it can't be used.
        method: one of engines.blocks.METHODS.

    Raises:
        InvalidRequest: it is no number, or not as many as there are models. Whether they can be mixed by these is
            engines.blocks.Formula's to say.
    """
    pieces = [piece for piece in text.split(",") if piece.strip()]
    difference = method == "add-difference"
    if len(pieces) == 1 and (difference or count == 2):
        share = fields.number(field, pieces[0], -REACH if difference else 0.0, REACH if difference else 1.0, 0.0)
        return (1.0, share, 1.0) if difference else (_rest(share), share)
    if len(pieces) != count:
        raise InvalidRequest(
            f"{count} models have {len(pieces)} weight{'s' * (len(pieces) != 1)}",
            "give one for each, with commas",
            field,
        )
    return tuple(fields.number(field, piece, -MOST, MOST, 0.0) for piece in pieces)


def read(text: str, model: Model) -> tuple[float, ...]:
    """The weights of a model's parents that a text stands for; none for an empty one.

    Raises:
        InvalidRequest: the model is no mix, or can't be mixed by what the text says.
    """
    if not text.strip():
        return ()
    source = model.mix()
    found = weights("mix", text, source.method, len(source.parents))
    model.mixed(found)
    return found


def text(weights: tuple[float, ...]) -> str:
    """What is read as these weights: '0.7', or '0.5,0.3,0.2'."""
    if len(weights) == 2 and weights[0] == _rest(weights[1]):
        return fields.exact(weights[1])
    return ",".join(map(fields.exact, weights))


def told(weights: tuple[float, ...]) -> str:
    """The ratio for people: '0.3 : 0.7'."""
    return " : ".join(f"{weight:g}" for weight in weights)


def beside(shares: tuple[float, ...]) -> tuple[float, ...]:
    """The weights of a sum whose further models have these shares: the first has what they leave."""
    return (_rest(sum(shares)), *shares)


def _rest(share: float) -> float:
    """What a share leaves, without the last digits that no one typed."""
    return max(0.0, round(1.0 - share, 12))
