"""Signs that are not ASCII's: how each is drawn where there are no others, and how it is said in plain lines."""

from __future__ import annotations

DRAWN = {
    "─╌┄┈╴╶–—−‐‑·▔": "-",
    "━═╍┅": "=",
    "│┃║▏▎▕┆": "|",
    "┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝╠╣╦╩╬┏┓┗┛┣┫┳┻╋◇": "+",
    "█▉▊▋▐▅▆▇▓▒▙▛▜▟▚▞": "#",
    "▌▸▶►→›": ">",
    "◂◀←‹": "<",
    "↑▴▲": "^",
    "↓▾▼": "v",
    "●★•✱": "*",
    "○◯": "o",
    "☆": ".",
    "✗✕×": "x",
    "✓": "+",
    "⇄": "/",
    "◐◑": "%",
    "∅": "0",
    "‘’": "'",
    "“”": '"',
    "…": "~",
    "▁▂▃▄▖▗": "_",
    "▀▘▝": '"',
    "░\u2800\xa0": " ",
    "▍": ":",
}
"One cell each. An ellipsis is no dot: that would end the sentence."
TABLE = {ord(sign): plain for signs, plain in DRAWN.items() for sign in signs}
"The same for str.translate."

SAID = {
    **{sign: TABLE[ord(sign)] for sign in "–—−×‘’“”"},
    " · ": ", ",
    "·": ",",
    "→": "to",
    "…": "...",
    "⇄": "and",
    "█": "",
}
"Decoration → what a screen reader is to read for it, in any room; the longer comes first where one has another inside."
