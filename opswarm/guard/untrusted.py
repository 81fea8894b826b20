"""What text from outside may do: nothing. It is cleaned, capped, and handed over in a named envelope."""

from __future__ import annotations

import re
import unicodedata

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_KEPT = frozenset("\n\t")
_CLOSE = "\n</untrusted>"
_ENVELOPE = re.compile(r"</?\s*untrusted\b[^>]*>?", re.IGNORECASE)


def clean(text: str) -> str:
    """`text` without what a reader can't see: ANSI sequences, control, format (zero-width, bidi, tag),
    surrogate and unassigned characters. Newlines and tabs stay."""
    text = _ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and not _CONTROL.search(text):
        return text
    return "".join(c for c in text if c in _KEPT or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))


def cap_bytes(text: str, limit: int) -> str:
    """The longest head of `text` that fits `limit` UTF-8 bytes, cut between characters."""
    raw = text.encode("utf-8", errors="replace")
    if len(raw) <= limit:
        return text
    return raw[:limit].decode("utf-8", errors="ignore")


def shorten(text: str, kept: int) -> str:
    """The first `kept` characters of `text`, and a line that says so. An envelope stays closed."""
    if len(text) <= kept:
        return text
    end = _CLOSE if text.endswith(_CLOSE) else ""
    return f"{text[:kept]}\n(cut: {kept} of {len(text)} characters kept){end}"


def envelope(source: str, text: str) -> str:
    """`text` as data for a model: cleaned, and fenced in a tag that names its source.

    Anything in the text that looks like the fence itself is taken out, so it can't be closed from inside.
    """
    name = re.sub(r"[^A-Za-z0-9_.:/ -]", "", clean(source))[:120]
    return f'<untrusted source="{name}">\n{_ENVELOPE.sub("", clean(text))}{_CLOSE}'
