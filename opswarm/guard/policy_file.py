"""Reading a policy from its file, with each fault told as `file:line: field: what is wrong`."""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from opswarm import marked_yaml
from opswarm.errors import OpswarmError, PolicyInvalid
from opswarm.guard.policy import ON_DISK, Policy
from opswarm.settings import Settings

_MOST_FAULTS = 50
_ENUM_REPR = re.compile(r"<\w+\.\w+: ('[^']*')>")
_CHOICE = re.compile(r"'([^']*)'")


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy, and where each of its parts stands."""

    path: Path
    policy: Policy
    marks: marked_yaml.Marked

    def where(self, rule: str) -> str:
        """`file:line` of what a rule's id names, or "" for one that is not in the file."""
        line = self.marks.exact([int(part) if part.isdecimal() else part for part in rule.split(".")])
        return f"{self.path}:{line}" if line else ""

    def unknown_tools(self, known: Iterable[str]) -> list[str]:
        """A line for each tool that the policy names and that is not among `known`."""
        names = sorted(known)
        found = []
        for path, tool in self.policy.tools_named():
            stem = tool.removesuffix("*")
            if tool in names or (tool.endswith("*") and any(n.startswith(stem) for n in names)):
                continue
            said = f"no tool is called {tool}.{_guess(tool, names)}"
            found.append(_fault(self.path, self.marks.line(path), path, said))
        return found


def policy_path(settings: Settings) -> Path:
    """Where the policy of this installation is, or would be."""
    return settings.policy_file or settings.home / "policy.yaml"


def read_policy(path: Path) -> PolicyFile:
    """The policy in a file. Raises `PolicyInvalid`, whose `faults` are all that is wrong with it."""
    try:
        # What is no file, such as a pipe, may never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise PolicyInvalid(f"The policy {path} is not a file.", faults=[f"{path}: this is not a file"])
        with path.open("rb") as file:
            raw = file.read(marked_yaml.MOST_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "can't be read").lower()
        raise PolicyInvalid(f"The policy {path} can't be read: {reason}.", faults=[f"{path}: {reason}"]) from error
    return parse(raw, path)


def parse(raw: bytes, path: Path) -> PolicyFile:
    """The policy in the bytes of the file `path`. Raises as above."""
    try:
        marks = marked_yaml.read(raw)
    except marked_yaml.Problem as problem:
        raise _invalid(path, [_fault(path, problem.line, (), problem.said)]) from None
    try:
        policy = Policy.model_validate(marks.value, context=ON_DISK)
        policy.limits  # noqa: B018 - made now, so that what it can't be made of is said now.
    except ValidationError as error:
        faults = sorted(((_line(marks, e["loc"]), e["loc"], _said(e)) for e in error.errors()), key=lambda f: f[0])
        raise _invalid(path, [_fault(path, *fault) for fault in faults[:_MOST_FAULTS]]) from None
    except OpswarmError as error:
        raise _invalid(path, [_fault(path, 0, (), str(error))]) from error
    return PolicyFile(path, policy, marks)


def _invalid(path: Path, faults: Sequence[str]) -> PolicyInvalid:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return PolicyInvalid(
        f"The policy can't be used: {faults[0]}{more}.", hint=f"`opswarm policy check {path}` says all.", faults=faults
    )


def _fault(path: Path, line: int, loc: Sequence[Any], said: str) -> str:
    where = f"{path}:{line}" if line else str(path)
    field = ".".join(_plain(str(part)) for part in loc if part != "[key]")
    return f"{where}: {f'{field}: ' if field else ''}{said.rstrip('.')}"


def _plain(text: str) -> str:
    """Text of the file's that may be shown on one line of a terminal."""
    return text if text.isascii() and text.isprintable() and len(text) <= 80 else ascii(text[:80])


def _line(marks: marked_yaml.Marked, loc: Sequence[Any]) -> int:
    return marks.line([part for part in loc if part != "[key]"])


def _said(error: Any) -> str:
    """What pydantic says of a value, in words of the file's."""
    loc, kind = error["loc"], error["type"]
    if kind == "extra_forbidden":
        fields = _fields(loc[:-1])
        return f"there is no such field.{_guess(str(loc[-1]), fields)} Fields here: {', '.join(fields)}"
    if kind == "missing":
        return "this is needed"
    if kind == "string_pattern_mismatch":
        return f"{_plain(str(error['input']))} is not a name or value of this form ({error['ctx']['pattern']})"
    if kind in ("model_type", "mapping_type", "dict_type"):
        return "here is a mapping of fields wanted"
    said = _ENUM_REPR.sub(r"\1", error["msg"]).removeprefix("Value error, ")
    said = said[:1].lower() + said[1:]
    choices = _CHOICE.findall(said) if kind in ("enum", "literal_error") else []
    return f"{said}.{_guess(str(error['input']), choices)}" if choices else said


def _guess(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _fields(loc: Sequence[Any]) -> list[str]:
    """The names of the fields at a place in the policy."""
    kind: Any = Policy
    for part in loc:
        kind = _unwrapped(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            named = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
            kind = named.get(str(part))
        else:  # A mapping's values, or a list's items.
            inner = get_args(kind)
            kind = inner[-1 if len(inner) > 1 and inner[-1] is not Ellipsis else 0] if inner else None
    kind = _unwrapped(kind)
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return []
    return [field.alias or name for name, field in kind.model_fields.items()]


def _unwrapped(kind: Any) -> Any:
    while hasattr(kind, "__metadata__") and get_origin(kind) is not None:
        kind = get_args(kind)[0]
    return kind
