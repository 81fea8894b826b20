"""`opswarm policy`: whether a policy can be used, and what it makes of a call."""

from __future__ import annotations

import difflib
import inspect
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opswarm.cli.arguments import arguments as typed
from opswarm.errors import InvalidInput, PolicyInvalid
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.settings import load

if TYPE_CHECKING:  # Imported where used: other commands need none of it.
    from opswarm.guard.decision import Call
    from opswarm.guard.policy import Policy
    from opswarm.guard.policy_file import PolicyFile
    from opswarm.mcp.tools import ToolSpec

policy_app = typer.Typer(no_args_is_help=True, help="What tool servers let through, and why.")

USAGE = 2


@policy_app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="The policy; without it, the one of this installation.")] = None,
) -> None:
    """Say whether a policy can be used, or each thing that is wrong with it and where."""
    from opswarm.cli import registry
    from opswarm.guard.policy_file import policy_path, read_policy

    settings = load()
    path = file or policy_path(settings)
    if file is None and settings.policy_file is None and not path.exists():
        typer.echo(f"ok  there is no {path}: the defaults count")
        return
    try:
        found = read_policy(path)
    except PolicyInvalid as error:
        for fault in error.faults:
            typer.echo(fault, err=True)
        raise typer.Exit(USAGE) from None
    typer.echo(f"ok  {path}")
    for line in _summary(found.policy):
        typer.echo(f"    {line}")
    for warning in found.unknown_tools(registry.declared_tools()):
        typer.echo(f"warning: {warning} (of the tool servers installed here)", err=True)


@policy_app.command()
def explain(
    tool: Annotated[str, typer.Argument(help="The tool's name.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="Its arguments.")] = None,
    agent: Annotated[
        list[str] | None, typer.Option(help="Acting agent; again for the one that it acts for. Without: a person.")
    ] = None,
    role: Annotated[
        Role | None, typer.Option(help="Role of the person who asks: operator, or no person with --agent.")
    ] = None,
    at: Annotated[str, typer.Option(help="When, such as 2026-01-31T23:00+01:00; now without it.")] = "",
) -> None:
    """Say what would become of a call, by which rule and why, and what would change it."""
    from opswarm.cli import registry
    from opswarm.guard.decision import assess, decide
    from opswarm.guard.risk import Outcome, Risk

    found = _in_force()
    policy = _policy(found)
    specs = registry.declared_tools()
    spec = specs.get(tool)
    known = dict.fromkeys(inspect.signature(spec.function).parameters, None) if spec else None
    given = typed(arguments or [], known)
    call, notes = _call(tool, given, spec)
    principal = _principal(agent or [], role)
    decision = decide(policy, call, principal, _seconds(at))
    assessed = assess(policy, call)
    where = found.where(decision.rule) if found else ""
    typer.echo(f"{decision.outcome.replace('_', ' ')}: {decision.reason}")
    typer.echo(f"  caller  {principal}{''.join(f' ({held})' for held in sorted(principal.roles))}")
    typer.echo(f"  risk    {assessed.risk}, by {', '.join(assessed.because)}")
    typer.echo(f"  rule    {decision.rule}{f' ({where})' if where else ''}")
    typer.echo(f"  policy  {found.path if found else 'the defaults'}")
    if decision.outcome is not Outcome.DENY and assessed.risk is not Risk.READ:
        notes.append("How many actions there were lately is counted on top, when it is executed.")
    if call.declared is None and (close := difflib.get_close_matches(tool, specs, n=1)):
        notes.append(f"Did you mean '{close[0]}'?")
    if decision.hint:
        typer.echo(f"  change  {decision.hint}")
    for note in notes:
        typer.echo(f"  note    {note}")


def _in_force() -> PolicyFile | None:
    """The policy of this installation; None where the defaults count."""
    from opswarm.guard.policy_file import policy_path, read_policy

    settings = load()
    path = policy_path(settings)
    return read_policy(path) if settings.policy_file is not None or path.exists() else None


def _policy(found: PolicyFile | None) -> Policy:
    from opswarm.guard.policy import DEFAULT

    return found.policy if found else DEFAULT


def _call(tool: str, given: dict[str, Any], spec: ToolSpec | None) -> tuple[Call, list[str]]:
    """The call as far as it can be known without its tool server, and what can't be."""
    from opswarm.guard.decision import Call
    from opswarm.guard.targets import Target

    if spec is None:
        return Call(tool, given, None), []
    try:
        declared = spec.declared(given)
        touches = tuple(spec.touches(given)) if spec.touches else ()
    except KeyError as error:
        raise InvalidInput(f"The decision depends on the argument {error.args[0]}; give it too.") from None
    notes = []
    for index, touch in enumerate(touches):
        if isinstance(touch, Target) and touch.replicas is not None and touch.current is None:
            touches = (*touches[:index], replace(touch, current=touch.replicas), *touches[index + 1 :])
            notes.append("How many replicas there are is not known here, so scale.factor is not looked at.")
    if not spec.read_only and not touches:
        notes.append("Which objects this touches is not known here, so the hard limits are not looked at.")
    return Call(tool, given, declared, touches), notes


def _principal(agents: list[str], role: Role | None) -> Principal:
    chain = tuple(f"agent:{name}" for name in agents)
    if chain and role is None:
        return Principal(kind=Kind.AGENT, subject=chain[-1], actors=chain[:-1])
    return Principal(
        kind=Kind.PERSON, subject="person:local", roles=frozenset({role or Role.OPERATOR}), actors=chain
    )


def _seconds(at: str) -> float:
    if not at:
        return time.time()
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        raise InvalidInput(f"{at!a} is not a time.", hint="Such as 2026-01-31T23:00+01:00.") from None


def _summary(policy: Policy) -> list[str]:
    autonomy, limits, rates = policy.autonomy, policy.limits, policy.rates.total
    named = [f"{name} {level}" for name, level in autonomy.agents.items()]
    return [
        f"autonomy: {', '.join([*named, f'others {autonomy.default}', f'people {autonomy.people}'])}",
        f"tools: {len(policy.risk)} raised, {len(policy.lowered)} lowered, {len(autonomy.full_tools)} named for full",
        f"files: below {', '.join(limits.roots) or 'nothing'}, on {', '.join(limits.prefixes) or 'no branch'}",
        f"protected: {', '.join(sorted(limits.namespaces))}; {len(limits.objects)} objects;"
        f" branches {', '.join(sorted(limits.branches))}",
        f"scale: {limits.fewest_replicas} to {limits.most_replicas}, {limits.factor:g} times at once",
        f"rates: {rates.hour} an hour, {rates.day} a day; quiet hours: {len(policy.quiet_hours)}",
    ]
