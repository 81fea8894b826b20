"""What a policy can say, typed. `opswarm.guard.policy_file` reads one; `opswarm.guard.decision` goes by it.

Everything has a default, so that no policy at all is a policy: agents may read, and ask for anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationInfo,
    model_validator,
)

from opswarm.errors import OpswarmError
from opswarm.guard.limits import BRANCH_PREFIXES, DEFAULT_ROOTS, MOST_ACTIONS_AN_HOUR, Limits
from opswarm.guard.paths import check_root
from opswarm.guard.principal import Role
from opswarm.guard.risk import Level, Risk
from opswarm.guard.targets import Named
from opswarm.settings import TimeZone

ON_DISK = {"on_disk": True}
"""The validation context of what was read from the policy's file; only there may a root be named that is not below
the default ones."""

_TOOL = r"[a-z][a-z0-9_]{0,63}"
_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00")

K = TypeVar("K")
V = TypeVar("V")

Agent = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
Tool = Annotated[str, Field(pattern=f"^{_TOOL}$")]
Tools = Annotated[str, Field(pattern=rf"^(?:{_TOOL}\*?|\*)$")]
"""A tool's name, or the beginning of one with `*` behind it."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$")]
Namespace = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")]
Fixed = Annotated[Mapping[K, V], AfterValidator(MappingProxyType)]


def _nothing() -> MappingProxyType[Any, Any]:
    return MappingProxyType({})


def matches(tool: str, pattern: str) -> bool:
    return tool.startswith(pattern[:-1]) if pattern.endswith("*") else tool == pattern


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class Autonomy(Part):
    default: Literal[Level.OBSERVE, Level.SUGGEST, Level.SAFE] = Field(
        Level.SUGGEST, description="Of agents and services that are not named."
    )
    people: Literal[Level.OBSERVE, Level.SUGGEST, Level.SAFE] = Field(
        Level.SAFE, description="Of a person with the role operator or admin who acts directly."
    )
    agents: Fixed[Agent, Level] = Field(default_factory=_nothing, description="By agent.")
    full_tools: tuple[Tool, ...] = Field((), description="Tools that an agent of level `full` runs though risky.")


class ProtectedObject(Part):
    kind: str = Field(pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")
    namespace: Namespace | Literal[""] = Field("", description="Empty for a kind that is in none, such as Node.")
    name: Name


class Protected(Part):
    namespaces: tuple[Namespace, ...] = Field((), description="In addition to the hard ones.")
    objects: tuple[ProtectedObject, ...] = Field((), description="Single objects; a Flux root and its source.")


def _root(root: str, info: ValidationInfo) -> str:
    try:
        check_root(root)
    except OpswarmError as error:
        raise ValueError(str(error)) from None
    if info.context != ON_DISK and not any(root.startswith(d) for d in DEFAULT_ROOTS):
        raise ValueError(f"{root} is not below {DEFAULT_ROOTS[0]}; only the policy's file can name it")
    return root


Root = Annotated[str, AfterValidator(_root)]
Branch = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$")]


class Git(Part):
    roots: tuple[Root, ...] = Field(DEFAULT_ROOTS, description="Folders below which files may be changed.")
    prefixes: tuple[Literal["fix/", "feat/", "agent/"], ...] = Field(
        ("fix/", "feat/", "agent/"), description="Branches that may be written to; some may be left out."
    )
    protected_branches: tuple[Branch, ...] = Field((), description="More of them; `release/` is all below.")


class Scale(Part):
    min: StrictInt = Field(0, ge=0, le=1000, description="Fewest replicas.")
    max: StrictInt = Field(10, ge=0, le=1000, description="Most replicas.")
    factor: float = Field(3.0, ge=1, le=100, strict=True, description="How many times more, or less, at once.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self


class Rate(Part):
    hour: StrictInt | None = Field(None, ge=0, description="Most in any 3,600 seconds. Unset: no limit of its own.")
    day: StrictInt | None = Field(None, ge=0, description="Most in any 86,400 seconds. Unset: no limit of its own.")


class TotalRate(Rate):
    hour: StrictInt = Field(20, ge=0, le=MOST_ACTIONS_AN_HOUR, description="Of everybody together.")
    day: StrictInt = Field(100, ge=0, le=24 * MOST_ACTIONS_AN_HOUR)


class Rates(Part):
    total: TotalRate = TotalRate()
    agent: Rate = Field(Rate(), description="Of each agent or person by itself.")
    agents: Fixed[Agent, Rate] = Field(default_factory=_nothing, description="Of single agents instead.")
    tools: Fixed[Tool, Rate] = Field(default_factory=_nothing, description="Of single tools.")


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Clock = Annotated[str, Field(pattern=f"^(?:{_CLOCK.pattern})$")]


class QuietHours(Part):
    days: tuple[Day, ...] = Field(DAYS, min_length=1, description="On which they begin.")
    begin: Clock = Field(alias="from", description="Time of day, such as 22:00.")
    end: Clock = Field(alias="to", description="Time of day; an earlier one than `from` is the next day's.")
    time_zone: TimeZone = "UTC"
    refuse: tuple[Literal[Risk.SAFE, Risk.RISKY], ...] = Field((Risk.SAFE, Risk.RISKY), min_length=1)
    people: StrictBool = Field(False, description="Whether they hold for a person who acts directly too.")

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.begin == self.end or self.begin == "24:00":
            raise ValueError("from and to leave no time; a whole day is 00:00 to 24:00")
        return self


class Access(Part):
    allow: tuple[Tools, ...] | None = Field(None, description="Only these. Unset: all.")
    deny: tuple[Tools, ...] = Field((), description="Not these, whatever `allow` says.")

    def permits(self, tool: str) -> bool:
        if any(matches(tool, p) for p in self.deny):
            return False
        return self.allow is None or any(matches(tool, p) for p in self.allow)


class Accesses(Part):
    agents: Fixed[Agent, Access] = Field(default_factory=_nothing, description="By agent.")
    roles: Fixed[Role, Access] = Field(default_factory=_nothing, description="By a person's role.")


class Policy(Part):
    """One policy. Immutable; a changed file makes another."""

    version: Literal[1] = Field(1, description="Of the form of this file.")
    autonomy: Autonomy = Field(default_factory=Autonomy)
    risk: Fixed[Tools, Literal[Risk.SAFE, Risk.RISKY, Risk.FORBIDDEN]] = Field(
        default_factory=_nothing, description="At least this risk, by tool; a higher one that the tool declares stays."
    )
    lowered: tuple[Tool, ...] = Field((), description="Tools whose risky calls count as safe; each by its whole name.")
    protected: Protected = Protected()
    git: Git = Git()
    scale: Scale = Scale()
    rates: Rates = Field(default_factory=Rates)
    quiet_hours: tuple[QuietHours, ...] = ()
    access: Accesses = Field(default_factory=Accesses)

    @model_validator(mode="after")
    def _of_one_mind(self) -> Self:
        for tool in self.lowered:
            raised = [p for p, risk in self.risk.items() if matches(tool, p) and risk is not Risk.SAFE]
            if raised:
                raise ValueError(f"lowered names {tool}, whose risk is raised by {raised[0]}")
        return self

    @cached_property
    def limits(self) -> Limits:
        """The hard limits with what this policy adds to them."""
        return Limits(
            roots=self.git.roots,
            prefixes=tuple(p for p in BRANCH_PREFIXES if p in self.git.prefixes),
            branches=frozenset(self.git.protected_branches),
            namespaces=frozenset(self.protected.namespaces),
            objects=frozenset(Named(o.kind, o.namespace, o.name) for o in self.protected.objects),
            fewest_replicas=self.scale.min,
            most_replicas=self.scale.max,
            factor=self.scale.factor,
        )

    def tools_named(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Every tool that this names, or the beginning of one, and where."""
        found: list[tuple[tuple[str | int, ...], str]] = []
        found += [(("autonomy", "full_tools", i), t) for i, t in enumerate(self.autonomy.full_tools)]
        found += [(("risk", t), t) for t in self.risk]
        found += [(("lowered", i), t) for i, t in enumerate(self.lowered)]
        found += [(("rates", "tools", t), t) for t in self.rates.tools]
        for group, entries in (("agents", self.access.agents), ("roles", self.access.roles)):
            for who, access in entries.items():
                found += [(("access", group, who, "allow", i), t) for i, t in enumerate(access.allow or ())]
                found += [(("access", group, who, "deny", i), t) for i, t in enumerate(access.deny)]
        return found


DEFAULT = Policy()
"""What counts where there is no file."""
