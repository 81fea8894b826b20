"""What becomes of a call: run, ask a person, or refuse; by which rule, and why.

```python
decision = decide(policy, Call("rollout_restart", arguments, spec.declared(arguments), touches), principal, now)
```

Every rule that has something to say says it, and the one that lets the least through is the decision. It is pure: what
it depends on is given to it. How often one may act is told by `opswarm.guard.rates`, after this and on top of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from opswarm.errors import PermissionDenied
from opswarm.guard.limits import Touch
from opswarm.guard.policy import Policy, matches
from opswarm.guard.principal import Kind, Principal
from opswarm.guard.quiet import is_quiet
from opswarm.guard.risk import Level, Outcome, Risk, worst
from opswarm.guard.standing import highest_role, refused_access, standing
from opswarm.guard.targets import Target, Verb


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as its server is about to make it.

    `declared` is the risk that the tool itself sees in these arguments, None for a tool that the server does not have.
    `touches` are the objects and files that it lays hands on, as the server worked them out.
    """

    tool: str
    arguments: Mapping[str, Any]
    declared: Risk | None
    touches: tuple[Touch, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """`rule` names what decided, `reason` is a sentence for people, `hint` says what would change it, or is ""."""

    outcome: Outcome
    rule: str
    reason: str
    risk: Risk
    hint: str = ""

    def raise_for_denial(self) -> None:
        """Raises `PermissionDenied` with the reason and the rule, where the outcome is deny."""
        if self.outcome is Outcome.DENY:
            raise PermissionDenied(self.reason, hint=self.hint, rule=self.rule)


@dataclass(frozen=True, slots=True)
class Assessment:
    """The risk of a call, and each rule that made it so, in order."""

    risk: Risk
    because: tuple[str, ...] = field(default_factory=tuple)


_RUN, _ASK, _NO = Outcome.ALLOW, Outcome.NEEDS_APPROVAL, Outcome.DENY

_TABLE: Mapping[Level, tuple[Outcome, Outcome, Outcome, Outcome]] = MappingProxyType(
    {
        #               read  safe  risky forbidden
        Level.OBSERVE: (_RUN, _NO, _NO, _NO),
        Level.SUGGEST: (_RUN, _ASK, _ASK, _NO),
        Level.SAFE: (_RUN, _RUN, _ASK, _NO),
        Level.FULL: (_RUN, _RUN, _ASK, _NO),  # Risky: run where the policy names the tool.
    }
)


def by_table(level: Level, risk: Risk, *, named: bool) -> Outcome:
    """What happens at a level to a risk; `named` is whether the policy names the tool for `full`."""
    if level is Level.FULL and risk is Risk.RISKY and named:
        return Outcome.ALLOW
    return _TABLE[level][risk.rank]


def decide(policy: Policy, call: Call, principal: Principal | None, now: float) -> Decision:
    """What becomes of `call` by `principal` at `now` (seconds since the epoch)."""
    if call.declared is None:
        return _deny("tool.unknown", f"There is no tool {call.tool!a} here.", Risk.FORBIDDEN)
    risk = assess(policy, call).risk
    if principal is None:
        return _deny("principal.none", "Nobody is known to be calling.", risk, "Send a token.")
    said = [found for rule in _RULES for found in rule(policy, call, risk, principal, now)]
    return max(said, key=lambda d: d.outcome.rank)  # Of equals the first: the most basic reason.


def assess(policy: Policy, call: Call) -> Assessment:
    """The risk of a call: what its tool declares, lowered or raised by the policy.

    Only from risky to safe is anything lowered, and only for a tool that the policy names whole; a drain never is, nor
    what gets rights by being applied.
    """
    if call.declared is None:
        return Assessment(Risk.FORBIDDEN, ("tool.unknown",))
    risk, because = call.declared, ["tool.declared"]
    if risk is Risk.RISKY and call.tool in policy.lowered:
        risk = Risk.SAFE
        because.append("lowered")
    for pattern, raised in policy.risk.items():
        if matches(call.tool, pattern) and raised.rank > risk.rank:
            risk = raised
            because.append(f"risk.{pattern}")
    if any(isinstance(t, Target) and t.verb == Verb.DRAIN for t in call.touches) and risk.rank < Risk.RISKY.rank:
        risk = worst(risk, Risk.RISKY)
        because.append("limit.drain")
    if _is_privileged(call) and risk.rank < Risk.RISKY.rank:
        risk = worst(risk, Risk.RISKY)
        because.append("limit.privileged")
    return Assessment(risk, tuple(because))


def _is_privileged(call: Call) -> bool:
    """Whether it gives rights that nobody is to get without a person."""
    return any(isinstance(t, Target) and t.privileged for t in call.touches)


def _deny(rule: str, reason: str, risk: Risk, hint: str = "") -> Decision:
    return Decision(Outcome.DENY, rule, reason, risk, hint)


def _by_access(policy: Policy, call: Call, risk: Risk, principal: Principal, now: float) -> Iterator[Decision]:
    if (refused := refused_access(policy, principal, call.tool)) is not None:
        rule, who = refused
        yield _deny(rule, f"The policy does not let {who} call {call.tool}.", risk, f"Change {rule} in the policy.")


def _by_role(policy: Policy, call: Call, risk: Risk, principal: Principal, now: float) -> Iterator[Decision]:
    if principal.kind is Kind.PERSON and highest_role(principal) is None:
        hint = "Someone with the key can mint a token with a role: `opswarm token --role …`."
        yield _deny("role.none", f"{principal.subject} has no role.", risk, hint)


def _by_limits(policy: Policy, call: Call, risk: Risk, principal: Principal, now: float) -> Iterator[Decision]:
    for touch in call.touches:
        try:
            policy.limits.check(touch)
        except PermissionDenied as error:
            yield _deny(error.rule, error.message, risk, error.hint)


def _by_risk(policy: Policy, call: Call, risk: Risk, principal: Principal, now: float) -> Iterator[Decision]:
    if risk is Risk.FORBIDDEN:
        rule = assess(policy, call).because[-1]
        hint = f"Change {rule} in the policy." if rule != "tool.declared" else "Nothing lifts this."
        yield _deny(rule, f"{call.tool} with these arguments is forbidden.", risk, hint)


def _by_hour(policy: Policy, call: Call, risk: Risk, principal: Principal, now: float) -> Iterator[Decision]:
    for index, hours in enumerate(policy.quiet_hours):
        holds = hours.people or not principal.is_direct_person
        if holds and risk in hours.refuse and is_quiet(hours, now):
            yield _deny(
                f"quiet_hours.{index}",
                f"These are quiet hours ({hours.begin} to {hours.end} {hours.time_zone}): "
                f"nothing {risk} is done in them.",
                risk,
                "Wait until they end, or have a person do it directly." if not hours.people else "Wait until they end.",
            )


def _by_table(policy: Policy, call: Call, risk: Risk, principal: Principal, now: float) -> Iterator[Decision]:
    found = standing(policy, principal)
    named = call.tool in policy.autonomy.full_tools
    outcome = by_table(found.level, risk, named=named and not _is_privileged(call))
    if found.level is Level.FULL and risk is Risk.RISKY and outcome is Outcome.ALLOW:
        yield Decision(Outcome.ALLOW, "autonomy.full_tools", f"{call.tool} is named for agents of level full.", risk)
        return
    told = {_RUN: "is done", _ASK: "needs a person's approval", _NO: "is refused"}[outcome]
    reason = f"What is {risk} {told} at the level {found.level}: {found.why}."
    yield Decision(outcome, found.rule, reason, risk, _way_up(found.rule, found.level, risk, outcome, call.tool, named))


def _way_up(rule: str, level: Level, risk: Risk, outcome: Outcome, tool: str, named: bool) -> str:
    """What would have more let through."""
    if outcome is Outcome.ALLOW or risk is Risk.FORBIDDEN:
        return ""
    if rule == "role.viewer":
        return "The role operator would do."
    if rule == "autonomy.people":
        return "A person is always asked for what is risky." if level is Level.SAFE else f"Raise {rule} in the policy."
    if risk is Risk.SAFE:
        return f"Raise {rule} in the policy to safe."
    if level is Level.FULL and not named:
        return f"Name {tool} in autonomy.full_tools of the policy."
    if named:
        return "A person is always asked for what gets rights by it."
    ask = f"Raise {rule} in the policy to suggest to have people asked; " if outcome is Outcome.DENY else ""
    return f"{ask}At the level full it runs, if autonomy.full_tools names {tool}."


_RULES: tuple[Callable[[Policy, Call, Risk, Principal, float], Iterator[Decision]], ...] = (
    _by_access, _by_role, _by_limits, _by_risk, _by_hour, _by_table,
)  # fmt: skip
