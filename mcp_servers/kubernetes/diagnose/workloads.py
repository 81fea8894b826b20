"""Deployments, StatefulSets, DaemonSets and ReplicaSets that are short of pods."""

from __future__ import annotations

import re
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, ObjectRef
from mcp_servers.kubernetes.diagnose.events import Event
from mcp_servers.kubernetes.diagnose.fields import Obj, condition, mapping, name_of, number, text
from mcp_servers.kubernetes.diagnose.impact import impact, ready, wanted
from mcp_servers.kubernetes.diagnose.podstate import GRACE, age, down_node, is_ready, live, lived, since
from mcp_servers.kubernetes.diagnose.probes import is_starting
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, controller_of, ref_of

_FRESH = 3600.0
_REFUSALS = (
    (
        r"exceeded quota",
        "QuotaExceeded",
        "the namespace's ResourceQuota does not allow another pod",
        "Lower what the pod requests, raise the ResourceQuota, or free what others use in the namespace.",
    ),
    (
        r"failed quota: .*must specify",
        "QuotaNeedsLimits",
        "the namespace's ResourceQuota wants requests or limits that the pod does not set",
        "Set the requests and limits that the message names.",
    ),
    (
        r"violates PodSecurity",
        "PodSecurityViolation",
        "the namespace's Pod Security level forbids the pod",
        "Change the security context as the message says, or the namespace's pod-security label.",
    ),
    (
        r"error looking up service ?account|serviceaccounts? \"[^\"]+\" not found",
        "ServiceAccountMissing",
        "its service account does not exist",
        "Create the service account, or correct serviceAccountName.",
    ),
    (
        r"admission webhook .* denied|denied the request|ValidatingAdmissionPolicy",
        "AdmissionDenied",
        "an admission policy refuses the pod",
        "Change the pod as the policy's message says.",
    ),
    (
        r"failed calling webhook",
        "AdmissionWebhookDown",
        "an admission webhook does not answer",
        "Bring the webhook's service back; the message names it.",
    ),
    (r"no PriorityClass with name", "PriorityClassMissing", "its PriorityClass does not exist", "Create it."),
    (
        r"(maximum|minimum) (cpu|memory|ephemeral-storage) usage per|LimitRange",
        "LimitRangeViolation",
        "the namespace's LimitRange forbids the pod",
        "Set requests and limits within the LimitRange.",
    ),
    (
        r"is invalid:|Unsupported value|Invalid value",
        "PodInvalid",
        "its pod template is not valid",
        "Correct the field that the message names.",
    ),
    (r"is forbidden", "PodForbidden", "the API server refuses its pods", "Change what the message names."),
)


def refused_pods(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Controllers whose pods the API server does not accept."""
    found: list[Finding] = []
    for owner in snapshot.kind("ReplicaSet", "StatefulSet", "DaemonSet", "Job", "Deployment"):
        told = _refusal(snapshot, owner, now)
        if told is not None:
            found.append(_refused(snapshot, owner, *told))
    return found


def _refusal(snapshot: Snapshot, owner: Obj, now: datetime) -> tuple[str, Evidence] | None:
    """The message that says why no pod is made. Only of an owner that still lacks pods."""
    if text(owner, "kind") == "Job":
        short = not text(owner, "status", "completionTime") and not number(owner, "status", "active")
        short = short and not any(
            text(condition(owner, kind), "status") == "True" for kind in ("Failed", "Complete")
        )
    elif text(owner, "kind") == "DaemonSet":
        short = number(owner, "status", "currentNumberScheduled") < wanted(owner) or ready(owner) < wanted(
            owner
        )
    else:
        current = number(owner, "status", "replicas")
        short = wanted(owner) > 0 and (current < wanted(owner) or ready(owner) < wanted(owner))
    failure = condition(owner, "ReplicaFailure")
    if text(owner, "kind") == "ReplicaSet" and not wanted(owner):
        return None
    if text(failure, "status") == "True" and text(failure, "reason") == "FailedCreate":
        return text(failure, "message"), _said(owner, failure)
    fresh = snapshot.recent(owner, now, _FRESH, "FailedCreate")
    if not short or not fresh or _created_since(snapshot, owner, fresh[0]):
        return None
    return fresh[0].message, fresh[0].evidence(now)


def _said(owner: Obj, failure: Obj) -> Evidence:
    kind, reason = text(owner, "kind"), text(failure, "reason")
    return Evidence(
        f"{kind} {name_of(owner)} condition ReplicaFailure", f"{reason}: {text(failure, 'message')}"
    )


def _created_since(snapshot: Snapshot, owner: Obj, failed: Event) -> bool:
    """Whether a pod was made after the refusal, so that it is over."""
    return any(event.last > failed.last for event in snapshot.events(owner, "SuccessfulCreate"))


def _refused(snapshot: Snapshot, owner: Obj, message: str, evidence: Evidence) -> Finding:
    root = snapshot.root(owner)
    severity, why = impact(snapshot, root)
    for pattern, cause, phrase, step in _REFUSALS:
        if re.search(pattern, message, re.IGNORECASE):
            title = f"its pods can't be created: {phrase}"
            return Finding(root, severity, why, cause, title, (evidence,), step, subject=ref_of(owner))
    title, step = "its pods can't be created", "Correct what the controller's message names."
    return Finding(root, severity, why, "FailedCreate", title, (evidence,), step, subject=ref_of(owner))


def short_of_replicas(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Workloads with fewer ready pods than they should have, once a rollout had its time."""
    found: list[Finding] = []
    for workload in snapshot.kind("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        if text(workload, "kind") == "ReplicaSet" and controller_of(workload):
            continue
        exceeded = _deadline_exceeded(workload)
        if exceeded is not None or _short(snapshot, workload, now):
            found.append(_short_finding(snapshot, workload, exceeded))
    return found


def _deadline_exceeded(workload: Obj) -> Evidence | None:
    progressing = condition(workload, "Progressing")
    if text(progressing, "reason") != "ProgressDeadlineExceeded" or not wanted(workload):
        return None
    told = f"ProgressDeadlineExceeded: {text(progressing, 'message')}"
    return Evidence(f"{text(workload, 'kind')} {name_of(workload)} condition Progressing", told)


def _short(snapshot: Snapshot, workload: Obj, now: datetime) -> bool:
    want = wanted(workload)
    status = mapping(workload, "status")
    observed = number(status, "observedGeneration", default=1)
    unavailable = since(text(condition(workload, "Available"), "lastTransitionTime"), now)
    if not want or ready(workload) >= want or _young(snapshot, workload, now):
        return False
    if not status or observed < number(workload, "metadata", "generation", default=observed):
        return False
    progressing = condition(workload, "Progressing")
    deadline = number(workload, "spec", "progressDeadlineSeconds", default=600)
    moved = since(text(progressing, "lastUpdateTime"), now)
    rolling = text(progressing, "reason") in (
        "ReplicaSetUpdated",
        "NewReplicaSetCreated",
        "FoundNewReplicaSet",
    )
    if rolling and text(progressing, "status") == "True" and moved is not None and moved < deadline:
        return False
    unready = [pod for pod in live(snapshot.pods_of(ref_of(workload))) if not is_ready(pod)]
    if unready:
        return not any(is_starting(pod, now) for pod in unready)
    available = text(condition(workload, "Available"), "status") == "True"
    return unavailable is None or unavailable > GRACE or available


def _young(snapshot: Snapshot, workload: Obj, now: datetime) -> bool:
    """Whether neither it, nor its events, nor its pods are older than the grace."""
    pods = snapshot.pods_of(ref_of(workload))
    return lived(snapshot, workload, now) < GRACE and all(age(pod, now) < GRACE for pod in pods)


def _short_finding(snapshot: Snapshot, workload: Obj, exceeded: Evidence | None) -> Finding:
    ref, want, have = ref_of(workload), wanted(workload), ready(workload)
    severity, why = impact(snapshot, ref)
    evidence = [Evidence(f"{ref.kind} {ref.name} status", f"{have} of {want} replicas ready")]
    if exceeded is not None:
        evidence.insert(0, exceeded)
    available = condition(workload, "Available")
    if text(available, "status") == "False":
        told = f"{text(available, 'reason')}: {text(available, 'message')}"
        evidence.append(Evidence(f"{ref.kind} {ref.name} condition Available", told))
    return Finding(
        ref,
        severity,
        why,
        "ProgressDeadlineExceeded" if exceeded is not None else "ReplicasUnavailable",
        f"its rollout does not finish ({have} of {want} replicas ready)"
        if exceeded is not None
        else f"{have} of {want} replicas are ready",
        tuple(evidence),
        "Look at its newest pods and their events.",
        symptom=True,
        suspects=_down_nodes(snapshot, ref),
    )


def _down_nodes(snapshot: Snapshot, ref: ObjectRef) -> tuple[ObjectRef, ...]:
    """Nodes that are down under pods of the workload."""
    pods = [pod for pod in snapshot.pods_of(ref) if not is_ready(pod)]
    return tuple(
        dict.fromkeys(ref_of(node) for pod in pods if (node := down_node(snapshot, pod)) is not None)
    )
