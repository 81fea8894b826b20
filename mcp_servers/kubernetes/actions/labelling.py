"""Setting and removing one label or annotation of one object."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from mcp_servers.cluster.objects import Found, Name, Objects, look, patch, probe
from mcp_servers.cluster.ownership import owner_of
from mcp_servers.cluster.resources import is_built_in
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import InvalidInput, PermissionDenied
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Verb
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.mcp.tools import ToolSpec

RESERVED = ("kubernetes.io", "k8s.io", "fluxcd.io", "argoproj.io", "helm.sh", "cattle.io", "opswarm.dev")
"""Domains whose keys steer the cluster itself, what applies its objects from Git, Helm or a node, or us. Their
subdomains too."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_LONGEST = 4_096

_LABELS_STEER = frozenset({"Node", "Pod", "ReplicaSet", "ControllerRevision"})
"""Kinds whose labels others select by: a Service loses a pod, a pod its node, a workload its pods or its history."""
_ANNOTATIONS_STEER = frozenset({"Node", "Pod", "Service", "Ingress"})
"""Kinds whose annotations set up what traffic goes through."""

Kind = Annotated[str, Field(description="Kind, such as Deployment.", max_length=253)]
Key = Annotated[str, Field(description="Such as team or example.com/team.", max_length=317)]
Value = Annotated[str, Field(description="The value.")]
Remove = Annotated[bool, Field(description="Remove the key instead.")]
Where = Annotated[str, Field(description="The one namespace; empty for a Node.", max_length=63)]


class Labelling:
    """Labels and annotations of objects of one cluster."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._cluster = objects.cluster

    def specs(self) -> list[ToolSpec]:
        action = Action(self._perform, self._probe, self._verify, verify_seconds=30)
        return [
            ToolSpec(self.label, read_only=False, risk=Risk.SAFE, action=action),
            ToolSpec(self.annotate, read_only=False, risk=Risk.SAFE, action=action),
        ]

    async def label(
        self, kind: Kind, name: Name, key: Key, namespace: Where = "", value: Value = "", remove: Remove = False
    ) -> Plan:
        """Set or remove one label of one object."""
        _check_key(key)
        if not _VALUE.fullmatch(value):
            raise InvalidInput(f"{_quoted(value)} is not a label's value: 63 letters, digits, dots, dashes at most.")
        found = await self._objects.find(Verb.LABEL, kind, name, namespace)
        risk = Risk.RISKY if found.resource.kind in _LABELS_STEER else Risk.SAFE
        return await self._plan(found, Verb.LABEL, risk, key, None if remove else value)

    async def annotate(
        self, kind: Kind, name: Name, key: Key, namespace: Where = "", value: Value = "", remove: Remove = False
    ) -> Plan:
        """Set or remove one annotation of one object."""
        _check_key(key)
        if len(value.encode(errors="replace")) > _LONGEST:
            raise InvalidInput(f"The annotation's value is longer than {_LONGEST} bytes.")
        if clean(value) != value:
            raise InvalidInput("The annotation's value has invisible or control characters in it.")
        found = await self._objects.find(Verb.ANNOTATE, kind, name, namespace)
        risk = Risk.RISKY if found.resource.kind in _ANNOTATIONS_STEER else Risk.SAFE
        return await self._plan(found, Verb.ANNOTATE, risk, key, None if remove else value)

    async def _plan(self, found: Found, verb: Verb, risk: Risk, key: str, value: str | None) -> Plan:
        field = "labels" if verb is Verb.LABEL else "annotations"
        word = field.removesuffix("s")
        custom = not is_built_in(found.resource)
        before = (found.labels if verb is Verb.LABEL else found.annotations).get(key)
        if before == value:
            now = f"has no {word} {key}" if value is None else f"has the {word} {key}={_quoted(value)} already"
            raise InvalidInput(f"{found} {now}.")
        await self._objects.require(found, "patch")
        did = f"Remove the {word} {key} from" if value is None else f"Set the {word} {key} of"
        lines = [f"Before: {'not set' if before is None else _quoted(before)}"]
        # Whole: nobody approves what was cut off.
        lines += [] if value is None else [f"After: {value!r}"]
        if custom:
            lines.append(f"A {found.resource.kind} is a custom kind: its controller may act on it.")
        if owner := owner_of(found):
            lines.append(owner.puts_back(f"the {word}"))
        state = found.state(field=field, key=key, value=value)
        risk = Risk.RISKY if custom else risk
        return Plan(f"{did} {found}.", (found.target(verb),), risk, "\n".join(lines), state)

    async def _perform(self, intent: Intent) -> Done:
        field, key, value = (str(intent.state["field"]), str(intent.state["key"]), intent.state["value"])
        await patch(self._cluster, intent, {"metadata": {field: {key: value}}})
        did = "is removed from" if value is None else "is set on"
        return Done(f"The {field.removesuffix('s')} {key} {did} {intent.state['object']}.", {key: value})

    async def _probe(self, intent: Intent) -> Happened:
        return await probe(self._cluster, intent)

    async def _verify(self, intent: Intent) -> Verification:
        obj = await look(self._cluster, intent)
        if obj is None:
            return Verification(False, f"{intent.state['object']} is gone.")
        key, wanted = str(intent.state["key"]), intent.state["value"]
        now = (obj["metadata"].get(intent.state["field"]) or {}).get(key)
        text = f"{intent.state['object']} has {key}={_quoted(now)}." if now is not None else f"{key} is not set."
        return Verification(now == wanted, text)


def is_reserved(key: str) -> bool:
    """Whether a label's or annotation's key belongs to one of the reserved domains."""
    domain = key.rpartition("/")[0].casefold()
    return any(domain == one or domain.endswith(f".{one}") for one in RESERVED)


def _check_key(key: str) -> None:
    domain, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and not _DOMAIN.fullmatch(domain)):
        raise InvalidInput(f"{_quoted(key)} is not the key of a label or annotation.")
    if is_reserved(key):
        raise PermissionDenied(f"The key {key} steers the cluster itself or its controllers, and is not set here.")


def _quoted(value: str) -> str:
    return f"'{cap_bytes(' '.join(clean(value).split()), 120)}'"
