"""LogQL, as far as the lab knows it: selectors, filters of lines and labels, parsers, and metrics over their ranges."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import re2

Labels = Mapping[str, str]
Test = Callable[[str, Labels], Labels | None]
"""A stage of a pipeline: the labels that a line goes on with, or None where it is dropped."""

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
AGGREGATIONS = ("sum", "count", "min", "max", "avg", "topk", "bottomk")
FUNCTIONS = ("count_over_time", "rate", "bytes_over_time", "bytes_rate", "absent_over_time")

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<duration>\d+(?:ms|[smhdw])(?:\d+(?:ms|[smhdw]))*)
    |(?P<number>\d+(?:\.\d+)?)|(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>\|=|\|~|!=|!~|=~|==|>=|<=|[{}()\[\],|=<>])""",
    re.VERBOSE,
)
_PART = re.compile(r"(\d+)(ms|[smhdw])")


class ParseError(Exception):
    """A query that is none, as Loki says it."""

    def __init__(self, query: str, at: int, what: str) -> None:
        before = query[:at]
        line, column = before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1
        super().__init__(f"parse error at line {line}, col {column}: {what}")


@dataclass(frozen=True)
class Selector:
    """Conditions on a stream: label, operator, value."""

    conditions: tuple[tuple[str, str, str], ...]

    def matches(self, labels: Labels) -> bool:
        return all(compare(labels.get(name, ""), op, value) for name, op, value in self.conditions)

    @property
    def is_everything(self) -> bool:
        return all(compare("", op, value) for _, op, value in self.conditions)


@dataclass(frozen=True)
class LogQuery:
    selector: Selector
    stages: tuple[Test, ...]

    def run(self, line: str, labels: Labels) -> Labels | None:
        found: Labels | None = labels
        for stage in self.stages:
            if found is None:
                return None
            found = stage(line, found)
        return found


@dataclass(frozen=True)
class RangeQuery:
    """`function(query[seconds])`."""

    function: str
    query: LogQuery
    seconds: float


@dataclass(frozen=True)
class Aggregated:
    """`operator by (labels) (inner)`; `k` of topk and bottomk."""

    operator: str
    inner: Aggregated | RangeQuery
    by: tuple[str, ...]
    without: bool
    k: int = 0


Query = LogQuery | RangeQuery | Aggregated


def compare(value: str, op: str, wanted: str) -> bool:
    if op in ("=", "!=", "=="):
        return (value == wanted) is (op != "!=")
    return bool(re2.fullmatch(wanted, value)) is (op == "=~")


class _Parser:
    def __init__(self, query: str) -> None:
        self.query = query
        self.tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(query):
            found = _TOKEN.match(query, at)
            if found is None:
                raise ParseError(query, at, f"syntax error: unexpected character {query[at]!r}")
            if found.lastgroup:
                self.tokens.append((found.lastgroup, found[0], at))
            at = found.end()
        self.tokens.append(("end", "", len(query)))
        self.at = 0

    def peek(self, *texts: str) -> bool:
        return self.tokens[self.at][1] in texts and self.tokens[self.at][0] != "string"

    def take(self, kind: str = "", text: str = "") -> str:
        found, value, at = self.tokens[self.at]
        if (kind and found != kind) or (text and value != text):
            told = "$end" if found == "end" else value
            wanted = f", expecting {text or kind.upper()}"
            raise ParseError(self.query, at, f"syntax error: unexpected {told}{wanted}")
        self.at += 1
        return value

    def string(self) -> str:
        text = self.take("string")
        if text.startswith("`"):
            return text[1:-1]
        return re.sub(r"\\(x[0-9a-f]{2}|.)", lambda m: _escaped(m[1]), text[1:-1])

    def whole(self) -> Query:
        found = self.expression()
        self.take("end")
        return found

    def expression(self) -> Query:
        if self.peek("{"):
            return self.log_query()
        if self.peek("("):
            self.take()
            inner = self.expression()
            self.take(text=")")
            return inner
        word, at = self.take("word"), self.tokens[self.at - 1][2]
        if word in FUNCTIONS:
            return self.range_query(word)
        if word in AGGREGATIONS:
            return self.aggregation(word)
        raise ParseError(self.query, at, f"syntax error: unexpected IDENTIFIER {word}")

    def aggregation(self, operator: str) -> Aggregated:
        by, without = self.grouping()
        self.take(text="(")
        k = 0
        if operator in ("topk", "bottomk"):
            k = int(self.take("number"))
            self.take(text=",")
        inner = self.expression()
        if isinstance(inner, LogQuery):
            raise ParseError(self.query, len(self.query), "syntax error: unexpected log query in an aggregation")
        self.take(text=")")
        if not by:
            by, without = self.grouping()
        return Aggregated(operator, inner, by, without, k)

    def grouping(self) -> tuple[tuple[str, ...], bool]:
        if not self.peek("by", "without"):
            return (), False
        without = self.take("word") == "without"
        self.take(text="(")
        names = []
        while not self.peek(")"):
            names.append(self.take("word"))
            if self.peek(","):
                self.take()
        self.take(text=")")
        return tuple(names), without

    def range_query(self, function: str) -> RangeQuery:
        self.take(text="(")
        query = self.log_query()
        self.take(text="[")
        seconds = seconds_of(self.take("duration"))
        self.take(text="]")
        self.take(text=")")
        return RangeQuery(function, query, seconds)

    def log_query(self) -> LogQuery:
        self.take(text="{")
        conditions = []
        while not self.peek("}"):
            name = self.take("word")
            op = self.operator("=", "!=", "=~", "!~")
            conditions.append((name, op, self.pattern(op)))
            if self.peek(","):
                self.take()
        self.take(text="}")
        stages = []
        while self.peek("|=", "|~", "!=", "!~", "|"):
            stages.append(self.stage())
        return LogQuery(Selector(tuple(conditions)), tuple(stages))

    def operator(self, *allowed: str) -> str:
        op = self.take("sign")
        if op not in allowed:
            raise ParseError(self.query, self.tokens[self.at - 1][2], f"syntax error: unexpected {op}")
        return op

    def pattern(self, op: str) -> str:
        at, text = self.tokens[self.at][2], self.string()
        if "~" in op:
            try:
                re2.compile(text)
            except re2.error as error:
                raise ParseError(self.query, at, f"error parsing regexp: {error}") from error
        return text

    def stage(self) -> Test:
        sign = self.take("sign")
        if sign != "|":
            return line_filter(sign, self.pattern(sign))
        if self.peek("json", "logfmt"):
            return parser(self.take("word"))
        tests = [self.label_filter()]
        while self.peek("or"):
            self.take()
            tests.append(self.label_filter())
        return lambda line, labels: labels if any(t(labels) for t in tests) else None

    def label_filter(self) -> Callable[[Labels], bool]:
        name, op = self.take("word"), self.operator("=", "==", "!=", "=~", "!~", ">", ">=", "<", "<=")
        if self.tokens[self.at][0] == "number":
            wanted = float(self.take())
            return lambda labels: _number_test(labels.get(name, ""), op, wanted)
        value = self.pattern(op)
        return lambda labels: compare(labels.get(name, ""), op, value)


def parse(query: str) -> Query:
    """Raises `ParseError`."""
    return _Parser(query).whole()


def seconds_of(duration: str) -> float:
    return sum(int(n) * UNITS[u] for n, u in _PART.findall(duration))


def line_filter(sign: str, text: str) -> Test:
    wanted = sign in ("|=", "|~")
    if sign in ("|=", "!="):
        return lambda line, labels: labels if (text in line) is wanted else None
    return lambda line, labels: labels if bool(re2.search(text, line)) is wanted else None


def parser(kind: str) -> Test:
    read = json_fields if kind == "json" else logfmt_fields
    return lambda line, labels: {**read(line), **labels}


def json_fields(line: str) -> dict[str, str]:
    try:
        found: Any = json.loads(line)
    except ValueError:
        return {"__error__": "JSONParserErr"}
    return {k: str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def logfmt_fields(line: str) -> dict[str, str]:
    try:
        parts: Sequence[str] = shlex.split(line)
    except ValueError:
        return {"__error__": "LogfmtParserErr"}
    return dict(p.split("=", 1) for p in parts if re.match(r"[A-Za-z_][A-Za-z0-9_]*=", p))


def _number_test(text: str, op: str, wanted: float) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    tests = {"=": value == wanted, "==": value == wanted, "!=": value != wanted, ">": value > wanted}
    return tests.get(op, value >= wanted if op == ">=" else value < wanted if op == "<" else value <= wanted)


def _escaped(text: str) -> str:
    if text.startswith("x"):
        return chr(int(text[1:], 16))
    return {"n": "\n", "t": "\t"}.get(text, text)
