"""From a question in words to the tools that answer it: the playbook's rules.

Only the words of the person's request are read here, never what a tool or a log said. A rule needs a tool to be
offered; which arguments it may use is read from the tool's own schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from opswarm.models.chat import ToolCall, ToolSchema


class Intent(StrEnum):
    HEALTH = "health"
    LOGS = "logs"
    EVENTS = "events"
    USAGE = "usage"
    ROLLOUT = "rollout"
    LINEAGE = "lineage"
    GET = "get"
    LIST = "list"
    CHANGE = "change"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls that answer a request; or none, with `why_not` and what the playbook `offers` instead."""

    intent: Intent
    calls: tuple[ToolCall, ...] = ()
    offers: tuple[str, ...] = ()
    why_not: str = ""


KINDS: Mapping[str, str] = {
    "pod": "pods", "po": "pods", "deployment": "deployments", "deploy": "deployments", "statefulset": "statefulsets",
    "sts": "statefulsets", "daemonset": "daemonsets", "ds": "daemonsets", "replicaset": "replicasets",
    "job": "jobs", "cronjob": "cronjobs", "service": "services", "svc": "services", "ingress": "ingresses",
    "ingresse": "ingresses", "configmap": "configmaps", "secret": "secrets", "pvc": "persistentvolumeclaims",
    "volume": "persistentvolumeclaims", "persistentvolumeclaim": "persistentvolumeclaims",
    "pv": "persistentvolumes", "persistentvolume": "persistentvolumes", "node": "nodes",
    "namespace": "namespaces", "ns": "namespaces", "event": "events", "hpa": "horizontalpodautoscalers",
    "kustomization": "kustomizations", "helmrelease": "helmreleases", "gitrepository": "gitrepositories",
    "gitrepositorie": "gitrepositories", "networkpolicy": "networkpolicies", "networkpolicie": "networkpolicies",
    "serviceaccount": "serviceaccounts", "storageclass": "storageclasses", "storageclasse": "storageclasses",
    "certificate": "certificates", "crd": "customresourcedefinitions", "endpoint": "endpoints",
    "workload": "deployments", "app": "deployments", "container": "pods",
}  # fmt: skip
"""Words for kinds, singular, as people and kubectl write them."""

_HEALTH = re.compile(
    r"\b(broken|wrong|health|healthy|unhealthy|fail(?:s|ed|ing|ure|ures)?|crash\w*|diagnos\w+|problem\w*|issue|issues"
    r"|down|why|error|errors|stuck|pending|oom\w*|killed|restart(?:s|ing|ed)|not (?:ready|running|working|starting)"
    r"|unreachable|investigate|troubleshoot|unavailable|status|ok|okay|alright|degraded|imagepull\w*|notready|attention)\b",
    re.IGNORECASE,
)
_LOGS = re.compile(r"\b(logs?|stdout|output of)\b", re.IGNORECASE)
_EVENTS = re.compile(r"\b(events?|happened|what changed)\b", re.IGNORECASE)
_USAGE = re.compile(r"\b(cpu|memory|ram|usage|top|utili[sz]ation|consum\w+|resources used)\b", re.IGNORECASE)
_ROLLOUT = re.compile(r"\b(rollout|revision|revisions|roll ?out history|deployment history)\b", re.IGNORECASE)
_LINEAGE = re.compile(r"\b(owns|owned|owner|owners|lineage|belongs to|children of)\b", re.IGNORECASE)
_LIST = re.compile(r"\b(list|show|how many|count|which|what|all|get|are there|do i have|running)\b", re.IGNORECASE)
_GET = re.compile(r"\b(yaml|describe|details?|definition|spec|manifest|config of|configuration of)\b", re.IGNORECASE)
_CHANGE = re.compile(
    r"^\s*(?:please |can you |could you |would you )*"
    r"(delete|remove|restart|scale|apply|patch|edit|rollback|roll back|undo|drain|cordon|create|deploy|upgrade"
    r"|fix|merge|install|suspend|resume|kill|evict)\b",
    re.IGNORECASE,
)

_NAMESPACE = re.compile(
    r"\b(?:in|from|of)?\s*(?:the\s+)?(?:namespace|ns)[\s:=]+([a-z0-9][a-z0-9-]{0,62})\b"
    r"|\b(?:in|from|inside)\s+(?:the\s+|my\s+)?([a-z0-9][a-z0-9-]{0,62})(?:\s+namespace)?\b"
    r"|\s-n\s+([a-z0-9][a-z0-9-]{0,62})\b",
    re.IGNORECASE,
)
_SLASHED = re.compile(r"\b([a-z0-9][a-z0-9.-]*)/([a-z0-9][a-z0-9.-]*)\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]*")

_STOP_WORDS = """
a an and any about are all am as at after again also app application at be been being broken but by can cause
caused check cluster container containers could crash crashed crashes crashing crashloop crashloopbackoff
current currently degraded describe details diagnose did do does doing down each error errors event events
everything exact explain fail failed failing fails failure failures find fine for from get give going got had
happen happened happening has have health healthy help here history how i if in investigate is issue issues it
its keep keeps killed know kubernetes k8s last latest list log logs look looping loop me memory cpu usage my
need new next no not now of ok okay on oom oomkilled one or our out output overall owner owns pending please
problem problems ready reason recent resources restart restarted restarting restarts rollout run running see
should show since so some something start starting state status stuck summary system tell than that the their
them there these they thing things this those tail to today top troubleshoot unhealthy unavailable unreachable
up us use used using was we well were what whats when where which who why will with without work working would
wrong yaml yesterday you your many count minutes minute hour hours day days lines line previous s t re ve isn
don doesn won can't cannot home lab attention needs need most least much more less than biggest largest
highest lowest top per amount still yet ever really actually anyway suddenly often lately
"""
_STOP = frozenset(_STOP_WORDS.split())


def names_in(question: str) -> tuple[str, ...]:
    """Words of a request that may name an object: not a common word, not a kind, lower-cased, in order."""
    found: list[str] = []
    for word in _WORD.findall(question):
        name = word.strip(".-").lower()
        if name and name not in _STOP and not kind_of(name) and not name.isdigit() and name not in found:
            found.append(name)
    return tuple(found)


def kind_of(word: str) -> str:
    """The plural resource name that a word stands for, or ""."""
    word = word.lower()
    return KINDS.get(word) or KINDS.get(word.removesuffix("s"), "")


def kind_in(question: str) -> str:
    """The first kind that a request names, or ""."""
    return next((kind for word in _WORD.findall(question) if (kind := kind_of(word))), "")


def namespace_in(question: str, names: Sequence[str]) -> str:
    """The namespace that a request names, or ""."""
    for match in _NAMESPACE.finditer(question):
        name = next(g for g in match.groups() if g).lower()
        if name not in _STOP and not kind_of(name) and name in names:
            return name
    return ""


def is_health(question: str) -> bool:
    """Whether a request asks what is wrong, or whether something is well."""
    return bool(_HEALTH.search(question)) and not _CHANGE.search(question)


def intent_of(question: str) -> Intent:
    """What kind of request this is, by its words alone."""
    if _CHANGE.search(question):
        return Intent.CHANGE
    if _LOGS.search(question):
        return Intent.LOGS
    if _EVENTS.search(question):
        return Intent.EVENTS
    if _LINEAGE.search(question):
        return Intent.LINEAGE
    if _ROLLOUT.search(question):
        return Intent.ROLLOUT
    if is_health(question):
        return Intent.HEALTH
    if _USAGE.search(question):
        return Intent.USAGE
    if _GET.search(question):
        return Intent.GET
    if kind_in(question) and _LIST.search(question):
        return Intent.LIST
    return Intent.OTHER


@dataclass(frozen=True, slots=True)
class _Asked:
    question: str
    names: tuple[str, ...]
    namespace: str
    kind: str

    @property
    def name(self) -> str:
        return next((n for n in self.names if n != self.namespace), "")


class _Offered:
    """The tools of a request, found by the end of their name, called with only what their schema knows."""

    def __init__(self, tools: Sequence[ToolSchema]) -> None:
        self._tools = tools
        self._count = 0

    def has(self, suffix: str) -> bool:
        return self._find(suffix) is not None

    def _find(self, suffix: str) -> ToolSchema | None:
        return next((t for t in self._tools if t.name == suffix or t.name.endswith(f"_{suffix}")), None)

    def call(self, suffix: str, **arguments: object) -> tuple[ToolCall, ...]:
        tool = self._find(suffix)
        if tool is None:
            return ()
        known = tool.parameters.get("properties") or {}
        kept = {k: v for k, v in arguments.items() if v not in ("", None) and k in known}
        required = tool.parameters.get("required") or ()
        if any(r not in kept for r in required):
            return ()
        self._count += 1
        return (ToolCall(f"playbook_{self._count}", tool.name, json.dumps(kept, sort_keys=True)),)


_Rule = Callable[[_Asked, _Offered], tuple[ToolCall, ...]]


def _health(asked: _Asked, offered: _Offered) -> tuple[ToolCall, ...]:
    return offered.call("diagnose", namespace=asked.namespace, name=asked.name)


def _logs(asked: _Asked, offered: _Offered) -> tuple[ToolCall, ...]:
    previous = bool(re.search(r"\b(previous|last crash|before)\b", asked.question, re.IGNORECASE))
    tail = re.search(r"\b(?:last|tail)\s+(\d{1,4})\b", asked.question, re.IGNORECASE)
    since = re.search(r"\blast\s+(\d{1,4})\s*(m|h|d)(?:in|our|ay)?", asked.question, re.IGNORECASE)
    return offered.call(
        "pods_log",
        pod=asked.name,
        name=asked.name,
        namespace=asked.namespace,
        previous=previous or None,
        tail=int(tail.group(1)) if tail and not since else None,
        since=f"{since.group(1)}{since.group(2).lower()}" if since else "",
    )


def _events(asked: _Asked, offered: _Offered) -> tuple[ToolCall, ...]:
    return offered.call("events_list", namespace=asked.namespace, name=asked.name)


def _usage(asked: _Asked, offered: _Offered) -> tuple[ToolCall, ...]:
    if asked.kind == "nodes":
        return offered.call("nodes_list")
    return offered.call("pods_top", namespace=asked.namespace, name=asked.name)


def _rollout(asked: _Asked, offered: _Offered) -> tuple[ToolCall, ...]:
    past = re.search(r"\b(history|revisions?|previous)\b", asked.question, re.IGNORECASE)
    return offered.call(
        "rollout_history" if past else "rollout_status",
        name=asked.name,
        namespace=asked.namespace,
        kind=asked.kind or "deployments",
    )


def _lineage(asked: _Asked, offered: _Offered) -> tuple[ToolCall, ...]:
    return offered.call("lineage", name=asked.name, namespace=asked.namespace, kind=asked.kind or "pods")


def _get(asked: _Asked, offered: _Offered) -> tuple[ToolCall, ...]:
    if not asked.name:
        return ()
    if not asked.kind or (not asked.namespace and asked.kind not in ("nodes", "namespaces")):
        return offered.call("find", keyword=asked.name)
    return offered.call("resources_get", kind=asked.kind, name=asked.name, namespace=asked.namespace, output="yaml")


def _list(asked: _Asked, offered: _Offered) -> tuple[ToolCall, ...]:
    own = {"pods": "pods_list", "nodes": "nodes_list", "namespaces": "namespaces_list", "events": "events_list"}
    if asked.name and not asked.namespace and offered.has("find"):
        return offered.call("find", keyword=asked.name)
    if asked.kind in own and offered.has(own[asked.kind]):
        return offered.call(own[asked.kind], namespace=asked.namespace)
    return offered.call("resources_list", kind=asked.kind, namespace=asked.namespace)


def _other(asked: _Asked, offered: _Offered) -> tuple[ToolCall, ...]:
    if asked.name and len(asked.names) <= 2:
        return offered.call("find", keyword=asked.name)
    return ()


_RULES: Mapping[Intent, _Rule] = {
    Intent.HEALTH: _health,
    Intent.LOGS: _logs,
    Intent.EVENTS: _events,
    Intent.USAGE: _usage,
    Intent.ROLLOUT: _rollout,
    Intent.LINEAGE: _lineage,
    Intent.GET: _get,
    Intent.LIST: _list,
    Intent.OTHER: _other,
}

_OFFERS: Sequence[tuple[str, str]] = (
    ("diagnose", '"what is broken?", "why is NAME failing?": ranked findings with evidence'),
    ("pods_log", '"show the logs of NAME in NAMESPACE"'),
    ("events_list", '"events in NAMESPACE"'),
    ("resources_list", '"list the deployments in NAMESPACE", and any other kind'),
    ("resources_get", '"yaml of deployment NAME in NAMESPACE"'),
    ("pods_top", '"which pods use most memory?"'),
    ("rollout_status", '"rollout status of NAME"'),
    ("find", '"find NAME"'),
)


def plan(question: str, tools: Sequence[ToolSchema], earlier: Sequence[str] = ()) -> Plan:
    """How a request is answered with these tools.

    `earlier` are the person's earlier requests, oldest first: "and its logs?" means the name asked about before.
    """
    intent = intent_of(question)
    offered = _Offered(tools)
    offers = tuple(text for tool, text in _OFFERS if offered.has(tool))
    if intent is Intent.CHANGE:
        return Plan(intent, (), offers, "I can't change anything")
    names = names_in(question)
    if not names and re.search(r"\b(it|its|that|this one|them)\b", question, re.IGNORECASE):
        names = next((n for text in reversed(earlier) if (n := names_in(text))), ())
    asked = _Asked(question, names, namespace_in(question, names), kind_in(question))
    calls = _RULES[intent](asked, offered)
    why = "" if calls else _missing(intent, asked)
    return Plan(intent, calls, offers, why)


def _missing(intent: Intent, asked: _Asked) -> str:
    if intent in (Intent.LOGS, Intent.ROLLOUT, Intent.LINEAGE, Intent.GET) and not asked.name:
        return "I need the name of what you mean"
    return ""
