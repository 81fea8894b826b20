from __future__ import annotations

import pytest

from mcp_servers.observing.matchers import all_match, from_filter, of_wire, parsed
from opswarm.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('alertname="X"', 'alertname="X"'), ("alertname=X", 'alertname="X"'), ('a =~ "x|y"', 'a=~"x|y"'),
        ('a!="b c"', 'a!="b c"'), ("a!~x", 'a!~"x"'), (r'a="q\"\\"', r'a="q\"\\"'), ('"a.b"="c"', '"a.b"="c"'),
        ('a=""', 'a=""'),
        (r'"x=\"1\",y"="b"', r'"x=\"1\",y"="b"'),
    ],
)  # fmt: skip
def test_a_matcher_is_read_and_written_back(text: str, told: str) -> None:
    assert str(parsed(text)) == told and str(parsed(told)) == told


@pytest.mark.parametrize(
    "text",
    ["", "a", "=b", 'a="b', 'a="b",c="d"', 'a="b" or x="y"', "a=b c", "a==b", 'a=~"("', 'a=~"(?=x)"', "a=b,c=d", "1a=b",
     "{a=b}", "a\ud800=b", 'a="x"}', "a=" + "x" * 2_000],
)  # fmt: skip
def test_what_is_no_single_matcher_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parsed(text)


def test_a_filter_is_several_matchers_with_or_without_braces() -> None:
    for text in ('a="1,2", b=~"x}"', '{a="1,2",b=~"x}"}', '{ a="1,2", b=~"x}", }'):
        assert [str(m) for m in from_filter(text)] == ['a="1,2"', 'b=~"x}"']
    assert from_filter("") == from_filter("{}") == ()
    for bad in ('a="1', 'a="1",,b="2"', '"'):
        with pytest.raises(InvalidInput):
            from_filter(bad)


def test_a_pattern_fits_the_whole_value_and_a_missing_label_is_empty() -> None:
    labels = {"alertname": "KubePodCrashLooping"}
    assert not parsed("alertname=~Kube").matches(labels) and parsed("alertname=~Kube.*").matches(labels)
    assert parsed('x=""').matches(labels) and parsed("x!=y").matches(labels) and parsed("x!~.+").matches(labels)
    assert not all_match([parsed("alertname=KubePodCrashLooping"), parsed("x=y")], labels)


@pytest.mark.parametrize("text", ["a=b", "a=~Kube.*", 'a=~"media|games"'])
def test_equality_and_a_pattern_that_picks_something_narrow(text: str) -> None:
    assert parsed(text).narrows


@pytest.mark.parametrize(
    "text",
    ['a=""', "a!=b", "a!~b", "a=~.*", "a=~.+", 'a=~"|x"', 'a=~".{1,}"', r'a=~"[\\s\\S]+"', "a=~(?s).+", "a=~[^!]+",
     "a=~(x|.*)"],
)  # fmt: skip
def test_what_fits_nearly_anything_does_not_narrow(text: str) -> None:
    assert not parsed(text).narrows


def test_matchers_of_a_silence_are_read_from_the_wire_as_they_were_sent() -> None:
    found = [parsed(t) for t in ("a=b", "a!=b", "a=~b", "a!~b")]
    assert list(of_wire([m.wire() for m in found])) == found
    assert str(of_wire([{"name": "a", "value": "b", "isRegex": False}])[0]) == 'a="b"'
    assert of_wire(None) == of_wire([1]) == ()
