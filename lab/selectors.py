"""Label selectors: the whole grammar of the query parameter, and the `matchLabels` form inside objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.status import bad_request

_TOKEN = re.compile(r"\s*(?:(?P<op>!=|==|=|!|\(|\)|,|<|>)|(?P<word>[^\s=!(),<>]+))")
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Requirement:
    """One term: `key op values`, where op is in, notin, exists, absent or differs."""

    key: str
    op: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.op == "exists":
            return value is not None
        if self.op == "absent":
            return value is None
        if self.op == "in":
            return value in self.values
        return value is None or value not in self.values


Selector = tuple[Requirement, ...]


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    return all(term.matches(labels) for term in selector)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = self._split(text)
        self._at = 0

    @staticmethod
    def _split(text: str) -> list[str]:
        tokens, at = [], 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise bad_request(f"unable to parse requirement: found '{text[at:]}'")
            tokens.append(match["op"] or match["word"])
            at = match.end()
        return tokens

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _key(self) -> str:
        key = self._next()
        if not key or _KEY.fullmatch(key) is None:
            raise bad_request(f"unable to parse requirement: found '{key}', expected: !, identifier, or ','")
        return key

    def _values(self) -> frozenset[str]:
        if self._next() != "(":
            raise bad_request("unable to parse requirement: found '', expected: '('")
        values, word = set(), ""
        while (token := self._next()) != ")":
            if token == "":
                raise bad_request("unable to parse requirement: found '', expected: ',' or ')'")
            if token == ",":
                values.add(word)
                word = ""
            else:
                word = token
        values.add(word)
        return frozenset(values)

    def _term(self) -> Requirement:
        if self._peek() == "!":
            self._next()
            return Requirement(self._key(), "absent")
        key = self._key()
        match op := self._peek():
            case "" | ",":
                return Requirement(key, "exists")
            case "in" | "notin":
                self._next()
                return Requirement(key, op, self._values())
            case "=" | "==" | "!=":
                self._next()
                value = "" if self._peek() in ("", ",") else self._next()
                return Requirement(key, "differs" if op == "!=" else "in", frozenset({value}))
        raise bad_request(
            f"unable to parse requirement: found '{op}', expected: in, notin, =, ==, !=, gt, lt"
        )

    def parse(self) -> Selector:
        terms: list[Requirement] = []
        while self._peek():
            terms.append(self._term())
            if self._peek() and self._next() != ",":
                raise bad_request("unable to parse requirement: found more, expected: ',' or 'end of string'")
        return tuple(terms)


def parse_label_selector(text: str) -> Selector:
    """Reads a labelSelector parameter. Raises the API's 400."""
    return _Parser(text).parse()


def from_object(selector: Mapping[str, Any] | None) -> Selector:
    """Reads the matchLabels/matchExpressions of a workload. None selects everything, as an empty one does."""
    terms = [
        Requirement(k, "in", frozenset({v})) for k, v in ((selector or {}).get("matchLabels") or {}).items()
    ]
    ops = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent"}
    for item in (selector or {}).get("matchExpressions") or []:
        terms.append(Requirement(item["key"], ops[item["operator"]], frozenset(item.get("values") or [])))
    return tuple(terms)


def text_of(selector: Mapping[str, Any] | None) -> str:
    """The selector as `kubectl get -o wide` prints it."""
    parts = [f"{key}={value}" for key, value in sorted(((selector or {}).get("matchLabels") or {}).items())]
    for item in (selector or {}).get("matchExpressions") or []:
        parts.append(f"{item['key']} {item['operator'].lower()} ({','.join(item.get('values') or [])})")
    return ",".join(parts) or "<none>"
