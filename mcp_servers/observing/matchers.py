"""Matchers of labels, as Prometheus, Alertmanager and Loki write them: read, written back, and tried on labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import re2

from mcp_servers.observing.selectors import is_plain_label, quoted
from opswarm.errors import InvalidInput
from opswarm.mcp.arguments import shown

MOST = 20

_MATCHER = re.compile(
    r"""
    \s*(?P<name>[A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\]|\\.)*")
    \s*(?P<op>=~|!~|!=|=)
    \s*(?P<value>.*?)\s*
    """,
    re.VERBOSE | re.DOTALL,
)
_PART = re.compile(r"(?:[^\",]|\"(?:[^\"\\]|\\.)*\")+", re.DOTALL)
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "\\": "\\", '"': '"'}
_LONGEST = 1_024
_STRANGERS = ("~", "0", "Zq-9", "qz.7/x y", "kjvw", "an-unlikely-name-of-anything")
"""What only a pattern that matches nearly anything would match."""


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


_RE2 = _options()


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label. A label that is not there has the value "". Patterns match the whole value."""

    name: str
    op: str
    value: str

    def __str__(self) -> str:
        name = self.name if is_plain_label(self.name) else quoted(self.name)
        return f"{name}{self.op}{quoted(self.value)}"

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.name, "")
        if self.op in ("=", "!="):
            return (value == self.value) is (self.op == "=")
        return self._fits(value) is (self.op == "=~")

    @property
    def narrows(self) -> bool:
        """Whether it picks something out: equality with a value, or a pattern that fits not just anything."""
        if self.op == "=":
            return bool(self.value)
        return self.op == "=~" and not self._fits("") and not any(self._fits(s) for s in _STRANGERS)

    def wire(self) -> dict[str, Any]:
        """As the API of Alertmanager has it."""
        return {
            "name": self.name,
            "value": self.value,
            "isRegex": self.op in ("=~", "!~"),
            "isEqual": self.op in ("=", "=~"),
        }

    def _fits(self, value: str) -> bool:
        return bool(re2.compile(f"(?:{self.value})", _RE2).fullmatch(value))


def parsed(text: str, field: str = "matchers") -> Matcher:
    """A matcher as `name="value"`, `name!=value`, `name=~"a|b"` or `name!~x`. Raises `InvalidInput`."""
    found = _MATCHER.fullmatch(text)
    if found is None or len(text) > _LONGEST:
        raise InvalidInput(
            f"{field}: {shown(text)} is not a matcher.", hint='Write it like alertname="KubePodCrashLooping".'
        )
    value = found["value"]
    if value.startswith('"'):
        inner = _QUOTED.fullmatch(value)
        if inner is None:
            raise InvalidInput(f"{field}: the quotes of {shown(text)} do not match.", hint="One matcher each.")
        value = _unescaped(inner[1])
    elif re.search(r"^[=~]|[\s\"{},]", value):
        raise InvalidInput(f"{field}: the value of {shown(text)} needs quotes.", hint="One matcher each.")
    name = found["name"]
    matcher = Matcher(_unescaped(name[1:-1]) if name.startswith('"') else name, found["op"], value)
    if matcher.op in ("=~", "!~"):
        _compiles(matcher, field)
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise InvalidInput(f"{field} holds half a character.")
    return matcher


def all_parsed(texts: Sequence[str], field: str = "matchers") -> tuple[Matcher, ...]:
    if len(texts) > MOST:
        raise InvalidInput(f"{field}: more than {MOST} matchers.")
    return tuple(parsed(t, field) for t in texts)


def from_filter(text: str, field: str = "filter") -> tuple[Matcher, ...]:
    """Matchers with commas between them, in braces or not, as Alertmanager's page takes them. Raises `InvalidInput`."""
    inner = text.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1].strip().removesuffix(",")
    if len(inner) > MOST * _LONGEST:
        raise InvalidInput(f"{field} is too long.")
    if not inner:
        return ()
    parts = _PART.findall(inner)
    if ",".join(parts) != inner:
        raise InvalidInput(f"{field}: the quotes or commas of {shown(text)} do not match.")
    return all_parsed(parts, field)


def of_wire(found: Any) -> tuple[Matcher, ...]:
    """The matchers of a silence as the API gives them."""
    listed = [m for m in found if isinstance(m, dict)] if isinstance(found, list) else []
    return tuple(
        Matcher(str(m.get("name") or ""), _op(m.get("isRegex") is True, m.get("isEqual") is not False), _value(m))
        for m in listed
    )


def all_match(matchers: Sequence[Matcher], labels: Mapping[str, str]) -> bool:
    return all(m.matches(labels) for m in matchers)


def _op(regex: bool, equal: bool) -> str:
    return {(True, True): "=~", (True, False): "!~", (False, True): "=", (False, False): "!="}[regex, equal]


def _value(found: Mapping[str, Any]) -> str:
    return str(found.get("value") or "")


def _compiles(matcher: Matcher, field: str) -> None:
    try:
        re2.compile(f"(?:{matcher.value})", _RE2)
    except (re2.error, UnicodeError) as error:
        raise InvalidInput(
            f"{field}: {shown(matcher.value)} is not a regular expression (RE2, without look-around)."
        ) from error


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[0]), text)
