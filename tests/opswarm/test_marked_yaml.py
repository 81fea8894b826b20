"""YAML that remembers lines, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opswarm.marked_yaml import MOST_BYTES, Problem, read


def test_every_value_knows_its_line() -> None:
    marked = read(b"# first\na: 1\nb:\n  - x\n  - c: {d: 2}\n")
    assert marked.value == {"a": 1, "b": ["x", {"c": {"d": 2}}]}
    assert [marked.line(p) for p in (("a",), ("b",), ("b", 0), ("b", 1, "c"), ("b", 1, "c", "d"))] == [2, 3, 4, 5, 5]
    assert marked.line(("b", 1, "nothing", "here")) == 5
    assert marked.exact(("b", 1, "nothing")) is None


def test_words_and_times_stay_text() -> None:
    said = read(b"a: no\nb: on\nc: 22:00\nd: 2026-01-01\ne: 0x10\nf: 1_000\ng: .inf\nh: '5'\n").value
    assert said == dict(a="no", b="on", c="22:00", d="2026-01-01", e="0x10", f="1_000", g=".inf", h="5")
    assert read(b"a: true\nb: ~\nc: -3\nd: 2.5\ne:\n").value == {"a": True, "b": None, "c": -3, "d": 2.5, "e": None}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (b"", 0, "empty"),
        (b"# nothing\n\n", 0, "empty"),
        (b"a: 1\nb: 2\na: 3\n", 3, "given twice (first in line 1)"),
        (b"a:\n  b: 1\n  'b': 2\n", 3, "given twice (first in line 2)"),
        (b"a: 1\nb: &x 2\n", 2, "anchors"),
        (b"a: 1\nb: *x\n", 2, "aliases"),
        (b"a: !!python/object/apply:os.system [id]\n", 1, "tags"),
        (b"a: !!str 1\n", 1, "tags"),
        (b"a: 1\nb: !x {c: 1}\n", 2, "tags"),
        (b"a: 1\n---\nb: 2\n", 2, "another document"),
        (b"a: [1\nb: 2\n", 2, "expected"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        (b"a: 1\nb: \x07\n", 2, "character"),
        (b"a: 1\n? [x]\n: 2\n", 2, "plain text"),
        (b"a: " + b"[" * 5_000, 1, "nested too deep"),
        (b"\n" + b"- " * 5_000, 2, "nested too deep"),
        (b"a: '" + b"x" * MOST_BYTES + b"'", 0, "larger than"),
    ],
)
def test_what_is_refused_is_told_with_its_line(text: bytes, line: int, said: str) -> None:
    with pytest.raises(Problem) as refused:
        read(text)
    assert refused.value.line == line and said in refused.value.said


def test_a_bomb_of_aliases_does_not_go_off() -> None:
    bomb = b"a: &a [x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%b]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 8)) for c in range(ord("b"), ord("j"))
    )
    with pytest.raises(Problem, match="anchors are not allowed"):
        read(bomb)


YAMLISH = st.text(st.sampled_from("a:- \n[]{}&*!#'\"|>%?,<~0"), max_size=40)


@given(st.one_of(st.binary(max_size=60), YAMLISH.map(str.encode)))
def test_any_bytes_are_read_or_refused_and_nothing_else(raw: bytes) -> None:
    try:
        value = read(raw).value
    except Problem as problem:
        assert problem.said and problem.line >= 0
        return
    assert isinstance(value, dict | list | str | int | float | bool | None)
