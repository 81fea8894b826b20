"""Words of a caller in a query: whatever they hold, they stay the value of one label."""

from __future__ import annotations

import pytest
import re2

from mcp_servers.observing.selectors import labels_text, literal, query_text, quoted, selector, where, wrapped
from opswarm.errors import InvalidInput

ATTACKS = [
    'media"} or up{job="x',
    'media\\"} or up',
    "media\\",
    'a"})\n or vector(1) #',
    "`}",
    "'} or up{'",
    "x\x00y",
    "\\x22} or up",
    "{__name__=~'.+'}",
    "\u2028\u202e\u200b",
]


def unquoted(text: str) -> str:
    """What a double-quoted string stands for, by the rules of Go. Fails unless it ends where `text` does."""
    assert text[0] == text[-1] == '"'
    inner, out, i = text[1:-1], [], 0
    while i < len(inner):
        assert inner[i] not in '"\n'
        if inner[i] != "\\":
            out.append(inner[i])
            i += 1
        elif inner[i + 1] == "x":
            out.append(chr(int(inner[i + 2 : i + 4], 16)))
            i += 4
        else:
            out.append({"n": "\n", "\\": "\\", '"': '"'}[inner[i + 1]])
            i += 2
    return "".join(out)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_value_ends_where_we_end_it(attack: str) -> None:
    assert unquoted(quoted(attack)) == attack
    assert selector("up", job=attack) == f"up{{job={quoted(attack)}}}"


@pytest.mark.parametrize("attack", [*ATTACKS, "a.b", "a|b", ".*", "(?i)x", "[a]", "a+b$"])
def test_a_value_in_a_pattern_matches_itself_and_nothing_else(attack: str) -> None:
    pattern = re2.compile(literal(attack))
    assert pattern.fullmatch(attack)
    assert not any(pattern.fullmatch(other) for other in ("", "axb", "a", "X", "aab", attack + "x"))


def test_half_a_character_and_a_page_of_text_are_refused() -> None:
    for text in ("\ud800", "x" * 2_000):
        with pytest.raises(InvalidInput):
            quoted(text)


def test_labels_without_a_value_are_left_out_of_a_selector() -> None:
    assert selector("up", namespace="", job="a") == 'up{job="a"}'
    assert where("up", {"pod": ("=~", "a|b")}) == 'up{pod=~"a|b"}'


@pytest.mark.parametrize("text", ["", "  ", "x" * 9_000, "up\ud800"])
def test_what_can_be_no_query_is_refused_before_it_is_sent(text: str) -> None:
    with pytest.raises(InvalidInput):
        query_text(text)


def test_a_comment_at_the_end_of_a_query_does_not_swallow_what_we_add() -> None:
    assert wrapped("topk(10, ", "up # all)", ")") == "topk(10, up # all)\n)"


def test_names_that_are_not_plain_are_quoted_and_nothing_breaks_the_line() -> None:
    assert labels_text({"__name__": "up", "a.b": "x\ny"}) == 'up{"a.b"="x y"}'
    assert labels_text({"__name__": "größe", "job": "a"}) == '{"größe", job="a"}'
    assert labels_text({"__name__": "up"}) == "up"
    assert labels_text({}) == "{}"
