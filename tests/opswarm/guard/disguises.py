"""Ways to write one thing so that it looks like another: what the attack tests draw from."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from hypothesis import strategies as st

Disguise = Callable[[str], str]

FULL_WIDTH = str.maketrans({chr(c): chr(c + 0xFEE0) for c in range(0x21, 0x7F)})
CYRILLIC = str.maketrans("aeopcxyi", "\u0430\u0435\u043e\u0440\u0441\u0445\u0443\u0456")
UNSEEN = ["\u200b", "\u200d", "\u202e", "\u2066", "\ufeff", "\u00ad", "\x00", "\x1f", "\x7f", "\U000e0041", "\u2060"]
SPACES = [" ", "\t", "\n", "\r", "\u00a0", "\u3000", "\u2028"]


def escaped(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def with_unseen(character: str, at: int) -> Disguise:
    return lambda text: text[: at % (len(text) + 1)] + character + text[at % (len(text) + 1) :]


def around(before: str, behind: str) -> Disguise:
    return lambda text: before + text + behind


def disguises(*special: Disguise) -> st.SearchStrategy[list[Disguise]]:
    """One to four ways to write a thing, `special` ones among them, to be applied one on top of the other."""
    common: list[Disguise] = [
        escaped,
        lambda text: quote(text, safe=""),
        lambda text: escaped(escaped(text)),
        lambda text: text.translate(FULL_WIDTH),
        lambda text: text.translate(CYRILLIC) + "\u200b",
        lambda text: text.replace("i", "\u0131") + "\ufeff",
    ]
    placed = st.builds(with_unseen, st.sampled_from(UNSEEN), st.integers(0, 60))
    spaced = st.builds(around, st.sampled_from(["", *SPACES]), st.sampled_from(SPACES))
    return st.lists(st.one_of(st.sampled_from([*common, *special]), placed, spaced), min_size=1, max_size=4)


def disguised(text: str, ways: list[Disguise]) -> str:
    for way in ways:
        text = way(text)
    return text
