"""Names from a model as people read them: no longer than a line, and text wherever it goes."""

from __future__ import annotations

import re
import unicodedata
from html import escape

SHOWN = 120
"""Characters of a name that are shown: a line."""
SENTENCE = 4000
"""Characters of a sentence with names that are shown: a screen."""

_FROM_RIGHT = frozenset({"R", "AL", "AN", "LRE", "RLE", "LRO", "RLO"})
_ISOLATE, _END = "\u2068", "\u2069"
_LONG_NAME = re.compile(rf"[^\s/\\{_ISOLATE}{_END}]{{{SHOWN + 1},}}")
_LONG_PATH = re.compile(r"\S{1025,}")
"""Names of files are shorter than the first and paths than the second, with rare exceptions."""
_WORD = re.compile(r"""[^\s'"().,;:!?](?:\S*[^\s'"().,;:!?])?""")


def shortened(name: str, most: int = SHOWN) -> str:
    """Cut a name that is longer than anybody reads in the middle: it is the ends that tell names apart."""
    if len(name) <= most:
        return name
    end = most // 2
    return f"{name[: most - 1 - end]}…{name[-end:]}"


def in_sentence(message: str) -> str:
    """Write a sentence so that it can be read whatever names it holds, which are told by having no space in them.

    Names and paths that are longer than anybody reads are cut in the middle. What is written from right to left stands
    between the marks of Unicode that keep it from turning the words around it (U+2068 and U+2069).
    """
    for long in (_LONG_PATH, _LONG_NAME):
        message = long.sub(lambda found: shortened(found.group()), message)
    if not message.isascii():
        message = _WORD.sub(lambda found: _isolated(found.group()), message)
    return shortened(message, SENTENCE)


def as_html(name: str) -> str:
    """Write a name between the tags of HTML, or into a text of plotly's, which reads tags too, as the text it is."""
    return escape(shortened(name), quote=False)  # plotly does not know &quot;


def _isolated(word: str) -> str:
    turns = any(unicodedata.bidirectional(character) in _FROM_RIGHT for character in word)
    return f"{_ISOLATE}{word}{_END}" if turns and _ISOLATE not in word else word
