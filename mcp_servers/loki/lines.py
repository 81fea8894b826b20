"""Log lines as a model reads them: by stream, with the level and the pattern of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mcp_servers.loki.api import Entry
from mcp_servers.observing.selectors import labels_text
from mcp_servers.observing.times import stamp
from opswarm.mcp.text import TEXT_LIMIT, one_line

LONGEST_LINE = 500
_ROOM = TEXT_LIMIT - 2_000
_MOST_SHOWN_LABELS = 8
_QUIET = frozenset({"detected_level"})
"""Differs from line to line, which tell it themselves, and makes no other stream for a reader."""

WORSE: Mapping[str, tuple[str, ...]] = {
    "fatal": ("fatal", "critical", "panic"),
    "error": ("error", "fatal", "critical", "panic"),
    "warn": ("warn", "warning", "error", "fatal", "critical", "panic"),
}
"""By level, the values of `detected_level` (and of labels named so) that are at least as bad."""

_WORDS: Mapping[str, str] = {
    "fatal": r"fatal|critical|crit|panic|emerg",
    "error": r"error|err|exception|fatal|critical|crit|panic|emerg|failed|traceback",
    "warn": r"warn|warning|error|err|exception|fatal|critical|crit|panic|emerg|failed|traceback",
}
_KLOG: Mapping[str, str] = {"fatal": "F", "error": "EF", "warn": "WEF"}

# Of each kind of thing that differs from line to line, what it is written as; in this order.
_MASKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b\d{4}[-/]\d{2}[-/]\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d+)?(?:Z|[+-]\d{2}:?\d{2})?"), "<time>"),
    (re.compile(r"\b[IWEF]\d{4} \d{2}:\d{2}:\d{2}\.\d+\s+\d+"), "<klog>"),
    (re.compile(r"\b\d{2}:\d{2}:\d{2}(?:[.,]\d+)?\b"), "<time>"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<uuid>"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?\b"), "<ip>"),
    (re.compile(r"\b(?:sha256:)?(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,64}\b"), "<hex>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<hex>"),
    (re.compile(r"(?<![A-Za-z0-9_.])[+-]?\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|%|[KMGT]i?B?|B)?(?![A-Za-z0-9_])"), "<n>"),
    (re.compile(r"(?<=[a-z])-[a-z0-9]{8,10}-[a-z0-9]{5}\b"), "-<pod>"),
    (re.compile(r"\d{2,}"), "<n>"),
)


def words(level: str) -> str:
    """A regular expression (RE2) for lines that say themselves that they are at least as bad as `level`."""
    return rf"(?i:\b(?:{_WORDS[level]})\b)|^[{_KLOG[level]}]\d{{4}} "


@dataclass
class Group:
    """Lines with one pattern."""

    pattern: str
    count: int = 0
    example: str = ""
    first: int = 0
    last: int = 0
    sources: Counter[str] = field(default_factory=Counter)


def pattern_of(line: str) -> str:
    """What a line has in common with others like it: times, ids, addresses and numbers are taken out."""
    text = one_line(line[:2_000])
    for mask, name in _MASKS:
        text = mask.sub(name, text)
    return text[:LONGEST_LINE]


def grouped(entries: Iterable[Entry], source: str) -> list[Group]:
    """Lines by their pattern, the most frequent first; `source` is the label that says where a line is from."""
    groups: dict[str, Group] = {}
    for entry in entries:
        key = pattern_of(entry.line)
        group = groups.setdefault(key, Group(key, first=entry.time))
        group.count += 1
        group.first, group.last = min(group.first, entry.time), max(group.last, entry.time)
        group.example = one_line(entry.line)[:LONGEST_LINE]
        if name := entry.labels.get(source):
            group.sources[name] += 1
    return sorted(groups.values(), key=lambda g: (-g.count, -g.last))


def common(entries: Sequence[Entry]) -> dict[str, str]:
    """The labels that all lines have alike."""
    if not entries:
        return {}
    shared = dict(entries[0].labels)
    for entry in entries[1:]:
        if entry.labels is not entries[0].labels:
            shared = {k: v for k, v in shared.items() if entry.labels.get(k) == v}
    return shared


def by_stream(entries: Sequence[Entry], *, keep_end: bool) -> tuple[list[str], int]:
    """The lines, the oldest first, under the labels of their stream, and how many of them fit.

    What all have alike is told once, in the first line. Where not all fit, the newest stay with `keep_end`.
    """
    shared = {k: v for k, v in common(entries).items() if k not in _QUIET}
    head = [f"all {_shown(shared)}"] if shared else []
    room, chosen = _ROOM - sum(len(h.encode()) for h in head), []
    for entry in reversed(entries) if keep_end else entries:
        room -= len(_line(entry).encode()) + 1
        if room < 0:
            break
        chosen.append(entry)
    if keep_end:
        chosen.reverse()
    lines, before = list(head), dict[str, str]()
    for entry in chosen:
        own = {k: v for k, v in entry.labels.items() if k not in shared and k not in _QUIET}
        if own != before:
            lines.append(f"-- {_shown(own)}")
            before = own
        lines.append(_line(entry))
    return lines, len(chosen)


def _line(entry: Entry) -> str:
    text = one_line(entry.line)
    cut = f"{text[:LONGEST_LINE]}… ({len(text)} characters)" if len(text) > LONGEST_LINE else text
    return f"{clock(entry.time)} {cut}"


def clock(nanoseconds: int) -> str:
    """`2026-01-31 12:00:00.123Z`."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{stamp(seconds)[:-1]}.{rest // 1_000_000:03d}Z"


def _shown(labels: Mapping[str, str]) -> str:
    kept = dict(sorted(labels.items())[:_MOST_SHOWN_LABELS])
    more = len(labels) - len(kept)
    return labels_text(kept) + (f" and {more} more labels" if more > 0 else "")
