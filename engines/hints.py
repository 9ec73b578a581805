"""What shapes don't tell of a model: how few steps it was distilled for, and what it predicts.

The evidence is looked at in an order: what its maker wrote into the file (modelspec.*,
github.com/Stability-AI/ModelSpec), the marker tensors "v_pred" and "ztsnr" (as ComfyUI reads them), then its name. Each
finding comes with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FAMILIES = {
    "lightning": r"lightning",
    "dmd2": r"dmd ?2?",
    "hyper": r"hyper(?! ?(real|detail|focus|vivid|color|colour|style|fantas))",
    "lcm": r"lcm",
    "tcd": r"tcd",
    "turbo": r"turbo(?! ?diesel)",
}
"Ways of distilling → how names say so."
_STEPS = re.compile(r"(?<!\d)(\d{1,2}) ?steps?(?![a-z])")
_V = re.compile(r"(?<![a-z])(v ?pred(iction)?|velocity)(?![a-z])")
_ZERO = re.compile(r"(?<![a-z])(zt?snr|zero ?(terminal )?snr)(?![a-z])")
MANY = 400
"Characters of a maker's text that are kept."


@dataclass(frozen=True, slots=True)
class Hints:
    """What was found."""

    prediction_type: str | None = None
    "epsilon, v_prediction or sample; None if nothing tells."
    zero_snr: bool = False
    "Whether its noise ends without any signal (arXiv:2305.08891)."
    distilled: str = ""
    "A key of FAMILIES; empty if nothing tells."
    steps: int | None = None
    "That it was distilled for."
    reasons: tuple[str, ...] = ()
    "A sentence for each finding, without full stop."


def find(name: str, names: Iterable[str], metadata: Mapping[str, str]) -> Hints:
    """What a file's name, its tensors' names and its metadata tell."""
    known = set(names)
    reasons: list[str] = []
    prediction, zero = _prediction(name, known, metadata, reasons)
    distilled, steps = _distilled(name, known, metadata, reasons)
    plain = words(name)
    if distilled and steps == 1 and re.search(r"(?<![a-z0-9])x0(?![a-z0-9])", plain):
        prediction = "sample"
        reasons.append("predicts the picture itself: its name says x0")
    return Hints(prediction, zero, distilled, steps, tuple(reasons))


def _prediction(name: str, known: set[str], metadata: Mapping[str, str], reasons: list[str]) -> tuple[str | None, bool]:
    prediction: str | None = None
    written = metadata.get("modelspec.prediction_type", "").strip().lower()
    if written:
        prediction = {"epsilon": "epsilon", "eps": "epsilon", "v": "v_prediction"}.get(written)
        if prediction is None and _V.search(words(written)):
            prediction = "v_prediction"
        if prediction:
            reasons.append(f"{prediction}: its metadata says so (modelspec.prediction_type)")
    if prediction is None and "v_pred" in known:
        prediction = "v_prediction"
        reasons.append("v_prediction: the file has the marker v_pred")
    if prediction is None and _V.search(words(name)):
        prediction = "v_prediction"
        reasons.append("v_prediction: its name says so")
    zero = "ztsnr" in known
    if zero:
        reasons.append("zero terminal SNR: the file has the marker ztsnr")
    elif _ZERO.search(words(name)):
        zero = True
        reasons.append("zero terminal SNR: its name says so")
    return prediction, zero


def _distilled(name: str, known: set[str], metadata: Mapping[str, str], reasons: list[str]) -> tuple[str, int | None]:
    if any(key.endswith("time_embedding.cond_proj.weight") for key in known):
        reasons.append("distilled (LCM): it takes the guidance scale as an input")
        return "lcm", None
    title = metadata.get("modelspec.title", "")
    for text, where in ((title, "its metadata's title"), (name, "its name")):
        plain = words(text)
        for family, pattern in FAMILIES.items():
            if re.search(rf"(?<![a-z])({pattern})(?![a-z])", plain):
                found = _STEPS.search(plain) or _STEPS.search(words(name))
                steps = int(found[1]) if found and 1 <= int(found[1]) <= 16 else None
                reasons.append(
                    f"{steps} step{'s' if steps != 1 else ''}: {where} says {family.capitalize()} {steps}-step"
                    if steps
                    else f"distilled: {where} says {family.capitalize()}"
                )
                return family, steps
    return "", None


def words(name: str) -> str:
    """A name as lower-case words with one space between: camel case is parted, digits stand beside letters."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.sub(r"[^a-z0-9]+", " ", parted.lower()).strip()


def told(metadata: Mapping[str, str], *keys: str) -> str:
    """The first of these that a file's metadata has, as one line that a terminal can be shown."""
    for key in keys:
        if text := " ".join("".join(c if c.isprintable() else " " for c in metadata.get(key, "")).split()):
            return text[:MANY]
    return ""
