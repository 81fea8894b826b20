"""One problem: which object, how bad, why, what shows it, and what to do next."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from opswarm.guard.untrusted import cap_bytes, clean

TEXT_LIMIT = 400
"""Bytes of one evidence line. The longest scheduler and quota messages that matter fit."""

_FENCE = re.compile(r"</?\s*untrusted\b[^>]*>?", re.IGNORECASE)


def one_line(text: str, limit: int = TEXT_LIMIT) -> str:
    """`text` cleaned, on one line, without anything that looks like the fence of untrusted text, within
    `limit` bytes. What is too long loses its middle: wrapped errors say the reason at their end."""
    line = " ".join(_FENCE.sub("", clean(cap_bytes(text, 65_536))).split())
    if len(line.encode()) <= limit:
        return line
    head = cap_bytes(line, limit // 2)
    tail = line.encode()[-(limit - limit // 2 - 5) :].decode(errors="ignore")
    return f"{head} … {tail}"


class Severity(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """An object by kind, namespace ("" when cluster-scoped) and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A quoted line: where it is from (`event BackOff 3m ago (x12)`) and what it says. Safe to show."""

    source: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", one_line(self.source, 120))
        object.__setattr__(self, "text", one_line(self.text))

    def __str__(self) -> str:
        return f"{self.source}: {self.text}"


@dataclass(frozen=True, slots=True)
class LogSource:
    """A container whose log may explain a finding. `previous`: the log of its last run that ended."""

    namespace: str
    pod: str
    container: str
    previous: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem, reported once. `cause` is a short machine reason such as "OOMKilled".

    `symptom` marks what only says that something else is broken ("2 of 3 replicas available"): correlation
    folds it into the finding that says why. `suspects` are objects whose findings would explain this one,
    `subject` is the pod or controller that was looked at, and `logs` the log that may tell more.
    """

    object: ObjectRef
    severity: Severity
    why: str
    cause: str
    title: str
    evidence: tuple[Evidence, ...]
    next_step: str
    affects: tuple[ObjectRef, ...] = ()
    count: int = 1
    managed_by: str = ""
    symptom: bool = False
    suspects: tuple[ObjectRef, ...] = ()
    subject: ObjectRef | None = None
    logs: LogSource | None = None

    def __post_init__(self) -> None:
        for name in ("why", "title", "next_step"):
            object.__setattr__(self, name, one_line(getattr(self, name), 600))
        object.__setattr__(self, "cause", one_line(self.cause, 80))
